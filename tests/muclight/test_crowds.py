"""Many who want something of a room at the same moment, and what each of them sees of it."""

from dataclasses import replace
from typing import Any, ClassVar
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.module import JID, CommitTicket, Unavailable
from dynxmpp.modules.blocking import Blocking
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.room import Affiliation, Room
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, DAN, DOMAIN, LOBBY, RoomTestCase

ROOM, BEN_JID = JID.parse(LOBBY), JID.parse(BEN)
#: More than the interpreter lets end inside each other.
CROWD = 1000


class Crowd(RoomTestCase):
    async def ask(self) -> list[Any]:
        """What a crowd is told of the lobby, which nobody has in memory."""
        self.rooms.rooms.forget_all()
        outcomes: list[Any] = []
        askers = [Deferred.fromCoroutine(self.rooms.rooms.get(ROOM)).addBoth(outcomes.append) for _ in range(CROWD)]
        for asker in askers:
            await asker
        self.assertEqual(0, len(self.rooms.rooms._turns))
        return outcomes

    async def test_a_room_that_is_not_in_memory(self) -> None:
        await self.room()
        outcomes = await self.ask()
        self.assertEqual(CROWD, len(outcomes))
        self.assertIsInstance(outcomes[0], Room)
        self.assertEqual(1, len(set(map(id, outcomes))))

    async def test_the_database_is_away_for_the_first(self) -> None:
        await self.room()
        load, failures = self.rooms.rooms.store.load, [Unavailable("away")]

        async def fails(server: str, jid: JID) -> Room | None:
            if failures:
                raise failures.pop()
            return await load(server, jid)

        with patch.object(self.rooms.rooms.store, "load", fails):
            first, *others = sorted(await self.ask(), key=lambda outcome: isinstance(outcome, Room))
        self.assertIsInstance(first, Failure)
        self.assertTrue(all(isinstance(outcome, Room) for outcome in others))

    async def test_who_goes_away_while_he_waits(self) -> None:
        await self.room()
        rooms = self.rooms.rooms
        load, may_go_on = rooms.store.load, Deferred[None]()

        async def slow(server: str, jid: JID) -> Room | None:
            await may_go_on
            return await load(server, jid)

        rooms.forget_all()
        with patch.object(rooms.store, "load", slow):
            first, second, third = (Deferred.fromCoroutine(rooms.get(ROOM)) for _ in range(3))
            outcomes: list[Any] = []
            second.addBoth(outcomes.append)
            second.cancel()
            self.assertIsNotNone(outcomes[0].check(CancelledError))
            may_go_on.callback(None)
            self.assertIs(await first, await third)
        self.assertEqual(0, len(rooms._turns))

    async def test_what_is_read_while_the_domain_goes_is_not_kept(self) -> None:
        await self.room()
        rooms = self.rooms.rooms
        load = rooms.store.load

        async def slow(server: str, jid: JID) -> Room | None:
            room = await load(server, jid)
            rooms.forget_domain(DOMAIN)
            return room

        rooms.forget_all()
        with patch.object(rooms.store, "load", slow):
            self.assertIsNotNone(await rooms.get(ROOM))
        self.assertIsNone(rooms.known(ROOM))


class Changed(RoomTestCase):
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def test_while_a_message_waits_for_the_archive(self) -> None:
        """The message comes after the change, for all: who has left does not hear it, who has come does."""
        await self.room()
        archive = self.host.host_types[0].find(RoomArchive)
        assert archive is not None
        load, began, may_go_on = archive.load, Deferred[None](), Deferred[None]()

        async def slow(room: JID, domain: str) -> None:
            self.patched.stop()
            began.callback(None)
            await may_go_on
            await load(room, domain)

        self.rooms.rooms.forget_all()
        self.patched = patch.object(archive, "load", slow)
        self.patched.start()
        self.ben.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await began
        await self.affiliate(self.ann, (CAT, "none"), (DAN, "member"))
        may_go_on.callback(None)
        await self.settle()
        heard = {session.jid.bare: [e["id"] for e in session.received] for session in (self.ben, self.cat, self.dan)}
        self.assertEqual({BEN: ["a", "m"], CAT: ["a"], DAN: ["a", "m"]}, heard)


class Order(RoomTestCase):
    """Of what a room sends to one whose blocking list has to be read first."""

    migrations = (*RoomTestCase.migrations, *Blocking.migrations)
    modules: ClassVar[tuple[Any, ...]] = (Blocking,)

    async def test_of_several_authors_and_the_room(self) -> None:
        await self.room()
        blocking: Blocking = self.host.host_types[0].modules["mod_blocking"]  # type: ignore[assignment]
        await self.settle()
        blocking.forget_domain(DOMAIN)
        await blocking.load(JID.parse(BEN))
        await blocking.load(JID.parse(ANN))
        room = await self.rooms.rooms.get(ROOM)
        assert room is not None
        # All in one turn of the reactor, so that all wait for one look-up.
        after = replace(room, version="next")
        self.rooms.changes._tell_affiliations(room, after, {BEN_JID: Affiliation.MEMBER}, "1", CommitTicket())
        for author, id_ in ((self.ben, "2"), (self.ann, "3"), (self.ben, "4")):
            author.sends(f"<message type='groupchat' id='{id_}' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        for member in (self.ben, self.cat):
            self.assertEqual(["1", "2", "3", "4"], [e["id"] for e in member.received])
