"""Removing archives: they lose their name at once, and their rows in bounded batches after that."""

from collections.abc import Sequence
from typing import Final, Protocol

from dynxmpp.module import ModuleContext
from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.schema import ACCOUNT, REMOVED, ROOM, TABLES
from dynxmpp.modules.mam.store import ArchiveStore

#: Rows that a statement deletes at most.
BATCH_ROWS: Final = 10_000
#: Archives that lose their names in one statement.
BATCH_ARCHIVES: Final = 500

_TAKE_NAMES: Final = f"""
UPDATE mam_archive SET kind = {REMOVED}, name = id::text WHERE id = ANY(ARRAY(
    SELECT id FROM mam_archive WHERE server = %s AND kind <> {REMOVED} LIMIT %s
))
"""
_TAKE_NAME: Final = f"""
UPDATE mam_archive SET kind = {REMOVED}, name = id::text WHERE server = %s AND kind = %s AND name = %s
"""
_NAMELESS: Final = f"SELECT id FROM mam_archive WHERE server = %s AND kind = {REMOVED} ORDER BY id LIMIT %s"
_NAMELESS_ANYWHERE: Final = f"SELECT DISTINCT server FROM mam_archive WHERE kind = {REMOVED}"
_DELETE: Final = "DELETE FROM mam_archive WHERE id = ANY(%s)"


class Statements(Protocol):
    """A database, or a transaction."""

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int: ...


class Removal:
    """Removes archives of accounts, rooms and whole domains. Calls may be repeated, and go on where one broke off.

    An archive without its name gets no new messages: what takes the name next has an archive of its own.
    """

    def __init__(self, context: ModuleContext, owners: Owners, store: ArchiveStore, batch_rows: float) -> None:
        self._database = context.database
        self._domains = context.domains
        self._owners = owners
        self._store = store
        self._batch_rows = int(min(batch_rows, BATCH_ROWS))
        #: By kind: archives that were removed one by one.
        self.removed = {ACCOUNT: 0, ROOM: 0}

    async def remove(self, server: str, kind: int, name: str) -> None:
        """Removes one archive. Raises Unavailable."""
        await self.release(server, kind, name, self._database)
        self._owners.forget(server, kind, name)
        await self.remove_nameless(server)

    async def release(self, server: str, kind: int, name: str, transaction: Statements) -> None:
        """Takes the name from an archive, as part of a transaction or by itself. Raises Unavailable."""
        self.removed[kind] += await transaction.execute(_TAKE_NAME, (server, kind, name))

    async def remove_domain(self, server: str) -> None:
        """Removes all archives of a domain that is not served any more. Raises Unavailable.

        Another node may have finished the removal, and the domain may have been made anew: then the rest is not the
        old one's.
        """
        self._owners.forget_domain(server)
        await self._store.flush()
        while server not in self._domains and await self._database.execute(_TAKE_NAMES, (server, BATCH_ARCHIVES)):
            self._owners.forget_domain(server)
            await self.remove_nameless(server)
        await self.remove_nameless(server)

    async def resume(self) -> None:
        """Removes what is left of removals that a crash has interrupted. Raises Unavailable."""
        for (server,) in await self._database.query(_NAMELESS_ANYWHERE):
            await self.remove_nameless(server)

    async def remove_nameless(self, server: str) -> None:
        """Removes what archives that have lost their names have. Raises Unavailable."""
        while rows := await self._database.query(_NAMELESS, (server, BATCH_ARCHIVES)):
            archives = [number for (number,) in rows]
            # What is on its way into these archives is deleted with the rest.
            await self._store.flush()
            for table in TABLES:
                await self._delete_rows(table, archives)
            await self._database.execute(_DELETE, (archives,))

    async def _delete_rows(self, table: str, archives: Sequence[int]) -> None:
        sql = (
            f"DELETE FROM {table} WHERE archive = ANY(%s)"
            f" AND ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE archive = ANY(%s) LIMIT %s))"
        )
        while await self._database.execute(sql, (archives, archives, self._batch_rows)) == self._batch_rows:
            pass
