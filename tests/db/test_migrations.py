"""Migrations: order, all or nothing, several servers at once, databases that do not fit."""

from dataclasses import replace
from typing import Any

import psycopg2.errors
from twisted.internet.defer import Deferred, gatherResults

from dynxmpp.db.migrations import Migration, MigrationError, MigrationFailed, SchemaTooNew, migrate
from tests.fixtures.postgres import DatabaseTestCase, fresh_database

A1 = Migration("a", 1, "first", "CREATE TABLE a (x int); INSERT INTO a VALUES (1)")
A2 = Migration("a", 2, "second", "ALTER TABLE a ADD COLUMN y int DEFAULT 2")
A3 = Migration("a", 3, "third", "INSERT INTO a VALUES (3, 3)")
B1 = Migration("b", 1, "first", "CREATE TABLE b (x text DEFAULT '100%')")


def spawn(work: Any) -> "Deferred[Any]":
    return Deferred.fromCoroutine(work)


class MigrationTests(DatabaseTestCase):
    async def applied(self) -> list[tuple[Any, ...]]:
        return await self.db.query("SELECT component, version, name FROM schema_migrations ORDER BY 1, 2")

    async def exists(self, table: str) -> bool:
        [(found,)] = await self.db.query("SELECT to_regclass(%s) IS NOT NULL", (table,))
        return bool(found)

    async def test_steps_are_applied_in_order_whatever_order_they_are_given_in(self) -> None:
        self.assertEqual(await migrate(self.db, [A3, B1, A1, A2]), [A1, A2, A3, B1])
        self.assertEqual(await self.db.query("SELECT x, y FROM a ORDER BY x"), [(1, 2), (3, 3)])
        self.assertEqual(
            await self.applied(), [("a", 1, "first"), ("a", 2, "second"), ("a", 3, "third"), ("b", 1, "first")]
        )

    async def test_what_was_applied_is_not_applied_again(self) -> None:
        self.assertEqual(await migrate(self.db, [A1]), [A1])
        self.assertEqual(await migrate(self.db, [A1]), [])
        self.assertEqual(await migrate(self.db, [A1, A2, B1]), [A2, B1])
        self.assertEqual(await self.db.query("SELECT x, y FROM a"), [(1, 2)])

    async def test_nothing_to_do(self) -> None:
        self.assertEqual(await migrate(self.db, []), [])

    async def test_all_or_nothing(self) -> None:
        bad = Migration("a", 2, "bad", "CREATE TABLE c (x int); SELEC")
        with self.assertRaises(MigrationFailed) as caught:
            await migrate(self.db, [B1, A1, bad])
        self.assertIn("a 2 (bad)", str(caught.exception))
        self.assertIsInstance(caught.exception.__cause__, psycopg2.errors.SyntaxError)
        for table in ("a", "b", "c", "schema_migrations"):
            self.assertFalse(await self.exists(table), table)

    async def test_two_servers_at_once(self) -> None:
        other = await self.start_database(self.settings)
        slow = Migration("a", 4, "slow", "INSERT INTO a SELECT 4 FROM pg_sleep(0.1)")
        steps = [A1, A2, A3, slow, B1]
        one, two = await gatherResults([spawn(migrate(self.db, steps)), spawn(migrate(other, steps))])
        self.assertEqual(sorted([one, two], key=len), [[], steps])
        self.assertEqual(len(await self.applied()), 5)

    async def test_it_takes_as_long_as_it_takes(self) -> None:
        db = await self.start_database(replace(self.settings, query_timeout_s=0.05, call_timeout_s=0.05))
        slow = Migration("a", 1, "slow", "CREATE TABLE a AS SELECT 1 AS x FROM pg_sleep(0.3)")
        self.assertEqual(await migrate(db, [slow]), [slow])

    async def test_duplicates_are_refused(self) -> None:
        with self.assertRaises(MigrationError) as caught:
            await migrate(self.db, [A1, replace(A1, name="again")])
        self.assertIn("two migrations of a have the number 1", str(caught.exception))
        self.assertFalse(await self.exists("schema_migrations"))

    async def test_holes_are_refused(self) -> None:
        for steps, text in (
            ([A1, A3], "migration 2 of a is missing"),
            ([A2], "migration 1 of a is missing"),
            ([replace(A1, version=0)], "two migrations of a have the number 0"),
        ):
            with self.assertRaises(MigrationError) as caught:
                await migrate(self.db, steps)
            self.assertIn(text, str(caught.exception))
        self.assertFalse(await self.exists("schema_migrations"))

    async def test_a_newer_database_is_refused_and_left_alone(self) -> None:
        await migrate(self.db, [A1, A2, A3])
        with self.assertRaises(SchemaTooNew) as caught:
            await migrate(self.db, [B1, A1, A2])
        self.assertEqual((caught.exception.component, caught.exception.found, caught.exception.known), ("a", 3, 2))
        self.assertFalse(await self.exists("b"))

    async def test_components_that_are_not_installed_are_left_alone(self) -> None:
        await migrate(self.db, [A1, A2])
        self.assertEqual(await migrate(self.db, [B1]), [B1])
        self.assertEqual(len(await self.applied()), 3)

    async def test_a_hole_in_the_database_is_refused(self) -> None:
        await migrate(self.db, [A1, A2, A3])
        await self.db.execute("DELETE FROM schema_migrations WHERE version = 2")
        with self.assertRaises(MigrationError):
            await migrate(self.db, [A1, A2, A3])


class FixtureTests(DatabaseTestCase):
    migrations = (A1, B1)

    async def test_a_test_gets_a_migrated_copy(self) -> None:
        self.assertEqual(await self.db.query("SELECT x FROM a"), [(1,)])
        self.assertEqual(await migrate(self.db, [A1, B1]), [])

    async def test_copies_are_independent(self) -> None:
        await self.db.execute("DELETE FROM a")
        other = await self.start_database(await fresh_database(self.migrations))
        self.assertEqual(await other.query("SELECT x FROM a"), [(1,)])
