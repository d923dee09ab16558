"""Writing rows: in batches, seen by readers, with tickets that tell the truth."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.commit import CommitTicket
from dynxmpp.jid import JID
from dynxmpp.modules.mam.config import AsyncWriter
from dynxmpp.modules.mam.ids import ArchiveIds
from dynxmpp.modules.mam.schema import MIGRATIONS
from dynxmpp.modules.mam.store import MAX_WAITING, ArchiveStore
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.postgres import DatabaseTestCase

REMOTE = JID.parse("romeo@montague.example/orchard")
STANZA = b"<message xmlns='jabber:client' id='1'><body>hi</body></message>"


class Slow:
    """A database whose statements end when the test says so."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.running: list[Deferred[None]] = []

    async def execute(self, sql: str, params: Any = ()) -> int:
        self.batches.append(params[0].count(",") + 1)  # {1,1,2}: the archives' numbers
        done: Deferred[None] = Deferred()
        self.running.append(done)
        await done
        return self.batches[-1]


class Batches(TestCase):
    def make(self, **options: Any) -> ArchiveStore:
        self.clock = Clock()
        self.database = Slow()
        store = ArchiveStore(
            self.database,  # type: ignore[arg-type]
            self.clock,
            ArchiveIds(self.clock, lambda: 0),
            AsyncWriter(**options),
        )
        self.addCleanup(self.finish)
        return store

    def finish(self) -> None:
        while self.database.running:
            self.database.running.pop(0).callback(None)

    def write(self, store: ArchiveStore, archive: int = 1, count: int = 1) -> list[CommitTicket]:
        tickets = [CommitTicket() for _ in range(count)]
        for ticket in tickets:
            store.write(archive, store.ids.next(), REMOTE, STANZA, ticket, source=REMOTE.full)
        return tickets

    def test_rows_gather_while_a_batch_is_in_flight(self) -> None:
        store = self.make()
        self.write(store)
        self.clock.advance(0.002)
        self.write(store, count=150)
        self.database.running.pop(0).callback(None)
        self.assertEqual([1, 150], self.database.batches)

    def test_sizes(self) -> None:
        for wanted, largest in [(1, 30), (100, 100), (100_000, 500)]:
            with self.subTest(batch_size=wanted):
                store = self.make(batch_size=wanted)
                self.write(store, count=600)
                self.clock.advance(0.002)
                self.assertEqual([largest], self.database.batches)
                self.finish()

    def test_the_interval_is_an_upper_bound(self) -> None:
        for options, seconds in [({"flush_interval": 1}, 0.001), ({"flush_interval": 0}, 0), ({"enabled": False}, 0)]:
            with self.subTest(options=options):
                store = self.make(**options)
                self.write(store)
                self.clock.advance(seconds)
                self.assertEqual([1], self.database.batches)
                self.finish()

    def test_readers_wait_for_their_archive_only(self) -> None:
        store = self.make()
        self.write(store, archive=1)
        waits = Deferred.fromCoroutine(store.written(1))
        self.successResultOf(Deferred.fromCoroutine(store.written(2)))
        self.assertNoResult(waits)
        self.clock.advance(0.002)
        self.write(store, archive=1)  # taken after the reader came
        self.assertNoResult(waits)
        self.database.running.pop(0).callback(None)
        self.successResultOf(waits)
        later = Deferred.fromCoroutine(store.written(1))
        self.assertNoResult(later)
        self.finish()
        self.successResultOf(later)
        self.successResultOf(Deferred.fromCoroutine(store.written(1)))
        self.assertEqual({}, store._pending)

    def test_too_much_that_waits_is_refused(self) -> None:
        store = self.make()
        with self.assertRaises(Unavailable):
            self.write(store, count=MAX_WAITING + 1)
        self.clock.advance(0.002)
        while self.database.running:
            self.database.running.pop(0).callback(None)
        self.assertEqual({}, store._pending)


class Rows(DatabaseTestCase):
    migrations = MIGRATIONS

    async def setUp(self) -> None:
        await super().setUp()
        self.store = ArchiveStore(
            self.db,
            reactor,  # type: ignore[arg-type]
            ArchiveIds(reactor, lambda: 7),  # type: ignore[arg-type]
            AsyncWriter(),
        )
        self.addCleanup(self.store.stop)

    async def test_all_of_a_row(self) -> None:
        ticket = CommitTicket()
        first, second = self.store.ids.next(), self.store.ids.next()
        self.store.write(
            3, first, REMOTE, STANZA, ticket, source="a@b/c", outgoing=True, groupchat=True, origin_id="o'1"
        )
        self.store.write(3, second, None, STANZA, ticket, source="room@b")
        self.assertFalse(ticket.settled)
        await self.store.written(3)
        self.assertTrue(ticket.committed)
        rows = await self.db.query("SELECT * FROM mam_message ORDER BY id")
        self.assertEqual(
            [
                (3, first, "romeo@montague.example", "orchard", True, True, "a@b/c", "o'1", STANZA.decode()),
                (3, second, "", "", False, False, "room@b", None, STANZA.decode()),
            ],
            rows,
        )

    async def test_a_row_that_is_there_already_is_no_mistake(self) -> None:
        tickets = [CommitTicket(), CommitTicket()]
        for ticket in tickets:
            self.store.write(3, 1, REMOTE, STANZA, ticket, source="a@b/c")
        await self.store.flush()
        self.assertEqual([True, True], [ticket.committed for ticket in tickets])
        self.assertEqual([(1,)], await self.db.query("SELECT count(*) FROM mam_message"))

    async def test_a_bad_row_fails_alone(self) -> None:
        tickets = {text: CommitTicket() for text in ("good", "b\0ad", "fine")}
        for number, (text, ticket) in enumerate(tickets.items()):
            self.store.write(3, number, REMOTE, STANZA, ticket, source=text)
        await self.store.written(3)
        self.assertEqual([True, False, True], [ticket.committed for ticket in tickets.values()])
        self.assertTrue(tickets["b\0ad"].settled)
        self.assertEqual({}, self.store._pending)

    async def test_what_was_taken_is_written_at_the_end(self) -> None:
        ticket = CommitTicket()
        self.store.write(3, 1, REMOTE, STANZA, ticket, source="a@b/c")
        await self.store.stop()
        self.assertTrue(ticket.committed)
        with self.assertRaises(Unavailable):
            self.store.write(3, 2, REMOTE, STANZA, ticket, source="a@b/c")
