"""Removes all traces of a domain, or of an account: rows in bounded batches, then what modules keep in memory.

A domain's removal is the second phase of its deletion. The first has marked its row `deleting`; the row goes last, so a
crash at any point leaves a domain that is marked and can be removed again from the start. Every step may be repeated.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.core.interfaces import Database, Stored
from dynxmpp.domains.store import DomainStore
from dynxmpp.jid import JID

__all__ = ["DomainRemover", "Forgetful", "Place"]

BATCH_ROWS: Final = 1000
#: Writes that were on their way when the sessions ended may arrive after their table was emptied, hence more passes.
_MAX_PASSES: Final = 5

# Some other node may have finished the deletion, and the name may have been given away anew. A statement sees the rows
# of one moment: if the domain is served at that moment, it deletes nothing.
_GUARD: Final = " AND NOT EXISTS (SELECT 1 FROM domain_settings WHERE domain = %s AND status <> 2)"


@dataclass(frozen=True, slots=True)
class Place:
    """A table with tenants' data, and the database that it is in."""

    database: Database
    stored: Stored


class Forgetful(Protocol):
    """What keeps something of domains and accounts in memory."""

    async def remove_domain(self, domain: str) -> None: ...
    async def remove_account(self, account: JID) -> None: ...


class DomainRemover:
    """Knows every place where data of a domain may be.

    `settings_database` is that of `store`. `auth_places` are the tables of auth methods, whose rows of a single account
    go by `Accounts.remove`; `places` those of modules. `forgetful`: modules and caches, asked after the tables.
    A place that is given twice, as two host types do, is emptied once.
    """

    log = Logger()

    def __init__(
        self,
        store: DomainStore,
        *,
        settings_database: Database,
        auth_places: Iterable[Place] = (),
        places: Iterable[Place] = (),
        forgetful: Iterable[Forgetful] = (),
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._store = store
        self._settings_database = settings_database
        self._places = tuple(dict.fromkeys(places))
        self._domain_places = tuple(dict.fromkeys((*auth_places, *self._places)))
        self._forgetful = tuple(forgetful)
        self._batch_rows = batch_rows
        self._running: dict[str, list[Deferred[int | None]]] = {}

    async def remove_domain(self, domain: str) -> int | None:
        """Removes a domain that is marked `deleting`, its row last; gives the id of the last event.

        Of a domain without a row it removes what may be left, and gives None. A removal that runs already is joined.
        Raises what a step raises (Unavailable, psycopg2.Error, anything of a module); the row is still there then.
        """
        if domain in self._running:
            joined: Deferred[int | None] = Deferred()
            self._running[domain].append(joined)
            return await joined
        waiting = self._running[domain] = []
        try:
            event_id = await self._remove_domain(domain)
        except BaseException:
            failure = Failure()
            del self._running[domain]
            for deferred in waiting:
                deferred.errback(failure)
            raise
        del self._running[domain]
        for deferred in waiting:
            deferred.callback(event_id)
        return event_id

    async def _remove_domain(self, domain: str) -> int | None:
        rows = 0
        for _ in range(_MAX_PASSES):
            found = await self._empty_places(domain)
            rows += found
            if not found:
                break
        for owner in self._forgetful:
            await owner.remove_domain(domain)
        event_id = await self._store.finish_delete(domain)
        self.log.info("domain_removed", domain=domain, rows=rows, event_id=event_id)
        return event_id

    async def _empty_places(self, domain: str) -> int:
        found = 0
        for place in self._domain_places:
            condition = f"{_quoted(place.stored.domain)} = %s"
            if place.database is self._settings_database:
                found += await self._delete(place, condition, (domain,), _GUARD, (domain,))
            else:
                found += await self._delete_elsewhere(place, condition, domain)
        return found

    async def _delete_elsewhere(self, place: Place, condition: str, domain: str) -> int:
        """In a database that cannot be asked for the domain's state in the same statement."""
        found = 0
        while True:
            row = await self._store.get(domain)
            if row is not None and row.status != 2:
                return found
            count = await self._delete_batch(place, condition, (domain,))
            found += count
            if count < self._batch_rows:
                return found

    async def remove_account(self, account: JID) -> None:
        """Removes what modules keep of an account; the account itself is its auth method's. May be repeated."""
        for place in self._places:
            if place.stored.user is not None:
                condition = f"{_quoted(place.stored.domain)} = %s AND {_quoted(place.stored.user)} = %s"
                await self._delete(place, condition, (account.domain, account.local))
        for owner in self._forgetful:
            await owner.remove_account(account)

    async def _delete(
        self,
        place: Place,
        condition: str,
        values: tuple[object, ...],
        guard: str = "",
        guard_values: tuple[object, ...] = (),
    ) -> int:
        found = 0
        while True:
            count = await self._delete_batch(place, condition, values, guard, guard_values)
            found += count
            if count < self._batch_rows:
                return found

    async def _delete_batch(
        self,
        place: Place,
        condition: str,
        values: tuple[object, ...],
        guard: str = "",
        guard_values: tuple[object, ...] = (),
    ) -> int:
        table = _quoted(place.stored.table)
        # The condition stands twice: in a partitioned table a ctid alone may mean several rows.
        return await place.database.execute(
            f"DELETE FROM {table} WHERE {condition}"
            f" AND ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {condition}{guard} LIMIT %s))",
            (*values, *values, *guard_values, self._batch_rows),
        )


def _quoted(name: str) -> str:
    """A declared name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
