"""Section 6 with XEP-0191: members who want to hear nothing of a room, or of somebody in it."""

from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

from dynxmpp.modules.blocking import Blocking
from dynxmpp.modules.muc_light.names import NS_INFO
from tests.muclight.support import ANN, BEN, CAT, DOMAIN, LOBBY, SERVICE, RoomTestCase
from tests.muclight.test_messages import MessageTestCase, said

HI = "<body>hi</body>"


class Blocked(MessageTestCase):
    migrations = (*RoomTestCase.migrations, *Blocking.migrations)
    modules: ClassVar[tuple[Any, ...]] = (Blocking,)

    async def change(self, command: str, *addresses: str) -> None:
        """Ben blocks or unblocks."""
        items = "".join(f"<item jid={quoteattr(address)}/>" for address in addresses)
        payload = f"<{command} xmlns='urn:xmpp:blocking'>{items}</{command}>"
        reply = await self.ben.asks(f"<iq type='set' id='b'>{payload}</iq>")
        self.assertEqual("result", reply["type"], reply.toXml())

    async def heard_from(self, author: Any, *members: str) -> None:
        """What an author says comes to these members, and nothing to anybody else: no error to the author."""
        self.assertEqual({to: [said(author.jid.bare, to, HI)] for to in members}, await self.says(author))

    async def test_the_room(self) -> None:
        """Whatever in its address is blocked, messages and notices end in silence."""
        await self.room()
        for address in (LOBBY, SERVICE):
            await self.change("block", address)
            await self.heard_from(self.ann, ANN, CAT)
            await self.heard_from(self.cat, ANN, CAT)
            self.assertEqual("result", (await self.configure(self.ann, "<subject>s</subject>"))["type"])
            await self.host.silence(self.ben)
            await self.change("unblock", address)
            await self.heard_from(self.ann, ANN, BEN, CAT)

    async def test_who_blocks_a_room_cannot_speak_in_it(self) -> None:
        """XEP-0191 example 9. He is a member still."""
        await self.room()
        await self.change("block", LOBBY)
        self.say(self.ben)
        self.assertEqual("not-acceptable", (await self.ben.receives("message")).error.firstChildElement().name)
        reply = await self.get(self.ben, LOBBY, NS_INFO)
        self.assertEqual("not-acceptable", reply.error.firstChildElement().name)
        await self.host.silence(self.ann, self.ben, self.cat)
        self.assertEqual("member", (await self.members())[BEN])

    async def test_somebody_in_the_room(self) -> None:
        """By his address in the room."""
        await self.room()
        await self.change("block", f"{LOBBY}/{ANN}")
        await self.heard_from(self.ann, ANN, CAT)
        await self.heard_from(self.cat, ANN, BEN, CAT)
        await self.heard_from(self.ben, ANN, BEN, CAT)
        self.assertEqual("result", (await self.configure(self.ann, "<subject>s</subject>"))["type"])
        self.assertEqual(LOBBY, (await self.ben.receives("message"))["from"])

    async def test_an_account(self) -> None:
        """Whose messages in the room come from the room: section 5 of the XEP compares addresses."""
        await self.room()
        await self.change("block", ANN, "other.example", f"{SERVICE}/x", f"{DOMAIN}/p")
        await self.heard_from(self.ann, ANN, BEN, CAT)
        await self.heard_from(self.ben, ANN, BEN, CAT)

    async def test_a_list_that_is_not_in_memory(self) -> None:
        """The copy for him waits for it, those for others do not, and order is kept."""
        await self.room()
        await self.change("block", f"{LOBBY}/{CAT}")
        blocking: Any = self.host.host_types[0].modules["mod_blocking"]
        blocking._forget(BEN)
        self.forget()
        for session in (self.ann, self.cat, self.ann):
            self.say(session)
        self.assertEqual(3, len(self.ann.received))
        await self.settle()
        self.assertEqual([said(ANN, BEN, HI)] * 2, self.heard()[BEN])
