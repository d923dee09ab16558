"""JID: RFC 6122, by tables and by generated texts."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.jid import JID, InvalidJID, prepare_domain, prepare_local, prepare_resource

TEXTS = st.text(max_size=40) | st.text(
    alphabet="ab.@/-xn\u00df\u0130\u212b\u3002\ufe52 \u00ad\u0660\u05d0", max_size=12
)


class Parsing(TestCase):
    def test_parts(self) -> None:
        jid = JID.parse("Juliet@Example.COM/Balcony room")
        self.assertEqual(
            (
                "juliet",
                "example.com",
                "Balcony room",
                "juliet@example.com/Balcony room",
                "juliet@example.com",
            ),
            (jid.local, jid.domain, jid.resource, jid.full, jid.bare),
        )

    def test_separators_inside_the_resource(self) -> None:
        self.assertEqual("a@b/c", JID.parse("example.com/a@b/c").resource)
        self.assertEqual(None, JID.parse("example.com/a@b/c").local)

    def test_prepared_texts_are_equal(self) -> None:
        for one, other in [
            ("example.com.", "example.com"),
            ("B\u00dcCHER.example", "b\u00fccher.example"),
            ("xn--bcher-kva.example", "b\u00fccher.example"),
            ("stra\u00dfe.example", "strasse.example"),
            ("a\u3002b", "a.b"),
            ("\u212b@example.com", "\u00e5@example.com"),
            ("\uff21@example.com", "a@example.com"),
        ]:
            self.assertEqual(JID.parse(one), JID.parse(other), one)
            self.assertEqual(hash(JID.parse(one)), hash(JID.parse(other)), one)

    def test_refused(self) -> None:
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "@",
            "@example.com",
            "a@",
            "a@/r",
            "/r",
            "a@b/",
            "a b@example.com",
            "a'b@example.com",
            'a"b@example.com',
            "a&b@example.com",
            "a:b@example.com",
            "a<b@example.com",
            "a@b@c",
            "-a.example",
            "a-.example",
            "a_b.example",
            "exa mple.com",
            "a@exa\x00mple",
            "a\x00@example.com",
            "a@example.com/\x07",
            "a@example.com/\u00ad",
            "\u00ad@example.com",
            "a@" + "x" * 64 + ".example",
            "x" * 1024 + "@example.com",
            "a@example.com/" + "x" * 1024,
            "a@example.com/" + "\u00e4" * 512,
            "xn--a\u00fc.example",
            "xn--0.example",
            "xn--\u00df",
            "a@[::1",
            "a@[1.2.3.4]",
            "a@[fe80::1%eth0]",
            "\ud800@example.com",
            "a@\ud800",
            "a@b/\ud800",
            "u@a..b",
            "x" * 5000,
            "\ufe52.example",
        ]:
            self.assertRaises(InvalidJID, JID.parse, text)

    def test_accepted(self) -> None:
        for text in [
            "a@127.0.0.1",
            "a@[::1]/r",
            "x" * 1023 + "@a",
            "a@" + "x" * 63,
            "a@b/" + "\u00e4" * 511,
            "\u0660@b",
            "a@b/\u2603",
        ]:
            self.assertEqual(text, JID.parse(text).full)

    def test_derived(self) -> None:
        jid = JID.parse("a@b/c")
        self.assertIs(jid.to_bare(), JID.parse("a@b/d").to_bare())
        self.assertEqual(jid.to_bare(), JID.parse("a@b"))
        self.assertEqual("b", jid.to_domain().full)
        self.assertEqual("a@b/d", jid.with_resource("d").full)
        self.assertTrue(jid.to_bare().is_bare)
        self.assertFalse(jid.is_bare)

    def test_the_same_text_is_parsed_once(self) -> None:
        self.assertIs(JID.parse("once@example.com/r"), JID.parse("once@example.com/r"))

    def test_a_long_text_is_not_kept(self) -> None:
        text = "a@b/" + "x" * 1000
        self.assertIsNot(JID.parse(text), JID.parse(text))
        self.assertEqual(JID.parse(text), JID.parse(text))


class AnyText(TestCase):
    @given(TEXTS)
    def test_parse_gives_a_stable_address_or_InvalidJID(self, text: str) -> None:
        try:
            jid = JID.parse(text)
        except InvalidJID:
            return
        again = JID.parse(jid.full)
        self.assertEqual((jid.local, jid.domain, jid.resource), (again.local, again.domain, again.resource))

    @given(TEXTS)
    def test_parts_are_stable(self, text: str) -> None:
        for prepare in (prepare_local, prepare_domain, prepare_resource):
            try:
                prepared = prepare(text)
            except InvalidJID:
                continue
            self.assertEqual(prepared, prepare(prepared))
