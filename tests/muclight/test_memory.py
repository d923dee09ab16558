"""Rooms in memory: how many, and for how long they are believed (section 16, `cache_affs`)."""

from typing import Any

from twisted.internet.task import Clock

from dynxmpp.module import JID, Unavailable
from dynxmpp.modules.muc_light.config import AffiliationCache, MucLightConfig
from dynxmpp.modules.muc_light.names import NS_INFO
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.rooms import Rooms
from tests.fixtures.dialogue import TestSession
from tests.muclight.stores import ANN, BALCONY, LOBBY, OWNER, SERVER, SERVICE, StoreTestCase
from tests.muclight.support import CAT, RoomTestCase, refusal
from tests.muclight.support import LOBBY as ROOM

GARDEN = JID.parse(f"garden@{SERVICE}")


class InMemory(StoreTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for room in (LOBBY, BALCONY, GARDEN):
            await self.make(room)
        self.clock = Clock()
        self.recorded.statements.clear()

    def rooms(self, **bounds: float) -> Rooms:
        return Rooms(
            self.store,
            lambda service: SERVER,
            self.clock,
            is_served=lambda service: True,
            archives=lambda: None,
            **bounds,  # type: ignore[arg-type]
        )

    async def got(self, rooms: Rooms, jid: JID) -> Room:
        room = await rooms.get(jid)
        assert room is not None
        return room

    async def test_a_room_is_read_once(self) -> None:
        rooms = self.rooms()
        first = await self.got(rooms, LOBBY)
        self.clock.advance(10**9)
        self.assertIs(first, await self.got(rooms, LOBBY))
        self.assertIs(first, rooms.known(LOBBY))
        self.assertEqual(1, len(self.recorded.statements))

    async def test_a_room_that_there_is_not_is_asked_for_again(self) -> None:
        """Somebody may have made it meanwhile."""
        rooms = self.rooms()
        await self.store.remove(SERVER, LOBBY)
        self.assertIsNone(await rooms.get(LOBBY))
        await self.store.finish_removal(SERVER, LOBBY, lambda transaction: self.settled())
        await self.make(members={ANN: OWNER})
        self.assertEqual({ANN: OWNER}, (await self.got(rooms, LOBBY)).members)

    async def settled(self) -> None:
        """Nobody keeps anything of the room."""

    async def test_the_least_recently_used_is_forgotten(self) -> None:
        rooms = self.rooms(size=2)
        for jid in (LOBBY, BALCONY, LOBBY, GARDEN):
            await self.got(rooms, jid)
        self.assertIsNone(rooms.known(BALCONY))
        self.assertTrue(rooms.known(LOBBY))
        self.assertTrue(rooms.known(GARDEN))
        await self.got(rooms, BALCONY)
        self.assertIsNone(rooms.known(LOBBY), "to look is to use")
        self.assertEqual(4, len(self.recorded.statements))

    async def test_it_is_read_again_when_its_time_is_over(self) -> None:
        rooms = self.rooms(lifetime_s=60.0)
        first = await self.got(rooms, LOBBY)
        self.clock.advance(59)
        self.assertIs(first, await self.got(rooms, LOBBY), "and being used makes it last no longer")
        self.clock.advance(1)
        self.assertIsNone(rooms.known(LOBBY))
        again = await self.got(rooms, LOBBY)
        self.assertIsNot(first, again)
        self.clock.advance(59)
        self.assertIs(again, rooms.known(LOBBY))


class ForMinutes(RoomTestCase):
    config = MucLightConfig(cache_affs=AffiliationCache(time_to_live=2))

    async def test_what_nobody_has_been_told_of_is_noticed_then(self) -> None:
        clock = Clock()
        self.patch(self.rooms.rooms, "_clock", clock)
        await self.room()
        await self.db.execute("DELETE FROM muc_light_occupants WHERE username = 'cat'")
        clock.advance(119)
        info = (await self.get(self.cat, ROOM, NS_INFO)).query
        self.assertIn(CAT, [str(user) for user in info.occupants.elements()])
        clock.advance(1)
        self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.cat, ROOM, NS_INFO)))


class Unsure(RoomTestCase):
    """What a change has shown to be wrong, or may have made wrong, is not believed any more."""

    async def refuses(self, session: TestSession) -> None:
        """A message is refused as that of somebody who is not in the room."""
        self.forget()
        session.sends(f"<message type='groupchat' id='m' to='{ROOM}'><body>hi</body></message>")
        self.assertEqual(("cancel", "item-not-found", None), refusal(await session.receives("message")))

    async def test_a_room_that_is_gone_without_a_word(self) -> None:
        await self.room()
        await self.db.execute("DELETE FROM muc_light_rooms")
        self.assertEqual("item-not-found", refusal(await self.configure(self.ann, "<subject>s</subject>"))[1])
        await self.refuses(self.ann)

    async def test_a_change_whose_end_nobody_knows(self) -> None:
        """It was committed, and the database went away before it could say so."""
        await self.room()
        store = self.rooms.rooms.store
        change = store.change

        async def lost(*args: Any) -> Any:
            await change(*args)
            raise Unavailable("away")

        self.patch(store, "change", lost)
        self.assertEqual("error", (await self.affiliate(self.ann, (CAT, "none")))["type"])
        await self.refuses(self.cat)
