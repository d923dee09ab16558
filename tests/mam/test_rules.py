"""Which messages are archivable; what becomes of them is in tests/protocol/test_xep_0313_archiving.py."""

from twisted.trial.unittest import TestCase

from dynxmpp.modules.mam.rules import Archivable
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import parse

NS_MARKERS = "urn:xmpp:chat-markers:0"
BODY = "<body>x</body>"


def message(inner: str, type_: str | None = None) -> Stanza:
    kind = "" if type_ is None else f" type='{type_}'"
    return parse(f"<message{kind}>{inner}</message>")


class Types(TestCase):
    def test_of_accounts(self) -> None:
        archivable = Archivable(markers=False)
        kept = [
            type_
            for type_ in (None, "normal", "chat", "headline", "error", "groupchat", "odd")
            if archivable(message(BODY, type_))
        ]
        self.assertEqual([None, "normal", "chat", "odd"], kept)

    def test_groupchat_where_it_may_be(self) -> None:
        self.assertTrue(Archivable(markers=False)(message(BODY, "groupchat"), groupchat=True))
        self.assertFalse(Archivable(markers=False)(message(BODY, "headline"), groupchat=True))


class Markers(TestCase):
    def test_only_if_told_to(self) -> None:
        for name in ("received", "displayed", "acknowledged"):
            with self.subTest(name=name):
                stanza = message(f"<{name} xmlns='{NS_MARKERS}' id='1'/>")
                self.assertFalse(Archivable(markers=False)(stanza))
                self.assertTrue(Archivable(markers=True)(stanza))

    def test_what_is_no_marker(self) -> None:
        for inner in (f"<markable xmlns='{NS_MARKERS}'/>", "<received xmlns='urn:xmpp:receipts' id='1'/>"):
            self.assertFalse(Archivable(markers=True)(message(inner)))


class Parsing(TestCase):
    def test_an_ordinary_message_is_not_parsed(self) -> None:
        for inner in (BODY, f"{BODY}<active xmlns='http://jabber.org/protocol/chatstates'/>", "<subject>x</subject>"):
            stanza = message(inner)
            Archivable(markers=True)(stanza)
            self.assertIsNone(stanza._tree)
