"""Two nodes on one database: what is changed on one is so on the other at once, though both have rooms in memory."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.words.xish import domish

from dynxmpp.db.notify import Notifications
from dynxmpp.module import JID
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_DESTROY, NS_INFO
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.store import CHANNEL, Decide
from tests.fixtures.dialogue import Host, TestSession
from tests.fixtures.postgres import shared_server
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, RoomTestCase, refusal

ROOM = JID.parse(LOBBY)


class Node:
    """A node, and what it has been told by the database, itself included."""

    def __init__(self, host: Host, announcements: Notifications) -> None:
        self.host = host
        self.module: MucLight = host.host_types[0].modules["mod_muc_light"]  # type: ignore[assignment]
        self.rooms = self.module.rooms
        self.told: DeferredQueue[str] = DeferredQueue()
        self.reconnected: DeferredQueue[None] = DeferredQueue()
        # Later than the module's: who is woken by these finds what it has made of it.
        announcements.subscribe(CHANNEL, self.told.put, on_reconnect=lambda: self.reconnected.put(None))

    def online(self, jid: str) -> TestSession:
        session = self.host.session(jid)
        session.available = True
        return session

    async def hears(self) -> str:
        """The version of the next change."""
        version, _, address = (await self.told.get()).partition(" ")
        assert address == LOBBY
        return version


class TwoNodes(RoomTestCase):
    """Here are ann, ben, cat and dan (`RoomTestCase`); there is another ben. Each node has an own connection."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.here, self.there = await self.start_node(), await self.start_node()
        self.ann, self.ben, self.cat = (self.here.online(f"{jid}/p") for jid in (ANN, BEN, CAT))
        self.other = self.there.online(f"{BEN}/there")
        await self.create(self.ann, BEN, CAT)
        self.assertEqual([await self.version()] * 2, [await node.hears() for node in (self.here, self.there)])
        await self.here.host.settle()
        # Both have it in memory from now on.
        self.assertEqual([ANN, BEN, CAT], await self.read(self.other))
        assert self.here.rooms.known(ROOM)
        assert self.there.rooms.known(ROOM)
        for session in (self.ann, self.ben, self.cat):
            session.received.clear()

    async def start_node(self) -> Node:
        database = await self.start_database(self.settings)
        announcements = Notifications(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(announcements.stop)
        main, self.db = self.db, database
        try:
            node = Node(await self.start_host(MucLightConfig(), announcements), announcements)
        finally:
            self.db = main
        await announcements.start()
        return node

    async def info(self, session: TestSession) -> domish.Element:
        return (await self.get(session, LOBBY, NS_INFO)).query

    async def read(self, session: TestSession) -> list[str]:
        """The members, as a node says; the version is the one in the database."""
        query = await self.info(session)
        self.assertEqual(await self.version(), str(query.version))
        return [str(user) for user in query.occupants.elements()]

    async def assert_told(self, *nodes: Node) -> None:
        version = await self.version()
        for node in nodes:
            self.assertEqual(version, await node.hears())


class Changes(TwoNodes):
    async def test_configuration(self) -> None:
        await self.configure(self.ann, "<roomname>Den</roomname>")
        await self.assert_told(self.there)
        query = await self.info(self.other)
        self.assertEqual((await self.version(), "Den"), (str(query.version), str(query.configuration.roomname)))

    async def test_affiliations(self) -> None:
        await self.affiliate(self.ann, (CAT, "none"), (DAN, "member"))
        await self.assert_told(self.there)
        self.assertEqual([ANN, BEN, DAN], await self.read(self.other))

    async def test_both_ways_by_turns(self) -> None:
        for number in range(5):
            await self.configure(self.ann, f"<subject>here {number}</subject>")
            await self.assert_told(self.here, self.there)
            await self.configure(self.other, f"<subject>there {number}</subject>")
            [version] = [str(m.x.version) for m in self.other.received if f"there {number}" in m.toXml()]
            await self.assert_told(self.here, self.there)
            self.assertEqual(version, await self.version())
            self.assertEqual(f"there {number}", str((await self.info(self.ann)).configuration.subject))
            self.other.received.clear()

    async def test_who_is_removed_is_nobody_there(self) -> None:
        await self.affiliate(self.ann, (BEN, "none"))
        await self.assert_told(self.there)
        self.other.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        self.assertEqual("item-not-found", refusal(await self.other.receives("message"))[1])
        self.assertEqual("item-not-found", refusal(await self.get(self.other, LOBBY, NS_INFO))[1])

    async def test_who_is_added_is_a_member_there(self) -> None:
        dan = self.there.online(f"{DAN}/there")
        dan.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        self.assertEqual("item-not-found", refusal(await dan.receives("message"))[1])
        await self.affiliate(self.ann, (DAN, "member"))
        await self.assert_told(self.there)
        dan.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        for session in (dan, self.other):
            self.assertEqual(f"{LOBBY}/{DAN}", (await session.receives("message"))["from"])

    async def test_a_room_that_is_destroyed(self) -> None:
        await self.set(self.ann, LOBBY, NS_DESTROY)
        self.assertEqual("", await self.there.hears())
        self.assertEqual("item-not-found", refusal(await self.get(self.other, LOBBY, NS_INFO))[1])
        reply = await self.create(self.other, room=LOBBY)
        self.assertEqual("result", reply["type"], "the address is free on both")
        self.assertEqual("", await self.here.hears())
        await self.assert_told(self.here)
        self.assertEqual("item-not-found", refusal(await self.get(self.ann, LOBBY, NS_INFO))[1])

    async def test_at_once_on_both(self) -> None:
        """The database decides about the order; neither change is lost."""
        requests = [
            self.configure(self.ann, "<roomname>Den</roomname>"),
            self.configure(self.other, "<subject>tea</subject>"),
        ]
        for answer in [Deferred.fromCoroutine(request) for request in requests]:
            self.assertEqual("result", (await answer)["type"])
        versions = {await self.there.hears() for _ in requests}
        self.assertEqual(versions, {await self.here.hears() for _ in requests})
        self.assertIn(await self.version(), versions)
        for session in (self.ann, self.other):
            query = await self.info(session)
            self.assertEqual(await self.version(), str(query.version))
            fields = [str(query.configuration.roomname), str(query.configuration.subject)]
            self.assertEqual(["Den", "tea"], fields)


class Memory(TwoNodes):
    async def test_own_changes_stay(self) -> None:
        """A node hears of its own changes too, and need not read them again."""
        for request in (
            self.configure(self.ann, "<subject>tea</subject>"),
            self.affiliate(self.ann, (DAN, "member")),
        ):
            await request
            await self.assert_told(self.here, self.there)
            room = self.here.rooms.known(ROOM)
            assert room is not None
            self.assertEqual(await self.version(), room.version)
            self.assertIsNone(self.there.rooms.known(ROOM))

    async def test_what_is_read_while_it_changes_is_not_kept(self) -> None:
        self.there.rooms.forget_all()
        load = self.there.rooms.store.load
        old: list[Room] = []

        async def slow(server: str, jid: JID) -> Room | None:
            room = await load(server, jid)
            assert room is not None
            old.append(room)
            await self.configure(self.ann, "<subject>tea</subject>")
            await self.assert_told(self.there)
            return room

        self.patch(self.there.rooms.store, "load", slow)
        # It was true when it was asked.
        self.assertEqual(old, [await self.there.rooms.get(ROOM)])
        self.assertNotEqual(await self.version(), old[0].version)
        self.assertIsNone(self.there.rooms.known(ROOM))
        self.patch(self.there.rooms.store, "load", load)
        self.assertEqual("tea", str((await self.info(self.other)).configuration.subject))
        self.assertIsNotNone(self.there.rooms.known(ROOM))

    async def test_a_change_that_another_one_overtakes_is_not_kept(self) -> None:
        """The other node's change may be heard of before the own one is known to be committed."""
        change = self.here.rooms.store.change

        async def slow(server: str, jid: JID, decide: Decide) -> tuple[Room, Room | None] | None:
            self.patch(self.here.rooms.store, "change", change)
            changed = await change(server, jid, decide)
            await self.assert_told(self.here)
            await self.configure(self.other, "<subject>tea</subject>")
            await self.assert_told(self.here)
            return changed

        self.patch(self.here.rooms.store, "change", slow)
        await self.configure(self.ann, "<roomname>Den</roomname>")
        query = await self.info(self.ann)
        self.assertEqual(await self.version(), str(query.version))
        self.assertEqual(["Den", "tea"], [str(field) for field in query.configuration.elements()])

    async def test_an_own_change_that_is_heard_of_early_is_kept(self) -> None:
        change = self.here.rooms.store.change

        async def slow(server: str, jid: JID, decide: Decide) -> tuple[Room, Room | None] | None:
            changed = await change(server, jid, decide)
            await self.assert_told(self.here)
            return changed

        self.patch(self.here.rooms.store, "change", slow)
        for subject in ("tea", "cake"):
            await self.configure(self.ann, f"<subject>{subject}</subject>")
            room = self.here.rooms.known(ROOM)
            assert room is not None
            self.assertEqual(subject, room.config["subject"])

    async def test_a_lost_connection(self) -> None:
        """What is announced meanwhile is missed; so nothing is believed that was in memory."""
        lost = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s"
        admin = shared_server().admin
        self.assertEqual([(True,)] * 2, admin(lost, (self.settings.database, "LISTEN%")))
        # Neither node has had a chance to come back: nobody is told of this.
        admin("UPDATE muc_light_rooms SET version = 'missed'", database=self.settings.database)
        assert self.there.rooms.known(ROOM)
        for node in (self.there, self.here):
            await node.reconnected.get()
            self.assertIsNone(node.rooms.known(ROOM))
        for session in (self.ann, self.other):
            self.assertEqual("missed", str((await self.info(session)).version))
        await self.configure(self.ann, "<subject>tea</subject>")
        await self.assert_told(self.there)
        self.assertEqual("tea", str((await self.info(self.other)).configuration.subject))

    async def test_what_is_read_while_the_connection_is_lost_is_not_kept(self) -> None:
        self.there.rooms.forget_all()
        load = self.there.rooms.store.load
        lost = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s"

        async def slow(server: str, jid: JID) -> Room | None:
            room = await load(server, jid)
            shared_server().admin(lost, (self.settings.database, "LISTEN%"))
            await self.there.reconnected.get()
            return room

        self.patch(self.there.rooms.store, "load", slow)
        self.assertIsNotNone(await self.there.rooms.get(ROOM))
        self.assertIsNone(self.there.rooms.known(ROOM))

    async def test_other_rooms_stay(self) -> None:
        den = JID.parse(f"den@{ROOM.domain}")
        await self.create(self.ann, BEN, room=den.bare)
        await self.there.told.get()
        await self.there.rooms.get(den)
        await self.configure(self.ann, "<subject>tea</subject>")
        await self.assert_told(self.there)
        self.assertIsNone(self.there.rooms.known(ROOM))
        self.assertIsNotNone(self.there.rooms.known(den))
