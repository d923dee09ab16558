"""Arrays as PostgreSQL reads them: whatever goes in comes out."""

from datetime import UTC, datetime
from typing import Any

import psycopg2
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import threads
from twisted.trial.unittest import TestCase

from dynxmpp.db.arrays import array, columns
from tests.fixtures.postgres import DatabaseTestCase

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
HARD = [
    "",
    "NULL",
    "null",
    '"',
    "\\",
    '\\"',
    "{}",
    "{a,b}",
    ",",
    " a ",
    "'",
    "%s",
    "\n",
    "\u2028",
    "\U0001f600",
    "\\x00",
]


class Spelling(TestCase):
    def test_columns(self) -> None:
        self.assertEqual(["{1,2}", '{"a",NULL}', "{True,False}"], columns([(1, "a", True), (2, None, False)]))

    def test_rows_of_different_length(self) -> None:
        self.assertRaises(ValueError, columns, [(1, 2), (1,)])


class Reading(DatabaseTestCase):
    async def comes_back(self, type_: str, values: list[Any]) -> None:
        rows = await self.db.query(
            f"SELECT v FROM unnest(%s::{type_}[]) WITH ORDINALITY AS a (v, n) ORDER BY n", (array(values),)
        )
        self.assertEqual(values, [value for (value,) in rows])

    async def test_texts(self) -> None:
        await self.comes_back("text", [*HARD, None])

    async def test_numbers(self) -> None:
        await self.comes_back("bigint", [0, -1, 2**63 - 1, None])
        await self.comes_back("double precision", [0.5, -1e300, None])
        await self.comes_back("boolean", [True, False, None])

    async def test_bytes(self) -> None:
        await self.comes_back("bytea", [b"", bytes(range(256)), b"\\x", None])

    async def test_times(self) -> None:
        await self.comes_back("timestamptz", [datetime(2026, 11, 23, 1, 2, 3, 456789, UTC), None])

    async def test_nothing(self) -> None:
        await self.comes_back("text", [])

    async def test_any_text(self) -> None:
        where = self.settings

        def compare() -> None:
            connection = psycopg2.connect(host=where.host, port=where.port, dbname=where.database, user=where.username)
            with connection.cursor() as cursor:

                @settings(max_examples=200, deadline=None, database=None)
                @given(st.lists(st.one_of(st.none(), TEXT, st.sampled_from(HARD))))
                def check(values: list[str | None]) -> None:
                    cursor.execute("SELECT %s::text[]", (array(values),))
                    row = cursor.fetchone()
                    assert row is not None
                    assert row[0] == values

                check()
            connection.close()

        await threads.deferToThread(compare)
