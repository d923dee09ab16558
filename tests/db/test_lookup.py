"""LookupCombiner: look-ups of one moment are one statement, and everybody gets the own rows."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg2.errors
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dynxmpp.db.lookup import LookupCombiner
from dynxmpp.db.migrations import Migration
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.postgres import DatabaseTestCase

Rows = list[tuple[Any, ...]]


class Gate:
    """A pool whose statements wait until the test answers them."""

    def __init__(self) -> None:
        self.statements: list[list[Any]] = []
        self.waiting: list[Deferred[Rows]] = []
        #: What is to be called at the end of the reactor's turn; None: each is a turn of its own.
        self.turn: list[Callable[[], None]] | None = None

    async def query(self, sql: str, params: Sequence[object] = ()) -> Rows:
        self.statements.append(list(params))
        deferred: Deferred[Rows] = Deferred()
        self.waiting.append(deferred)
        return await deferred

    def call_soon(self, function: Callable[[], None]) -> None:
        if self.turn is None:
            function()
        else:
            self.turn.append(function)


class Combining(TestCase):
    def setUp(self) -> None:
        self.gate = Gate()
        self.combiner = LookupCombiner(self.gate, "SELECT", max_rows=3, max_in_flight=2)

    def ask(self, *params: object) -> Deferred[Rows]:
        return Deferred.fromCoroutine(self.combiner.lookup(params))

    def fill_flights(self) -> list[Deferred[Rows]]:
        """Two look-ups that keep all statements busy."""
        return [self.ask("first"), self.ask("second")]

    def test_at_once_when_idle(self) -> None:
        asked = self.ask(1, "a")
        self.assertEqual([["{1}", '{"a"}']], self.gate.statements)
        self.gate.waiting[0].callback([(1, "x", 2), (1, "y", 3)])
        self.assertEqual([("x", 2), ("y", 3)], self.successResultOf(asked))

    def test_a_database_that_is_away_fails_all_who_were_in_line(self) -> None:
        """Each statement has a time-out of its own: nobody waits for one after the other."""
        self.combiner = LookupCombiner(self.gate, "SELECT", max_rows=1)
        first = self.ask("first")
        behind = [self.ask(n) for n in range(3)]
        self.gate.waiting[0].errback(Unavailable("away"))
        self.failureResultOf(first, Unavailable)
        later = self.ask("later")
        self.gate.waiting[1].errback(Unavailable("away"))
        for asked in behind:
            self.failureResultOf(asked, Unavailable)
        self.assertEqual(['{"later"}'], self.gate.statements[-1])
        self.gate.waiting[2].callback([(1, "x")])
        self.assertEqual([("x",)], self.successResultOf(later))

    def test_other_failures_are_those_of_one_statement(self) -> None:
        self.combiner = LookupCombiner(self.gate, "SELECT", max_rows=1)
        first, behind = self.ask("first"), self.ask("behind")
        self.gate.waiting[0].errback(ZeroDivisionError())
        self.failureResultOf(first, ZeroDivisionError)
        self.gate.waiting[1].callback([(1, "x")])
        self.assertEqual([("x",)], self.successResultOf(behind))

    def test_who_asks_in_the_same_turn_shares_a_statement(self) -> None:
        self.gate.turn = []
        asked = [self.ask(n) for n in (1, 2)]
        self.assertEqual([], self.gate.statements)
        [end] = self.gate.turn
        end()
        self.assertEqual([["{1,2}"]], self.gate.statements)
        self.gate.waiting.pop().callback([(2, "b"), (1, "a")])
        self.assertEqual([[("a",)], [("b",)]], [self.successResultOf(one) for one in asked])

    def test_what_comes_meanwhile_is_one_statement(self) -> None:
        self.fill_flights()
        asked = [self.ask(n, str(n)) for n in (1, 2, 3)]
        self.assertEqual([['{"first"}'], ['{"second"}']], self.gate.statements)
        self.gate.waiting[0].callback([])
        self.assertEqual(["{1,2,3}", '{"1","2","3"}'], self.gate.statements[2])
        self.gate.waiting[2].callback([(3, "c"), (1, "a"), (3, "d")])
        self.assertEqual([[("a",)], [], [("c",), ("d",)]], [self.successResultOf(one) for one in asked])

    def test_a_statement_is_bounded(self) -> None:
        self.fill_flights()
        for n in range(5):
            self.ask(n)
        self.gate.waiting[0].callback([])
        self.assertEqual(["{0,1,2}"], self.gate.statements[2])
        self.gate.waiting[1].callback([])
        self.assertEqual(["{3,4}"], self.gate.statements[3])

    def test_an_error_reaches_everybody_of_its_statement(self) -> None:
        first, second = self.fill_flights()
        asked = [self.ask(n) for n in (1, 2)]
        self.gate.waiting[0].callback([])
        self.gate.waiting[2].errback(ValueError("broken"))
        for one in asked:
            self.failureResultOf(one, ValueError)
        self.assertEqual([], self.successResultOf(first))
        self.assertNoResult(second)
        # And the next one is asked again.
        self.gate.waiting[1].callback([])
        again = self.ask(3)
        self.gate.waiting[3].callback([(1, "x")])
        self.assertEqual([("x",)], self.successResultOf(again))

    def test_who_is_cancelled_while_waiting_is_not_asked_for(self) -> None:
        self.fill_flights()
        gone, stays = self.ask("gone"), self.ask("stays")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.waiting[0].callback([])
        self.assertEqual(['{"stays"}'], self.gate.statements[2])
        self.gate.waiting[2].callback([(1, "x")])
        self.assertEqual([("x",)], self.successResultOf(stays))

    def test_who_is_cancelled_under_way_takes_nobody_along(self) -> None:
        self.fill_flights()
        gone, stays = self.ask("gone"), self.ask("stays")
        self.gate.waiting[0].callback([])
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.waiting[2].callback([(1, "x"), (2, "y")])
        self.assertEqual([("y",)], self.successResultOf(stays))

    def test_all_cancelled_is_no_statement(self) -> None:
        self.fill_flights()
        gone = self.ask("gone")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.waiting[0].callback([])
        self.assertEqual(2, len(self.gate.statements))

    def test_asking_again_from_the_answer(self) -> None:
        asked = self.ask(1)
        again: list[Deferred[Rows]] = []
        asked.addCallback(lambda rows: again.append(self.ask(2)))
        self.gate.waiting[0].callback([])
        self.gate.waiting[1].callback([(1, "x")])
        self.assertEqual([("x",)], self.successResultOf(again[0]))


class OnPostgreSQL(DatabaseTestCase):
    migrations = (Migration("test", 1, "numbers", "CREATE TABLE numbers (owner text, id bigint PRIMARY KEY)"),)
    sql = """
        SELECT q.n, found.id FROM unnest(%s::text[], %s::int[]) WITH ORDINALITY AS q (owner, size, n)
        CROSS JOIN LATERAL (SELECT id FROM numbers WHERE owner = q.owner ORDER BY id DESC LIMIT q.size) AS found
    """

    async def test_pages_of_many(self) -> None:
        await self.db.execute("INSERT INTO numbers SELECT 'o' || id % 10, id FROM generate_series(0, 99) AS id")
        combiner = LookupCombiner(self.db, self.sql)
        asked = [Deferred.fromCoroutine(combiner.lookup((f"o{n}", n))) for n in range(11)]
        expected = [[(90 - 10 * k + n,) for k in range(n)] for n in range(10)]
        self.assertEqual([*expected, []], await gatherResults(asked))

    async def test_errors_of_sql(self) -> None:
        combiner = LookupCombiner(self.db, self.sql)
        with self.assertRaises(psycopg2.errors.InvalidTextRepresentation):
            await combiner.lookup(("o1", "many"))
        self.assertEqual([], await combiner.lookup(("o1", None)))
