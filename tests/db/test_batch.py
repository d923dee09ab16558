"""BatchWriter: rows gather, are written together, and each is either committed or told to have failed."""

from collections.abc import Sequence
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.commit import CommitTicket
from dynxmpp.db.batch import BatchWriter
from dynxmpp.db.migrations import Migration
from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.postgres import DatabaseTestCase

TABLE = (Migration("test", 1, "rows", "CREATE TABLE kept (id int PRIMARY KEY, content text NOT NULL)"),)
INSERT = "INSERT INTO kept SELECT * FROM unnest(%s::int[], %s::text[]) ON CONFLICT DO NOTHING"


class Gate:
    """A pool whose statements wait until the test lets them go, or fail as it says."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.waiting: list[Deferred[int]] = []

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        self.batches.append(list(params))
        deferred: Deferred[int] = Deferred()
        self.waiting.append(deferred)
        return await deferred


class Gathering(TestCase):
    def setUp(self) -> None:
        self.gate = Gate()
        self.clock = Clock()
        self.writer = BatchWriter(self.gate, INSERT, clock=self.clock, max_rows=3, max_waiting=5)

    def write(self, number: int) -> CommitTicket:
        ticket = CommitTicket()
        self.writer.write((number, str(number)), ticket)
        return ticket

    def test_rows_of_one_moment_are_one_statement(self) -> None:
        tickets = [self.write(1), self.write(2)]
        self.assertEqual([], self.gate.batches)
        self.clock.advance(0.01)
        self.assertEqual([["{1,2}", '{"1","2"}']], self.gate.batches)
        self.assertEqual([False, False], [t.committed for t in tickets])
        self.gate.waiting.pop().callback(2)
        self.assertEqual([True, True], [t.committed for t in tickets])

    def test_what_comes_meanwhile_is_the_next_batch_in_order(self) -> None:
        self.write(1)
        self.clock.advance(0.01)
        for number in (2, 3, 4, 5):
            self.write(number)
        self.gate.waiting.pop().callback(1)
        self.assertEqual("{2,3,4}", self.gate.batches[1][0])
        self.gate.waiting.pop().callback(3)
        self.assertEqual("{5}", self.gate.batches[2][0])
        self.gate.waiting.pop().callback(1)

    def test_too_many_are_refused_and_the_ticket_is_untouched(self) -> None:
        for number in range(5):
            self.write(number)
        ticket = CommitTicket()
        self.assertRaises(Unavailable, self.writer.write, (9, "9"), ticket)
        self.assertTrue(ticket.committed)

    def test_a_batch_in_flight_counts(self) -> None:
        for number in range(5):
            self.write(number)
        self.clock.advance(0.01)
        self.assertRaises(Unavailable, self.write, 9)
        self.gate.waiting.pop().callback(3)
        self.write(6)

    def test_a_lost_connection_is_tried_again_with_the_same_rows(self) -> None:
        ticket = self.write(1)
        self.clock.advance(0.01)
        for pause in (0.1, 0.2, 0.4):
            self.gate.waiting.pop().errback(DatabaseUnavailable("away"))
            self.assertEqual([], self.gate.waiting)
            self.clock.advance(pause)
        self.assertEqual(4, len(self.gate.batches))
        self.assertFalse(ticket.settled)
        self.gate.waiting.pop().callback(1)
        self.assertTrue(ticket.committed)

    def test_flush_waits_for_what_was_taken(self) -> None:
        self.write(1)
        flushed = Deferred.fromCoroutine(self.writer.flush())
        self.clock.advance(0.01)
        self.assertNoResult(flushed)
        self.gate.waiting.pop().callback(1)
        self.successResultOf(flushed)
        self.successResultOf(Deferred.fromCoroutine(self.writer.flush()))

    def test_flush_does_not_wait_for_what_comes_later(self) -> None:
        self.write(1)
        flushed = Deferred.fromCoroutine(self.writer.flush())
        self.clock.advance(0.01)
        self.write(2)
        self.gate.waiting.pop().callback(1)
        self.successResultOf(flushed)
        self.assertEqual("{2}", self.gate.batches[1][0])
        self.gate.waiting.pop().callback(1)

    def test_bytes_are_bounded_too(self) -> None:
        writer = BatchWriter(self.gate, INSERT, clock=self.clock, max_waiting_bytes=100)
        writer.write((1, "1"), CommitTicket(), 60)
        self.assertRaises(Unavailable, writer.write, (2, "2"), CommitTicket(), 60)
        self.clock.advance(0.01)
        self.gate.waiting.pop().callback(1)
        writer.write((2, "2"), CommitTicket(), 60)

    def test_a_database_that_refuses_everything_is_waited_for(self) -> None:
        """A full disk or a standby is no fault of the rows: none may be lost for it."""
        tickets = [self.write(1), self.write(2)]
        self.clock.advance(0.01)
        for problem in (psycopg2.OperationalError("disk full"), psycopg2.InternalError("read-only")):
            self.gate.waiting.pop().errback(problem)
            self.assertEqual([False, False], [t.settled for t in tickets])
            self.clock.advance(1)
        self.gate.waiting.pop().callback(2)
        self.assertEqual([True, True], [t.committed for t in tickets])

    def test_stop_writes_what_it_can_and_fails_the_rest(self) -> None:
        ticket = self.write(1)
        self.clock.advance(0.01)
        self.gate.waiting.pop().errback(DatabaseUnavailable("away"))
        stopped = Deferred.fromCoroutine(self.writer.stop())
        self.assertRaises(Unavailable, self.write, 2)
        self.gate.waiting.pop().errback(DatabaseUnavailable("away"))
        self.successResultOf(stopped)
        self.assertTrue(ticket.settled)
        self.assertFalse(ticket.committed)


class Writing(DatabaseTestCase):
    migrations = TABLE

    def writer(self) -> BatchWriter:
        return BatchWriter(self.db, INSERT, clock=reactor)  # type: ignore[arg-type]

    async def test_a_thousand_rows(self) -> None:
        writer = self.writer()
        tickets = [CommitTicket() for _ in range(1000)]
        for number, ticket in enumerate(tickets):
            writer.write((number, f"row {number} '; DROP TABLE kept; --"), ticket)
        await writer.flush()
        self.assertTrue(all(t.committed for t in tickets))
        self.assertEqual([(1000, 999)], await self.db.query("SELECT count(*), max(id) FROM kept"))

    async def test_a_bad_row_fails_alone(self) -> None:
        writer = self.writer()
        good, bad, also_good, nul = CommitTicket(), CommitTicket(), CommitTicket(), CommitTicket()
        writer.write((1, "a"), good)
        writer.write((2, None), bad)
        writer.write((3, "c"), also_good)
        writer.write((4, "\x00"), nul)
        await writer.flush()
        self.assertEqual([True, False, True, False], [t.committed for t in (good, bad, also_good, nul)])
        self.assertEqual([(1,), (3,)], await self.db.query("SELECT id FROM kept ORDER BY id"))

    async def test_a_row_written_twice_is_there_once(self) -> None:
        writer = self.writer()
        first, again = CommitTicket(), CommitTicket()
        writer.write((1, "a"), first)
        writer.write((1, "a"), again)
        await writer.flush()
        self.assertTrue(first.committed and again.committed)
        self.assertEqual([(1,)], await self.db.query("SELECT count(*) FROM kept"))
