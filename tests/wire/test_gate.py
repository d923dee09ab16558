"""TagGate: nothing of a tag before all of it, everything else at once, each byte looked at once."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.wire.gate import TagGate
from tests.wire.recording import each_byte


def taken(*pieces: bytes) -> list[bytes]:
    gate = TagGate()
    return [gate.take(piece) for piece in pieces]


class Gate(TestCase):
    def test_whole_tags_pass(self) -> None:
        for data in (b"<a>", b"</a>", b"<a/>", b"<a b='>'/>", b"<a><b>c</b>", b"<a>text>", b"<a b=\"'>\">'>"):
            self.assertEqual([data], taken(data))

    def test_the_rest_waits(self) -> None:
        self.assertEqual([b"<a>", b"text<b>"], taken(b"<a>text", b"<b>"))
        self.assertEqual([b"", b"", b"<a>"], taken(b"<", b"a", b">"))
        self.assertEqual([b"", b"", b"<a b='>'>"], taken(b"<a b='>", b"", b"'>"))
        self.assertEqual([b"<a>", b"", b"<b c='>>'>"], taken(b"<a><b c='>", b">", b"'>"))
        self.assertEqual([b"", b"", b"<a b='>\">' c=\">'>\">"], taken(b"<a b='>\">", b"' c=\">'", b'>">'))

    def test_what_is_before_an_incomplete_tag_passes(self) -> None:
        self.assertEqual([b"<a>text", b"<b c='>'>"], taken(b"<a>text<b c='>", b"'>"))

    def test_markup_in_cdata_waits_for_the_next_tag_at_most(self) -> None:
        data = b"<a><![CDATA[<b c='>]]></a>"
        self.assertEqual(data, b"".join(taken(*each_byte(data))))
        self.assertEqual([b"<a><![CDATA[", b"<b c='>]]></a>"], taken(data[:20], data[20:]))

    def test_each_byte_is_looked_at_once(self) -> None:
        gate = TagGate()
        gate.take(b"<a b='")
        for _ in range(100):
            self.assertEqual(b"", gate.take(b">" * 10))
            self.assertEqual(len(gate.held), gate._scanned)
        for piece in (b"' c", b'= ">', b"'>"):
            self.assertEqual(b"", gate.take(piece))
        self.assertEqual(len(gate.held), gate._scanned)
        self.assertTrue(gate.take(b'">').endswith(b'= ">\'>">'))
        self.assertEqual(b"", gate.held)

    def test_skipped_white_space_moves_what_is_known(self) -> None:
        gate = TagGate()
        self.assertEqual(b"", gate.take(b"  <a b='"))
        gate.skip_white_space()
        self.assertEqual([b"", b"<a b='>>'>"], [gate.take(b">>"), gate.take(b"'>")])

    @settings(max_examples=500, deadline=None)
    @given(st.lists(st.text("<>'\"/! ab", max_size=6).map(str.encode), max_size=12))
    def test_nothing_is_lost_and_no_tag_is_cut(self, pieces: list[bytes]) -> None:
        gate = TagGate()
        passed = b""
        for piece in pieces:
            fed = gate.take(piece)
            passed += fed
            tag = fed[fed.rfind(b"<") :] if b"<" in fed else b""
            # After the next "<" it is no tag, or none that will ever be one.
            if tag and tag[1:2] not in (b"/", b"!") and b"<" not in gate.held:
                self.assertTrue(self.is_closed(tag), (piece, fed))
        self.assertEqual(b"".join(pieces), passed + gate.held)

    def is_closed(self, tag: bytes) -> bool:
        quote = 0
        for byte in tag:
            if quote:
                quote = 0 if byte == quote else quote
            elif byte in b"'\"":
                quote = byte
            elif byte == ord(">"):
                return True
        return False
