"""The schema: numbered steps of each component, applied in one transaction.

A component (`core`, `domains`, `mod_mam`, ...) counts its steps from 1 without holes. What was applied stands in
`schema_migrations`. Several servers may start at once: an advisory lock lets one do the work, and the others find it
done. Steps of a component that is not installed here are left alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg2
from twisted.logger import Logger

from dynxmpp.db.pool import Database, Transaction

__all__ = ["Migration", "MigrationError", "MigrationFailed", "SchemaTooNew", "migrate"]

_log = Logger()

_LOCK = 0x64796E786D7070
"""The advisory lock all servers of one database agree on: "dynxmpp" in ASCII."""

_CREATE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    component text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, version)
)
"""


@dataclass(frozen=True)
class Migration:
    """One step. `sql` may hold several statements; it runs inside a transaction, so no CREATE INDEX CONCURRENTLY."""

    component: str
    version: int
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.component} {self.version} ({self.name})"


class MigrationError(ValueError):
    """The steps of this program contradict each other, or what is in the database. Nothing was changed."""


class MigrationFailed(Exception):
    """A step's SQL failed; `__cause__` is psycopg2's error. Nothing was changed, the steps before it included."""

    def __init__(self, migration: Migration, error: psycopg2.Error) -> None:
        super().__init__(f"migration {migration} failed: {str(error).strip()}")
        self.migration = migration


class SchemaTooNew(Exception):
    """The database was used by a newer program, whose tables this one would misunderstand. Nothing was changed."""

    def __init__(self, component: str, found: int, known: int) -> None:
        super().__init__(
            f"the database has version {found} of {component}, this program knows {known}: "
            "start the newer program, or restore the backup made before it"
        )
        self.component = component
        self.found = found
        self.known = known


async def migrate(db: Database, migrations: Iterable[Migration]) -> list[Migration]:
    """Apply what is missing, all or nothing, and return it in the order applied.

    Components are taken in the order of their first step in `migrations`, the steps of each in ascending order.
    Unbounded in time, waiting for another server's run included. Raises MigrationError, SchemaTooNew, MigrationFailed,
    DatabaseUnavailable.
    """
    wanted = _by_component(migrations)

    async def work(transaction: Transaction) -> list[Migration]:
        await transaction.query("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        # IF NOT EXISTS still asks for the right to create in the schema, which a server may lack once it is set up.
        if await transaction.query("SELECT to_regclass('schema_migrations') IS NULL") == [(True,)]:
            await transaction.execute(_CREATE)
        rows = await transaction.query("SELECT component, version FROM schema_migrations")
        missing = _missing(wanted, [(str(component), int(version)) for component, version in rows])
        for migration in missing:
            await _apply(transaction, migration)
        return missing

    applied = await db.transaction(work, statement_timeout_s=0)
    for migration in applied:
        _log.info("migration_applied", component=migration.component, version=migration.version, name=migration.name)
    return applied


async def _apply(transaction: Transaction, migration: Migration) -> None:
    try:
        await transaction.execute(migration.sql)
    except psycopg2.Error as error:
        raise MigrationFailed(migration, error) from error
    await transaction.execute(
        "INSERT INTO schema_migrations (component, version, name) VALUES (%s, %s, %s)",
        (migration.component, migration.version, migration.name),
    )


def _by_component(migrations: Iterable[Migration]) -> dict[str, list[Migration]]:
    """The steps of each component in ascending order; MigrationError unless they are 1, 2, 3, ..."""
    components: dict[str, list[Migration]] = {}
    for migration in migrations:
        components.setdefault(migration.component, []).append(migration)
    for component, steps in components.items():
        steps.sort(key=lambda migration: migration.version)
        for expected, migration in enumerate(steps, start=1):
            if migration.version < expected:
                raise MigrationError(f"two migrations of {component} have the number {migration.version}")
            if migration.version > expected:
                raise MigrationError(f"migration {expected} of {component} is missing before {migration}")
    return components


def _missing(wanted: Mapping[str, list[Migration]], applied: list[tuple[str, int]]) -> list[Migration]:
    """What of `wanted` is not in `applied`; MigrationError for a hole there, SchemaTooNew for an unknown step."""
    done: dict[str, set[int]] = {}
    for component, version in applied:
        done.setdefault(component, set()).add(version)
    missing: list[Migration] = []
    for component, steps in wanted.items():
        versions = done.get(component, set())
        if versions and max(versions) > len(steps):
            raise SchemaTooNew(component, max(versions), len(steps))
        if versions and max(versions) != len(versions):
            raise MigrationError(f"schema_migrations lacks a step of {component}: it has {sorted(versions)}")
        missing.extend(steps[len(versions) :])
    return missing
