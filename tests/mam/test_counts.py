"""Counts: right whatever is remembered, and not dearer for a large archive."""

import random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from dynxmpp.module import Database
from dynxmpp.modules.mam.counts import EXTEND_S, FEW, IN_ORDER, SETTLED_S, STEP, Counts
from dynxmpp.modules.mam.lookup import Lookups
from dynxmpp.modules.mam.schema import MIGRATIONS
from dynxmpp.modules.mam.search import Search
from tests.fixtures.postgres import DatabaseTestCase

ARCHIVE = 7
_FILL = """
INSERT INTO mam_message (archive, id, remote, outgoing, groupchat, source, stanza)
SELECT %s, number::bigint * 1000000 << 8, 'r' || number %% 3, false, false, '', ''
FROM generate_series(%s, %s) AS number
"""


def id_of(number: int) -> int:
    """Message `number` came in at that second."""
    return number * 1_000_000 << 8


class Watched:
    """A database that remembers its statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statements: list[str] = []

    def call_soon(self, function: Any) -> None:
        self._database.call_soon(function)

    async def query(self, sql: str, params: Any = ()) -> Any:
        self.statements.append(sql)
        return await self._database.query(sql, params)

    @property
    def loads(self) -> int:
        """How often every 128th id was read."""
        return sum("row_number" in sql for sql in self.statements)


class CountsTests(DatabaseTestCase):
    migrations = MIGRATIONS

    async def setUp(self) -> None:
        await super().setUp()
        self.clock = Clock()
        self.watched = Watched(self.db)
        self.counts = Counts(self.watched, self.clock)  # type: ignore[arg-type]

    async def fill(self, first: int, last: int, archive: int = ARCHIVE) -> None:
        await self.db.execute(_FILL, (archive, first, last))

    async def between(self, low: int, high: int, remote: str | None = None, archive: int = ARCHIVE) -> int:
        """The count of messages `low` to `high`."""
        return await self.counts.between(archive, remote, id_of(low), id_of(high))

    def remembered(self, remote: str | None = None) -> int:
        found = self.counts._archives.get(ARCHIVE, {}).get(remote)
        return 0 if found is None else len(found.ids)

    # -- what is counted

    async def test_small_archives_are_walked(self) -> None:
        await self.fill(1, FEW)
        self.clock.advance(10_000)
        self.assertEqual(FEW, await self.between(0, 99_999))
        self.assertEqual(3, await self.between(5, 7))
        self.assertEqual(0, await self.between(7, 5))
        self.assertEqual((0, 0), (self.watched.loads, self.remembered()))

    async def test_any_range_of_a_large_one(self) -> None:
        await self.fill(1, 3000)
        self.clock.advance(10_000)
        self.assertEqual(3000, await self.between(0, 99_999))
        self.assertEqual(-(-3000 // STEP), self.remembered())
        random.seed(5)
        ends = [(random.randint(0, 3100), random.randint(0, 3100)) for _ in range(60)]
        ends += [(n * STEP + d, 3000) for n in (0, 1, 2, 23) for d in (-1, 0, 1, 2)]
        for low, high in ends:
            expected = max(0, min(high, 3000) - max(low, 1) + 1)
            self.assertEqual(expected, await self.between(max(low, 0), high), f"{low}..{high}")
        self.assertEqual(1, self.watched.loads)

    async def test_conversations(self) -> None:
        await self.fill(1, 3000)
        self.clock.advance(10_000)
        for low, high in ((0, 99_999), (1, 3000), (500, 2500), (1000, 1002), (2, 2)):
            for remote in range(3):
                expected = sum(n % 3 == remote for n in range(max(low, 1), min(high, 3000) + 1))
                self.assertEqual(expected, await self.between(low, high, f"r{remote}"))
        self.assertEqual(0, await self.between(0, 99_999, "stranger"))
        self.assertEqual((8, 0), (self.remembered("r1"), self.remembered()))

    async def test_other_archives(self) -> None:
        await self.fill(1, 1000)
        await self.fill(1, 700, archive=8)
        self.clock.advance(10_000)
        for archive, expected in ((7, 1000), (8, 700), (9, 0)):
            self.assertEqual(expected, await self.between(0, 99_999, archive=archive))

    async def test_an_archive_is_never_sorted(self) -> None:
        """Not even where the planner, who knows little of new tables, would rather read all and sort."""
        await self.fill(1, 3000)
        all_pages = Lookups(self.db, self.counts, Search(self.db, self.clock))._pages.values()
        statements = [(pages._sql, (ARCHIVE, "r1", 0, id_of(9999), 0, 51, 0, None, False)) for pages in all_pages]
        for walks in (self.counts._all, self.counts._conversation):
            statements += [(walk._sql, (ARCHIVE, "r1", 0, id_of(9999))) for walk in (walks.few, walks.walk)]
        for sql, params in statements:
            self.assertTrue(sql.startswith(IN_ORDER))
            explained = f"SET LOCAL random_page_cost = 1000; {IN_ORDER} EXPLAIN {sql.removeprefix(IN_ORDER)}"
            plan = "\n".join(line for (line,) in await self.db.query(explained, [[value] for value in params]))
            self.assertNotIn("Sort", plan)
        # The setting goes with its statement.
        self.assertEqual([("on",)], await self.db.query("SHOW enable_sort"))

    # -- places

    async def test_where_to_begin(self) -> None:
        await self.fill(1, 3000)
        self.clock.advance(10_000)
        for low, skip in ((1, 1000), (1, 2999), (0, 257), (500, 300), (500, 2400), (500, 9999), (2999, 500), (1, 10)):
            start, left = await self.counts.start(ARCHIVE, None, id_of(low), skip)
            rows = await self.db.query(
                "SELECT id FROM mam_message WHERE archive = %s AND id >= %s ORDER BY id OFFSET %s LIMIT 2",
                (ARCHIVE, start, left),
            )
            first = max(low, 1) + skip
            self.assertEqual([id_of(n) for n in (first, first + 1) if n <= 3000], [id_ for (id_,) in rows])
            if first <= 3000:
                self.assertLessEqual(left, FEW)

    # -- what is remembered

    async def test_what_is_new_is_not_remembered(self) -> None:
        await self.fill(1, 3000)
        self.clock.advance(1000 + SETTLED_S)
        self.assertEqual(3000, await self.between(0, 99_999))
        self.assertEqual(-(-999 // STEP), self.remembered())
        # One with a lower id, of a node that was slow.
        await self.db.execute(_FILL, (ARCHIVE, 3002, 3002))
        self.assertEqual(3001, await self.between(0, 99_999))
        await self.db.execute(_FILL, (ARCHIVE, 3001, 3001))
        self.assertEqual(3002, await self.between(0, 99_999))

    async def test_all_too_new(self) -> None:
        await self.fill(1, 1000)
        self.assertEqual(1000, await self.between(0, 99_999))
        self.assertEqual(500, await self.between(1, 500))
        self.assertEqual(0, self.remembered())

    async def test_it_grows_with_the_archive(self) -> None:
        await self.fill(1, 1000)
        self.clock.advance(1000 + SETTLED_S + 1)
        self.assertEqual(1000, await self.between(0, 99_999))
        before = self.remembered()
        await self.fill(1001, 3000)
        self.clock.advance(3000)
        self.assertEqual(3000, await self.between(0, 99_999))
        self.assertEqual(3000, await self.between(0, 99_999))
        self.assertEqual((8, -(-3000 // STEP)), (before, self.remembered()))
        self.assertEqual(2, self.watched.loads)
        for low, high in ((1, 1000), (900, 1100), (1000, 1001), (1024, 2048), (2999, 3001)):
            self.assertEqual(min(high, 3000) - low + 1, await self.between(low, high))

    async def test_it_is_looked_for_growth_once_in_a_while(self) -> None:
        await self.fill(1, 2000)
        self.clock.advance(1000 + SETTLED_S)
        for _ in range(3):
            await self.between(0, 99_999)
        self.assertEqual(1, self.watched.loads)
        self.clock.advance(EXTEND_S)
        await self.between(0, 99_999)
        self.assertEqual(2, self.watched.loads)

    async def test_messages_that_others_have_removed(self) -> None:
        """Another node keeps to its retention: the old end is gone, and nobody says so here."""
        await self.fill(1, 3000)
        self.clock.advance(10_000)
        self.assertEqual(3000, await self.between(0, 99_999))
        for gone in (1, 77, 1500):
            await self.db.execute("DELETE FROM mam_message WHERE id <= %s", (id_of(gone),))
            self.assertEqual(3000 - gone, await self.between(0, 99_999))
            self.assertEqual(501, await self.between(2000, 2500))
            self.assertEqual(500 - gone if gone < 500 else 0, await self.between(1, 500))
        await self.db.execute("DELETE FROM mam_message")
        self.assertEqual(0, await self.between(0, 99_999))

    async def test_forgotten(self) -> None:
        await self.fill(1, 1000)
        self.clock.advance(10_000)
        await self.between(0, 99_999)
        self.counts.forget(ARCHIVE)
        self.counts.forget(99)
        self.assertEqual((0, 0), (self.remembered(), self.counts._size))
        self.assertEqual(1000, await self.between(0, 99_999))

    async def test_memory_is_bounded(self) -> None:
        self.counts = Counts(self.watched, self.clock, max_remembered=20)  # type: ignore[arg-type]
        self.clock.advance(10_000)
        for archive in range(1, 6):
            await self.fill(1, 1000, archive=archive)
            self.assertEqual(1000, await self.between(0, 99_999, archive=archive))
        self.assertEqual(([4, 5], 16), (list(self.counts._archives), self.counts._size))
        self.assertEqual(1000, await self.between(0, 99_999, archive=1))
        self.assertEqual([5, 1], list(self.counts._archives))

    async def test_who_asks_at_once_shares_the_reading(self) -> None:
        await self.fill(1, 1000)
        self.clock.advance(10_000)
        asked = [Deferred.fromCoroutine(self.between(0, 99_999)) for _ in range(10)]
        self.assertEqual([1000] * 10, await gatherResults(asked))
        self.assertEqual(1, self.watched.loads)

    async def test_an_error_is_told_and_forgotten(self) -> None:
        await self.fill(1, 1000)
        self.clock.advance(10_000)

        class Broken(Exception):
            pass

        async def query(sql: str, params: Any = ()) -> Any:
            if "row_number" in sql:
                raise Broken
            return await self.db.query(sql, params)

        self.patch(self.watched, "query", query)
        with self.assertRaises(Broken):
            await self.between(0, 99_999)
        self.patch(self.watched, "query", self.db.query)
        self.assertEqual(1000, await self.between(0, 99_999))
