"""XEP-0359 Unique and Stable Stanza IDs: what is added, taken out and read."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.protocol.stanza_id import (
    NS_SID,
    STANZA_ID_KEY,
    origin_id,
    stanza_id,
    with_stanza_id,
    without_stanza_ids,
)
from dynxmpp.wire import escape
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import parse

JULIET = "juliet@capulet.example"


def message(inner: str, **attributes: str) -> Stanza:
    return parse(f"<message to='{JULIET}' id='1'>{inner}</message>")


def sid(by: str, id_: str = "forged") -> str:
    return f"<stanza-id xmlns='{NS_SID}' by='{by}' id='{id_}'/>"


class Adding(TestCase):
    def test_the_element(self) -> None:
        self.assertEqual(f"<stanza-id xmlns='{NS_SID}' by='a@b' id='X1'/>".encode(), stanza_id("a@b", "X1"))
        self.assertIn(b"id='&lt;&apos;&amp;'", stanza_id("a@b", "<'&"))

    def test_at_the_end(self) -> None:
        stanza = with_stanza_id(message("<body>hi</body>"), JULIET, "X1")
        self.assertEqual(("jabber:client body", STANZA_ID_KEY), stanza.child_keys)
        self.assertTrue(stanza.inner().endswith(stanza_id(JULIET, "X1")))


class TakingOut(TestCase):
    def test_nothing_to_take_out(self) -> None:
        for inner in ("<body>hi</body>", sid("other@capulet.example"), "<stanza-id by='juliet@capulet.example'/>", ""):
            with self.subTest(inner=inner):
                stanza = message(inner)
                self.assertIs(stanza, without_stanza_ids(stanza, JULIET))

    def test_all_that_claim_it(self) -> None:
        for by in (JULIET, "JULIET@Capulet.example", f"{JULIET.upper()}"):
            with self.subTest(by=by):
                stanza = message(f"<body>a</body>{sid(by)}<x xmlns='urn:example:x'>{sid(by, 'deep')}</x>{sid(by)}t")
                kept = without_stanza_ids(stanza, JULIET)
                self.assertEqual(("jabber:client body", "urn:example:x x"), kept.child_keys)
                self.assertNotIn(b"forged", kept.to_bytes())
                self.assertIn(b"deep", kept.to_bytes())
                self.assertTrue(kept.inner().endswith(b"t"))
                self.assertEqual(stanza.attributes, kept.attributes)

    def test_those_that_claim_something_else(self) -> None:
        others = [f"{JULIET}/balcony", "capulet.example", "", "@", "a@b@c", "x" * 3000]
        stanza = message("".join(sid(other, str(n)) for n, other in enumerate(others)) + sid(JULIET))
        kept = without_stanza_ids(stanza, JULIET)
        self.assertEqual([str(n) for n in range(len(others))], [e["id"] for e in kept.child_elements()])

    def test_one_that_says_nobody(self) -> None:
        stanza = message(f"<stanza-id xmlns='{NS_SID}' id='x'/>{sid(JULIET)}")
        self.assertEqual((STANZA_ID_KEY,), without_stanza_ids(stanza, JULIET).child_keys)

    def test_the_original_is_left_alone(self) -> None:
        stanza = message(sid(JULIET))
        before = stanza.to_bytes()
        without_stanza_ids(stanza, JULIET)
        self.assertEqual(before, stanza.to_bytes())


EURO = "\u20ac"
#: Content, and the origin-id in it.
ORIGIN_IDS: list[tuple[str, str | None]] = [
    ("<body>hi</body>", None),
    (f"<origin-id xmlns='{NS_SID}' id='o1'/>", "o1"),
    (f'<origin-id  id = "o1"\n xmlns="{NS_SID}" ></origin-id>', "o1"),
    (f"<origin-id xmlns='{NS_SID}' other=\" id='no' \" id='yes'/>", "yes"),
    (f"<origin-id xmlns='{NS_SID}' xml:id='no' id='yes'/>", "yes"),
    (f"<origin-id xmlns='{NS_SID}' xml:id='no'/>", None),
    (f"<origin-id xmlns='{NS_SID}' id=''/>", None),
    (f"<origin-id xmlns='{NS_SID}'/>", None),
    (f"<origin-id xmlns='{NS_SID}' id='a&amp;b&#x20AC;&apos;'/>", "a&b\u20ac'"),
    (f"<origin-id xmlns='{NS_SID}' id='a\nb'/>", "a b"),
    (f"<origin-id xmlns='{NS_SID}' id='a>b'/>", "a>b"),
    (f"<origin-id xmlns='{NS_SID}' id='\u20ac'/>", "\u20ac"),
    (f"<x:origin-id xmlns:x='{NS_SID}' id='o1'/>", "o1"),
    (f"<origin-id xmlns='urn:example:x' id='no'/><x:origin-id xmlns:x='{NS_SID}' id='yes'/>", "yes"),
    (f"<origin-id xmlns='urn:example:x' id='no'/><origin-id xmlns='{NS_SID}' id='yes'/>", "yes"),
    (f"<x xmlns='urn:example:x'><origin-id xmlns='{NS_SID}' id='no'/></x>", None),
    (
        f"<x xmlns='urn:example:x'><origin-id xmlns='{NS_SID}' id='no'/></x><origin-id xmlns='{NS_SID}' id='yes'/>",
        "yes",
    ),
    (f"<body><![CDATA[<origin-id id='no'>]]></body><origin-id xmlns='{NS_SID}' id='yes'/>", "yes"),
    (f"<body>&lt;origin-id id='no'></body><origin-id xmlns='{NS_SID}' id='yes'/>", "yes"),
    (f"<origin-ids xmlns='urn:example:x' id='no'/><origin-id xmlns='{NS_SID}' id='yes'/>", "yes"),
    (f"<origin-id xmlns='{NS_SID}' id='first'/><origin-id xmlns='{NS_SID}' id='second'/>", "first"),
    (f"<origin-id xmlns='{NS_SID}' id='{'x' * 256}'/>", "x" * 256),
    (f"<origin-id xmlns='{NS_SID}' id='{'x' * 257}'/>", None),
    (f"<origin-id xmlns='{NS_SID}' id='{EURO * 256}'/>", EURO * 256),
]


class OriginIds(TestCase):
    def test_however_they_are_written(self) -> None:
        for inner, expected in ORIGIN_IDS:
            with self.subTest(inner=inner):
                self.assertEqual(expected, origin_id(message(inner)))

    def test_of_a_tree(self) -> None:
        for inner, expected in ORIGIN_IDS:
            with self.subTest(inner=inner):
                self.assertEqual(expected, origin_id(Stanza.from_element(message(inner).copy_tree())))

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=40))
    def test_whatever_they_are(self, id_: str) -> None:
        stanza = message(f"<body>x</body><origin-id xmlns='{NS_SID}' id='{escape.attribute(id_)}'/>")
        element = stanza.child(NS_SID, "origin-id")
        assert element is not None
        self.assertEqual(element["id"], origin_id(stanza))
