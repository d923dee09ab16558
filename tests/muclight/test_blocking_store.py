"""Blocking lists in the database, and who of those to be added has one that matters."""

from twisted.internet.defer import Deferred, gatherResults

from dynxmpp.module import JID, Transaction
from dynxmpp.modules.muc_light.requests import Blocked, BlockingItem
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.store import Facts
from tests.muclight.stores import ANN, BALCONY, BEN, CAT, DAN, LOBBY, SERVER, Refusal, StoreTestCase
from tests.protocol.support import HOSTILE_LOCALPARTS

ROOM, USER = Blocked.ROOM, Blocked.USER


def deny(jid: JID, kind: Blocked = USER) -> BlockingItem:
    return BlockingItem(kind, jid, deny=True)


def allow(jid: JID, kind: Blocked = USER) -> BlockingItem:
    return BlockingItem(kind, jid, deny=False)


class BlockingTests(StoreTestCase):
    async def test_denied_and_allowed(self) -> None:
        self.assertEqual([], await self.store.blocking(BEN))
        await self.store.change_blocking(BEN, [deny(CAT), deny(LOBBY, ROOM), deny(ANN), deny(BALCONY, ROOM)])
        expected = [(ROOM, BALCONY), (ROOM, LOBBY), (USER, ANN), (USER, CAT)]
        self.assertEqual(expected, await self.store.blocking(BEN))
        await self.store.change_blocking(BEN, [allow(ANN), deny(DAN), allow(BALCONY, ROOM)])
        self.assertEqual([(ROOM, LOBBY), (USER, CAT), (USER, DAN)], await self.store.blocking(BEN))
        self.assertEqual([], await self.store.blocking(JID("ben", "montague.example")))

    async def test_a_room_and_a_user_of_one_address_are_two(self) -> None:
        await self.store.change_blocking(BEN, [deny(LOBBY, ROOM), deny(LOBBY, USER)])
        await self.store.change_blocking(BEN, [allow(LOBBY, USER)])
        self.assertEqual([(ROOM, LOBBY)], await self.store.blocking(BEN))

    async def test_what_is_so_already(self) -> None:
        await self.store.change_blocking(BEN, [deny(ANN), allow(CAT)])
        await self.store.change_blocking(BEN, [deny(ANN), deny(ANN), allow(CAT)])
        await self.store.change_blocking(BEN, [])
        self.assertEqual([(USER, ANN)], await self.store.blocking(BEN))

    async def test_the_last_of_several_counts(self) -> None:
        await self.store.change_blocking(BEN, [deny(ANN), allow(ANN), allow(CAT), deny(CAT)])
        self.assertEqual([(USER, CAT)], await self.store.blocking(BEN))

    async def test_forgotten(self) -> None:
        for user in (BEN, CAT):
            await self.store.change_blocking(user, [deny(ANN), deny(LOBBY, ROOM)])
        await self.store.forget_blocking(BEN)
        self.assertEqual([], await self.store.blocking(BEN))
        self.assertEqual(2, len(await self.store.blocking(CAT)))

    async def test_the_same_entries_in_different_orders(self) -> None:
        other = await self.other()
        held: Deferred[None] = Deferred()
        gate: Deferred[None] = Deferred()

        async def hold(transaction: Transaction) -> None:
            # Who adds CAT too waits for us, and has added what stands before it.
            values = (BEN.domain, BEN.local, USER, CAT.full)
            await transaction.execute("INSERT INTO muc_light_blocking VALUES (%s, %s, %s, %s)", values)
            held.callback(None)
            await gate
            raise Refusal

        holder = Deferred.fromCoroutine(self.db.transaction(hold))
        await held
        first = Deferred.fromCoroutine(self.store.change_blocking(BEN, [deny(ANN), deny(CAT), deny(DAN)]))
        await self.waiting(first)
        second = Deferred.fromCoroutine(other.change_blocking(BEN, [deny(DAN), deny(CAT), deny(ANN)]))
        await self.waiting(first, second)
        gate.callback(None)
        await self.assertFailure(holder, Refusal)
        await gatherResults([first, second])
        self.assertEqual([(USER, ANN), (USER, CAT), (USER, DAN)], await self.store.blocking(BEN))

    async def test_names_that_look_like_sql(self) -> None:
        people = [JID(name, SERVER) for name in HOSTILE_LOCALPARTS]
        for user in people:
            await self.store.change_blocking(user, [deny(jid, kind) for jid in people for kind in Blocked])
            await self.store.change_blocking(user, [allow(jid, ROOM) for jid in people])
        for user in people:
            self.assertEqual({(USER, jid) for jid in people}, set(await self.store.blocking(user)))
        await self.store.forget_blocking(people[0])
        self.assertEqual(set(people[1:]), await self.blockers(people, people[-1]))

    async def blockers(self, candidates: list[JID], requester: JID, room: JID = LOBBY) -> set[JID]:
        found: set[JID] = set()
        if await self.store.load(SERVER, room) is None:
            await self.make(room)

        async def decide(_: Room, facts: Facts) -> None:
            found.update(await facts.blockers((jid for jid in candidates), requester=requester, room=room))

        await self.store.change(SERVER, room, decide)
        return found

    async def test_who_blocks_the_requester_or_the_room(self) -> None:
        await self.store.change_blocking(BEN, [deny(ANN), deny(LOBBY, ROOM)])
        await self.store.change_blocking(CAT, [deny(BALCONY, ROOM), deny(DAN)])
        # Entries of the other kind do not count.
        await self.store.change_blocking(DAN, [deny(LOBBY, USER), deny(ANN, ROOM)])
        everybody = [BEN, CAT, DAN]
        self.assertEqual({BEN}, await self.blockers(everybody, ANN))
        self.assertEqual({BEN, CAT}, await self.blockers(everybody, DAN))
        self.assertEqual({BEN, CAT}, await self.blockers(everybody, ANN.with_resource("x"), BALCONY))
        self.assertEqual({BEN, CAT}, await self.blockers(everybody, ANN, BALCONY))
        self.assertEqual({CAT}, await self.blockers([CAT], CAT, BALCONY))
        self.assertEqual(set(), await self.blockers([JID("ben", "montague.example")], ANN))

    async def test_no_question_without_candidates(self) -> None:
        await self.make()
        self.recorded.statements.clear()
        self.assertEqual(set(), await self.blockers([], ANN))
        self.assertEqual(2, len(self.recorded.statements))
