"""Which rooms there are, and what a decision may ask about accounts: limits of rooms."""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.store import Change, Decide, Facts
from tests.muclight.stores import ANN, BALCONY, BEN, CAT, DAN, LOBBY, MEMBER, OWNER, SERVER, SERVICE, StoreTestCase, new
from tests.protocol.support import HOSTILE_LOCALPARTS

OTHER = "montague.example"
OTHER_SERVICE = f"muclight.{OTHER}"
UNLIMITED = float("inf")


class ListingTests(StoreTestCase):
    async def test_rooms_of_a_user(self) -> None:
        for name in ("b", "a", "a!"):
            await self.make(JID(name, SERVICE))
        await self.make(JID("c", SERVICE), {DAN: OWNER})
        await self.make(JID("d", f"rooms.{SERVER}"))
        await self.make(JID("e", OTHER_SERVICE), server=OTHER)
        rooms = await self.store.rooms_of(SERVER, SERVICE, ANN)
        self.assertEqual([f"{name}@{SERVICE}" for name in ("a!", "a", "b")], [room.full for room in rooms])
        self.assertEqual([JID("e", OTHER_SERVICE)], await self.store.rooms_of(OTHER, OTHER_SERVICE, ANN))
        self.assertEqual([], await self.store.rooms_of(OTHER, SERVICE, ANN))
        for stranger in (JID("ann", OTHER), JID(None, SERVER)):
            self.assertEqual([], await self.store.rooms_of(SERVER, SERVICE, stranger))

    async def test_all_rooms_of_a_user(self) -> None:
        await self.make(config={"roomname": "x"})
        await self.make(BALCONY, {DAN: OWNER})
        await self.make(JID("e", OTHER_SERVICE), server=OTHER)
        expected = [(SERVER, LOBBY), (OTHER, JID("e", OTHER_SERVICE))]
        self.assertEqual(expected, await self.store.all_rooms_of(ANN))
        described = [(LOBBY, "1", {"roomname": "x"}), (JID("e", OTHER_SERVICE), "1", {})]
        self.assertEqual(described, await self.store.described_rooms_of(ANN))
        self.assertEqual([], await self.store.all_rooms_of(JID("ann", OTHER)))

    async def test_described(self) -> None:
        await self.make(config={"roomname": "Lobby"})
        await self.make(BALCONY)
        await self.make(JID("e", OTHER_SERVICE), server=OTHER)
        self.recorded.statements.clear()
        gone = JID("gone", SERVICE)
        described = await self.store.describe(SERVER, SERVICE, [gone, LOBBY, JID("e", SERVICE)])
        self.assertEqual({LOBBY: ("1", {"roomname": "Lobby"})}, described)
        self.assertEqual(1, len(self.recorded.statements))
        self.assertEqual({}, await self.store.describe(SERVER, SERVICE, []))
        self.assertEqual(1, len(self.recorded.statements))

    async def test_listed(self) -> None:
        for name in ("b", "a", "a!", "\xe4", "z"):
            await self.make(JID(name, SERVICE))
        await self.make(JID("e", OTHER_SERVICE), server=OTHER)

        async def names(after: str | None, limit: int) -> list[str | None]:
            return [room.local for room in await self.store.list_rooms(SERVER, SERVICE, after, limit)]

        self.assertEqual(["a", "a!"], await names(None, 2))
        self.assertEqual(["b", "z", "\xe4"], await names("a!", 10))
        self.assertEqual(["b"], await names("aa", 1))
        self.assertEqual([], await names("\xe4", 10))

    async def test_rooms_elsewhere_with_accounts_of_a_domain(self) -> None:
        elsewhere = JID("e", OTHER_SERVICE)
        await self.make()
        await self.make(elsewhere, server=OTHER)
        await self.make(JID("f", OTHER_SERVICE), {JID("x", OTHER): OWNER}, server=OTHER)
        await self.make(JID("g", OTHER_SERVICE), {ANN: OWNER}, server=OTHER)
        expected = [(OTHER, elsewhere), (OTHER, JID("g", OTHER_SERVICE))]
        found, last = await self.store.rooms_with_domain(SERVER, 0, 10)
        self.assertEqual(expected, found)
        self.assertEqual(([], last), await self.store.rooms_with_domain(SERVER, last, 10))
        found, first = await self.store.rooms_with_domain(SERVER, 0, 1)
        self.assertEqual(expected[:1], found)
        self.assertEqual((expected[1:], last), await self.store.rooms_with_domain(SERVER, first, 10))
        self.assertEqual(([], 0), await self.store.rooms_with_domain(OTHER, 0, 10))

    async def test_names_that_look_like_sql(self) -> None:
        rooms = sorted((JID(name, SERVICE) for name in HOSTILE_LOCALPARTS), key=lambda room: room.local or "")
        for room in rooms:
            await self.make(room, {JID(room.local, OTHER): OWNER})
            self.assertEqual([(SERVER, room)], await self.store.all_rooms_of(JID(room.local, OTHER)))
        self.assertEqual(set(rooms), set(await self.store.describe(SERVER, SERVICE, rooms)))
        for number, room in enumerate(rooms):
            self.assertEqual(rooms[number + 1 :], await self.store.list_rooms(SERVER, SERVICE, room.local, 99))


class LimitTests(StoreTestCase):
    async def full(self, candidates: list[JID], limit: float, room: JID = LOBBY) -> set[JID]:
        found: set[JID] = set()

        async def decide(room: Room, facts: Facts) -> None:
            found.update(await facts.full(candidates, limit))

        await self.store.change(SERVER, room, decide)
        return found

    async def test_who_is_in_enough_rooms(self) -> None:
        await self.make()
        await self.make(BALCONY, {ANN: MEMBER, BEN: OWNER})
        await self.make(JID("e", OTHER_SERVICE), {ANN: OWNER}, server=OTHER)
        everybody = [DAN, CAT, BEN, ANN]
        for limit, expected in ((1, {ANN, BEN, CAT}), (2, {ANN, BEN}), (3, {ANN}), (4, set()), (2.0, {ANN, BEN})):
            self.assertEqual(expected, await self.full(everybody, limit))
        self.assertEqual({CAT}, await self.full([CAT, DAN], 1))

    async def test_no_question_without_a_limit_or_a_candidate(self) -> None:
        await self.make()
        for candidates, limit in (([ANN], UNLIMITED), ([], 1)):
            self.recorded.statements.clear()
            self.assertEqual(set(), await self.full(candidates, limit))
            self.assertEqual(1, len(self.recorded.statements))

    async def test_asked_when_a_room_is_made(self) -> None:
        await self.make()

        async def decide(facts: Facts) -> Any:
            full = await facts.full([ANN, DAN], 1)
            return {DAN: OWNER} if full == {ANN} else {}, {}

        made = await self.store.create(SERVER, BALCONY, "1", decide)
        self.assertEqual({DAN: OWNER}, made.members)

    async def test_asked_twice(self) -> None:
        await self.make()

        async def decide(room: Room, facts: Facts) -> None:
            await facts.full([ANN], 1)
            await facts.full([BEN], 1)

        with self.assertRaises(RuntimeError):
            await self.store.change(SERVER, LOBBY, decide)

    def adds(self, users: list[JID], limit: float, gate: Deferred[None] | None = None) -> Decide:
        """Adds those who may be; says so with the first gate that is given and waits for it."""

        async def decide(room: Room, facts: Facts) -> Change:
            full = await facts.full(users, limit)
            if gate is not None:
                self.asked.callback(None)
                await gate
            return Change({**room.members, **{user: MEMBER for user in users if user not in full}}, version="2")

        self.asked: Deferred[None] = Deferred()
        return decide

    async def test_added_to_two_rooms_at_once(self) -> None:
        await self.make()
        await self.make(BALCONY)
        other = await self.other()
        gate: Deferred[None] = Deferred()
        first = Deferred.fromCoroutine(other.change(SERVER, LOBBY, self.adds([DAN], 1, gate)))
        await self.asked
        second = Deferred.fromCoroutine(self.store.change(SERVER, BALCONY, self.adds([DAN], 1)))
        await self.waiting(second)
        gate.callback(None)
        await gatherResults([first, second])
        self.assertEqual([LOBBY], await self.store.rooms_of(SERVER, SERVICE, DAN))

    async def test_two_rooms_that_get_the_same_users_do_not_wait_for_each_other(self) -> None:
        users = [JID(f"user{number}", SERVER) for number in range(10)]
        for room in (LOBBY, BALCONY, JID("third", SERVICE)):
            await self.make(room)
        other = await self.other()
        gate: Deferred[None] = Deferred()
        # The first user is locked by somebody: both wait, and the one who begins with the others has got those.
        holder = Deferred.fromCoroutine(other.change(SERVER, JID("third", SERVICE), self.adds(users[:1], 9, gate)))
        await self.asked
        first = Deferred.fromCoroutine(other.change(SERVER, LOBBY, self.adds(users, 9)))
        await self.waiting(first)
        second = Deferred.fromCoroutine(self.store.change(SERVER, BALCONY, self.adds(users[::-1], 9)))
        await self.waiting(first, second)
        gate.callback(None)
        await gatherResults([holder, first, second])
        self.assertEqual([BALCONY, LOBBY], await self.store.rooms_of(SERVER, SERVICE, users[1]))

    async def test_rooms_are_changed_and_made_with_the_same_users_all_the_time(self) -> None:
        users = [JID(f"user{number}", SERVER) for number in range(6)]
        rooms = [JID(f"room{number}", SERVICE) for number in range(6)]
        for room in rooms:
            await self.make(room)
        stores = [self.store, await self.other()]
        changes = [
            Deferred.fromCoroutine(
                stores[turn % 2].change(SERVER, rooms[turn % 6], self.adds(users[turn % 5 :] + users[: turn % 5], 99))
            )
            for turn in range(24)
        ]
        made = [
            Deferred.fromCoroutine(
                stores[turn % 2].create(SERVER, JID(f"new{turn}", SERVICE), "1", new(dict.fromkeys(users, MEMBER)))
            )
            for turn in range(6)
        ]
        await gatherResults(changes)
        await gatherResults(made)
        for user in users:
            self.assertEqual(12, len(await self.store.rooms_of(SERVER, SERVICE, user)))
