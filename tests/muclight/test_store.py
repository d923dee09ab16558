"""Rooms in the database: created, changed and removed, by several at once, and what others are told of it."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults

from dynxmpp.db.notify import Notifications
from dynxmpp.module import JID
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.store import CHANNEL, Change, Facts, RoomExists, RoomStore
from tests.muclight.stores import (
    ANN,
    BALCONY,
    BEN,
    CAT,
    DAN,
    LOBBY,
    MEMBER,
    OWNER,
    SERVER,
    SERVICE,
    TRIO,
    Recorded,
    Refusal,
    StoreTestCase,
    adds,
    gives,
    new,
    nothing,
    refuses,
)
from tests.protocol.support import HOSTILE, HOSTILE_LOCALPARTS


class CreateTests(StoreTestCase):
    async def test_created_and_loaded(self) -> None:
        made = await self.make(config={"roomname": "Lobby", "subject": ""})
        self.assertEqual(Room(LOBBY, made.number, "1", TRIO, {"roomname": "Lobby", "subject": ""}), made)
        self.recorded.statements.clear()
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))
        self.assertEqual(1, len(self.recorded.statements))

    async def test_members_are_in_the_order_of_their_addresses(self) -> None:
        names = ("b@x.example", "a@y.example", "a!@x.example", "a@x.example")
        made = await self.make(members={JID.parse(name): MEMBER for name in names})
        for room in (made, await self.store.load(SERVER, LOBBY)):
            assert room is not None
            self.assertEqual(sorted(names), [jid.full for jid in room.members])

    async def test_one_that_is_not_there(self) -> None:
        await self.make()
        for server, address in ((SERVER, BALCONY), ("montague.example", LOBBY), (SERVER, JID("lobby", "x.example"))):
            self.assertIsNone(await self.store.load(server, address))
            self.assertIsNone(await self.store.change(server, address, refuses))
            self.assertIsNone(await self.store.remove(server, address))

    async def test_an_address_that_is_taken(self) -> None:
        made = await self.make()
        with self.assertRaises(RoomExists):
            await self.make(members={DAN: OWNER}, config={"roomname": "mine"})
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))
        self.assertEqual(3, await self.count("occupants"))

    async def test_two_make_the_same_room_at_once(self) -> None:
        stores = [self.store, await self.other()]
        users = [JID(f"user{number}", SERVER) for number in range(8)]
        results: list[Any] = await gatherResults(
            [
                Deferred.fromCoroutine(stores[number % 2].create(SERVER, LOBBY, "1", new({user: OWNER}))).addErrback(
                    lambda failure: failure.trap(RoomExists)
                )
                for number, user in enumerate(users)
            ]
        )
        (made,) = [result for result in results if result is not RoomExists]
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))
        self.assertEqual((1, 1), (await self.count("rooms"), await self.count("occupants")))

    async def test_a_decision_that_raises(self) -> None:
        with self.assertRaises(Refusal):
            await self.store.create(SERVER, LOBBY, "1", refuses)
        self.assertEqual(0, await self.count("rooms"))

    async def test_what_postgresql_cannot_store(self) -> None:
        for text in ("\0", "\ud800"):
            with self.assertRaises(ValueError):
                await self.make(config={"subject": text})
        self.assertEqual(0, await self.count("rooms"))


class ChangeTests(StoreTestCase):
    async def changed(self, change: Change | None, room: JID = LOBBY) -> tuple[Room, Room | None]:
        """The room before and after, which is what the tables have then."""
        result = await self.store.change(SERVER, room, gives(change))
        assert result is not None
        self.assertEqual(result[1], await self.store.load(SERVER, room))
        return result

    async def test_only_the_difference_is_written(self) -> None:
        made = await self.make()
        before = await self.written()
        members = {ANN: MEMBER, DAN: MEMBER, BEN: MEMBER}
        self.recorded.statements.clear()
        result = await self.changed(Change(members, version="2"))
        self.assertEqual(2 + 1, len(self.recorded.statements))
        self.assertEqual((made, Room(LOBBY, made.number, "2", members, {})), result)
        after = await self.written()
        self.assertEqual({"ann", "ben", "dan"}, set(after))
        self.assertEqual(before["ben"], after["ben"])
        self.assertNotEqual(before["ann"], after["ann"])

    async def test_a_name_of_two_domains_is_two_users(self) -> None:
        other = JID("ann", "montague.example")
        await self.make(members={ANN: OWNER, other: MEMBER})
        _, after = await self.changed(Change({ANN: OWNER}, version="2"))
        assert after is not None
        self.assertEqual({ANN: OWNER}, after.members)

    async def test_the_order_of_a_change_does_not_matter(self) -> None:
        await self.make()
        _, after = await self.changed(Change({DAN: MEMBER, BEN: OWNER, ANN: MEMBER}, version="2"))
        assert after is not None
        self.assertEqual([ANN, BEN, DAN], list(after.members))

    async def test_configuration(self) -> None:
        await self.make(config={"roomname": "Lobby", "subject": "x"})
        before = await self.written()
        await self.changed(Change(config={"subject": "", "added later": "y"}, version="2"))
        _, after = await self.changed(Change(version="3"))
        assert after is not None
        self.assertEqual({"roomname": "Lobby", "subject": "", "added later": "y"}, after.config)
        self.assertEqual(("3", TRIO), (after.version, after.members))
        self.assertEqual(before, await self.written())

    async def test_a_decision_that_changes_nothing(self) -> None:
        made = await self.make()
        before, after = await self.changed(None)
        self.assertIs(before, after)
        self.assertEqual(made, after)

    async def test_a_decision_that_raises(self) -> None:
        made = await self.make()

        async def decide(room: Room, facts: Facts) -> Change:
            await facts.full([DAN], 1)
            raise Refusal

        for refused in (decide, refuses):
            with self.assertRaises(Refusal):
                await self.store.change(SERVER, LOBBY, refused)
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))
        await self.changed(Change(version="2"))

    async def test_what_the_tables_refuse(self) -> None:
        made = await self.make()
        with self.assertRaises(ValueError):
            await self.store.change(SERVER, LOBBY, gives(Change({ANN: OWNER}, {"subject": "\0"}, "2")))
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))

    async def test_nobody_left(self) -> None:
        await self.make()
        kept = await self.make(BALCONY)
        _, after = await self.changed(Change({}))
        self.assertIsNone(after)
        self.assertEqual(3, await self.count("occupants"))
        self.assertEqual(kept, await self.store.load(SERVER, BALCONY))

    async def test_removed(self) -> None:
        made = await self.make(config={"roomname": "Lobby"})
        self.assertEqual(made, await self.store.remove(SERVER, LOBBY))
        self.assertEqual(0, await self.count("occupants"))
        self.assertIsNone(await self.store.load(SERVER, LOBBY))
        self.assertIsNone(await self.store.change(SERVER, LOBBY, refuses))
        await self.store.finish_removal(SERVER, LOBBY, nothing)
        again = await self.make(members={DAN: OWNER})
        self.assertNotEqual(made.number, again.number)

    async def test_a_removal_that_is_not_finished_keeps_the_address(self) -> None:
        await self.make(config={"roomname": "Lobby"})
        kept = await self.make(BALCONY)
        self.assertFalse(await self.store.is_going(SERVER, LOBBY))
        self.assertEqual(([], 0), await self.store.going(0, 10))
        await self.store.remove(SERVER, LOBBY)
        with self.assertRaises(RoomExists):
            await self.make()
        going = {room: await self.store.is_going(SERVER, room) for room in (LOBBY, BALCONY, JID("gone", SERVICE))}
        self.assertEqual([True, False, False], list(going.values()))
        self.assertEqual([(SERVER, LOBBY)], (await self.store.going(0, 10))[0])
        self.assertEqual([BALCONY], await self.store.list_rooms(SERVER, SERVICE, None, 10))
        self.assertEqual([BALCONY], list(await self.store.describe(SERVER, SERVICE, [LOBBY, BALCONY])))
        for room in (LOBBY, BALCONY):
            await self.store.finish_removal(SERVER, room, nothing)
        self.assertEqual((([], 0), 1), (await self.store.going(0, 10), await self.count("rooms")))
        self.assertEqual(kept, await self.store.load(SERVER, BALCONY))

    async def test_what_others_keep_goes_once_and_before_the_address_is_free(self) -> None:
        await self.make()
        await self.store.remove(SERVER, LOBBY)
        other = await self.other()
        removed: list[bool] = []
        begun, going_on = Deferred[None](), Deferred[None]()

        async def elsewhere(_: Any) -> None:
            removed.append(await other.is_going(SERVER, LOBBY))
            begun.callback(None)
            await going_on

        first = Deferred.fromCoroutine(self.store.finish_removal(SERVER, LOBBY, elsewhere))
        await begun
        second = Deferred.fromCoroutine(other.finish_removal(SERVER, LOBBY, elsewhere))
        await self.waiting(second)
        going_on.callback(None)
        await first
        await second
        self.assertEqual([True], removed)
        self.assertFalse(await self.store.is_going(SERVER, LOBBY))

    async def test_a_removal_elsewhere_that_fails_is_to_be_repeated(self) -> None:
        await self.make()
        await self.store.remove(SERVER, LOBBY)
        with self.assertRaises(Refusal):
            await self.store.finish_removal(SERVER, LOBBY, refuses)
        self.assertTrue(await self.store.is_going(SERVER, LOBBY))

    async def test_removals_are_listed_in_parts(self) -> None:
        rooms = [JID(name, SERVICE) for name in ("c", "a", "b")]
        for room in rooms:
            await self.make(room)
            await self.store.remove(SERVER, room)
        found, last = await self.store.going(0, 2)
        self.assertEqual([(SERVER, room) for room in rooms[:2]], found)
        self.assertEqual([(SERVER, room) for room in rooms[2:]], (await self.store.going(last, 2))[0])

    async def test_no_room_without_a_version(self) -> None:
        with self.assertRaises(ValueError):
            await self.store.create(SERVER, LOBBY, "", new(TRIO))
        made = await self.make()
        with self.assertRaises(ValueError):
            await self.store.change(SERVER, LOBBY, gives(Change(TRIO)))
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))

    async def test_occupants_go_with_the_rooms_of_a_domain(self) -> None:
        await self.make()
        kept = await self.make(JID.parse("lobby@muclight.montague.example"), server="montague.example")
        await self.db.execute("DELETE FROM muc_light_rooms WHERE server = %s", (SERVER,))
        self.assertEqual(3, await self.count("occupants"))
        self.assertEqual(kept, await self.store.load("montague.example", kept.jid))

    async def test_texts_that_look_like_sql(self) -> None:
        users = {JID(name, SERVER): MEMBER for name in HOSTILE_LOCALPARTS}
        texts = dict(zip(HOSTILE, reversed(HOSTILE), strict=True))
        for text in HOSTILE_LOCALPARTS:
            room = JID(text, SERVICE)
            made = await self.store.create(SERVER, room, text, new(users, texts))
            self.assertEqual(made, await self.store.load(SERVER, room))
            await self.changed(Change({**users, ANN: OWNER}, {text: text}, HOSTILE[0]), room)
            await self.changed(Change({ANN: OWNER}, dict.fromkeys(texts, text), text), room)
        rooms = sorted(JID(name, SERVICE).full for name in HOSTILE_LOCALPARTS)
        self.assertEqual(rooms, [room.full for room in await self.store.rooms_of(SERVER, SERVICE, ANN)])


class TogetherTests(StoreTestCase):
    """Changes at the same time, from two nodes."""

    def hold(self, store: RoomStore, room: JID, change: Change) -> tuple[Deferred[None], Deferred[None], Deferred[Any]]:
        """Changes a room: fires when it is locked, waits until it is let go on, ends."""
        locked: Deferred[None] = Deferred()
        gate: Deferred[None] = Deferred()

        async def decide(_: Room, facts: Facts) -> Change:
            locked.callback(None)
            await gate
            return change

        return locked, gate, Deferred.fromCoroutine(store.change(SERVER, room, decide))

    async def test_the_second_sees_what_the_first_has_made(self) -> None:
        made = await self.make()
        locked, gate, first = self.hold(await self.other(), LOBBY, Change({ANN: OWNER, DAN: MEMBER}, {"a": "b"}, "2"))
        await locked
        second = Deferred.fromCoroutine(self.store.change(SERVER, LOBBY, adds(BEN, version="3")))
        await self.waiting(second)
        self.assertEqual(made, await self.store.load(SERVER, LOBBY))
        gate.callback(None)
        (_, between), result = await first, await second
        assert result is not None
        expected = Room(LOBBY, made.number, "3", {ANN: OWNER, BEN: MEMBER, DAN: MEMBER}, {"a": "b"})
        self.assertEqual((between, expected), result)
        self.assertEqual(expected, await self.store.load(SERVER, LOBBY))

    async def test_the_room_goes_while_others_wait_for_it(self) -> None:
        await self.make()
        locked, gate, first = self.hold(await self.other(), LOBBY, Change({}))
        await locked
        second = Deferred.fromCoroutine(self.store.change(SERVER, LOBBY, refuses))
        await self.waiting(second)
        gate.callback(None)
        await first
        self.assertIsNone(await second)

    async def test_a_removed_room_is_given_as_it_was_last(self) -> None:
        await self.make()
        locked, gate, first = self.hold(await self.other(), LOBBY, Change({ANN: OWNER, DAN: MEMBER}, version="2"))
        await locked
        removed = Deferred.fromCoroutine(self.store.remove(SERVER, LOBBY))
        await self.waiting(removed)
        gate.callback(None)
        self.assertEqual((await first)[1], await removed)

    async def test_another_room_does_not_wait(self) -> None:
        await self.make()
        await self.make(BALCONY)
        locked, gate, first = self.hold(await self.other(), LOBBY, Change(version="2"))
        await locked
        self.assertIsNotNone(await self.store.change(SERVER, BALCONY, adds(DAN)))
        gate.callback(None)
        await first

    async def test_nothing_is_lost(self) -> None:
        await self.make()
        stores = [self.store, await self.other()]
        users = [JID(f"user{number}", SERVER) for number in range(24)]
        await gatherResults(
            [
                Deferred.fromCoroutine(stores[number % 2].change(SERVER, LOBBY, adds(user, version=user.full)))
                for number, user in enumerate(users)
            ]
        )
        room = await self.store.load(SERVER, LOBBY)
        assert room is not None
        self.assertEqual({ANN, BEN, CAT, *users}, set(room.members))


class NotificationTests(StoreTestCase):
    async def listen(self) -> None:
        self.received: DeferredQueue[str] = DeferredQueue()
        notifications = Notifications(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(notifications.stop)
        notifications.subscribe(CHANNEL, self.received.put)
        await notifications.start()

    async def notified(self) -> list[str]:
        """What has been notified since the last time."""
        await self.db.query("SELECT pg_notify(%s, 'end')", (CHANNEL,))
        payloads = []
        while (payload := await self.received.get()) != "end":
            payloads.append(payload)
        return payloads

    async def test_each_change_is_told(self) -> None:
        await self.listen()
        await self.make()
        self.assertEqual([f"1 {LOBBY.full}"], await self.notified())
        for change in (Change(version="2"), Change(TRIO, version="3"), Change({})):
            await self.store.change(SERVER, LOBBY, gives(change))
            self.assertEqual([f"{change.version} {LOBBY.full}"], await self.notified())
        await self.store.finish_removal(SERVER, LOBBY, nothing)
        await self.make()
        await self.store.remove(SERVER, LOBBY)
        self.assertEqual([f"1 {LOBBY.full}", f" {LOBBY.full}"], await self.notified())

    async def test_nothing_is_told_when_nothing_has_changed(self) -> None:
        await self.make()
        await self.listen()
        await self.store.load(SERVER, LOBBY)
        await self.store.change(SERVER, LOBBY, gives(None))
        await self.store.remove(SERVER, BALCONY)
        with self.assertRaises(RoomExists):
            await self.make()
        for refused in (self.store.change(SERVER, LOBBY, refuses), self.store.create(SERVER, BALCONY, "1", refuses)):
            with self.assertRaises(Refusal):
                await refused
        self.assertEqual([], await self.notified())

    async def test_nothing_is_told_of_a_change_that_is_rolled_back(self) -> None:
        await self.make()
        await self.listen()

        class Dying(Recorded):
            """Fails after the last statement, before the commit."""

            async def transaction(self, work: Any) -> Any:
                async def failing(transaction: Any) -> None:
                    await work(transaction)
                    raise Refusal

                return await self.database.transaction(failing)

        dying = RoomStore(Dying(self.db))  # type: ignore[arg-type]
        for call in (
            dying.change(SERVER, LOBBY, adds(DAN)),
            dying.remove(SERVER, LOBBY),
            dying.create(SERVER, BALCONY, "1", new(TRIO)),
        ):
            with self.assertRaises(Refusal):
                await call
        self.assertEqual([], await self.notified())

    async def test_the_longest_address_fits(self) -> None:
        await self.listen()
        room = JID("\U00010400" * 255, ".".join(["x" * 63] * 15))
        await self.make(room)
        self.assertEqual([f"1 {room.full}"], await self.notified())
