"""The archives of rooms, as members read them."""

from typing import ClassVar

from twisted.words.xish import domish

from dynxmpp.modules.mam.config import MamConfig
from tests.fixtures.dialogue import TestSession, canonical, parse
from tests.mam.archives import Page, field, forwarded
from tests.muclight.support import ARCHIVE, LOBBY, RoomTestCase

NS_MAM_1, NS_MAM = "urn:xmpp:mam:1", "urn:xmpp:mam:2"
NS_SID = "urn:xmpp:sid:0"
NS_MUC_USER = "http://jabber.org/protocol/muc#user"


class ArchiveTestCase(RoomTestCase):
    """Rooms that are archived."""

    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def page(self, session: TestSession, form: str = "", *, room: str = LOBBY, namespace: str = NS_MAM) -> Page:
        """What a member reads, who has been sent nothing else."""
        assert not session.received, [element.toXml() for element in session.received]
        fields = f"<x xmlns='jabber:x:data' type='submit'>{field('FORM_TYPE', namespace)}{form}</x>"
        reply = await session.asks(
            f"<iq type='set' id='q' to='{room}'><query xmlns='{namespace}' queryid='f27'>{fields}</query></iq>"
        )
        messages = list(session.received)
        session.received.clear()
        return Page(messages, reply)

    async def kept(self, session: TestSession, room: str = LOBBY) -> list[domish.Element]:
        """The messages of a room that a member reads, the oldest first, without that of its creation."""
        return [forwarded(result) for result in (await self.page(session, room=room)).results][1:]

    def says(self, session: TestSession, content: str, id_: str = "m1", room: str = LOBBY) -> None:
        session.sends(f"<message type='groupchat' id='{id_}' to='{room}'>{content}</message>")

    async def said(self, session: TestSession, content: str, id_: str = "m1") -> domish.Element:
        """Says something in the lobby; the copy of who says it, after all others have theirs."""
        self.says(session, content, id_)
        copy = await session.receives("message")
        await self.settle()
        self.forget()
        return copy

    def assert_same(self, xml: str, element: domish.Element) -> None:
        self.assertEqual(canonical(parse(xml).copy_tree()), canonical(element))


def stanza_ids(message: domish.Element) -> list[tuple[str, str]]:
    """Of each <stanza-id/>, by whom it is, and which."""
    return [(child["by"], child["id"]) for child in message.elements(NS_SID, "stanza-id")]


def authors(message: domish.Element) -> list[domish.Element]:
    return list(message.elements(NS_MUC_USER, "x"))
