"""What administrators can do with dynamic domains: each operation with its checks, in the specified order.

After a change is committed it is applied to this node's domain table before the call returns: whoever was told that a
domain exists can log in at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from twisted.logger import Logger

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.domains.bulk import Outcome, insert_many
from dynxmpp.domains.errors import (
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    InvalidDomain,
    ServiceDisabled,
    UnknownHostType,
)
from dynxmpp.domains.remover import DomainRemover
from dynxmpp.domains.store import MAX_DOMAIN_BYTES, Change, DomainRow, DomainStatus, DomainStore
from dynxmpp.domains.synchroniser import Synchroniser
from dynxmpp.jid import InvalidJID, prepare_domain
from dynxmpp.wire.errors import Unavailable

__all__ = ["REPEATABLE", "STRICT", "Backing", "DomainService", "Rules", "prepare_name"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the dialects of the administration disagree about.

    `service_first`: that the service is off is found before anything else, and static domains cannot be described.
    `repeatable`: inserting a domain again and deleting one that is not there succeed.
    """

    service_first: bool
    repeatable: bool


#: As MongooseIM 5.0 does it, and as 6.0 to 6.5 do.
REPEATABLE: Final = Rules(service_first=False, repeatable=True)
STRICT: Final = Rules(service_first=True, repeatable=False)


@dataclass(frozen=True, slots=True)
class Backing:
    """What the service works on; there is none when the configuration has no section for it."""

    store: DomainStore
    synchroniser: Synchroniser
    remover: DomainRemover


class DomainService:
    """Inserts, enables, disables, deletes, describes and lists dynamic domains. Names are given prepared.

    `spawn(event, work)` lets work go on in the background and logs what it raises under that event. All operations may
    raise Unavailable or psycopg2.Error; whether a change was made is then to be found out by asking again.
    """

    log = Logger()

    def __init__(
        self,
        table: DomainTable[Any],
        backing: Backing | None,
        *,
        spawn: Callable[[str, Awaitable[object]], None],
    ) -> None:
        self._table = table
        self._backing = backing
        self._spawn = spawn
        self._running = False

    # -- life

    @property
    def running(self) -> bool:
        return self._running

    async def start(self) -> None:
        """Returns when the domains are loaded, however long the database is away. Without a backing there is nothing
        to start. Deletions that a crash has interrupted go on in the background."""
        if self._backing is None or self._running:
            return
        self._running = True
        await self._backing.synchroniser.start()
        if not self.running:
            return
        self._spawn("domain_removal_not_resumed", self._resume(self._backing))

    async def stop(self) -> None:
        """Refuses changes from now on. Domains that are loaded go on being served."""
        self._running = False
        if self._backing is not None:
            await self._backing.synchroniser.stop()

    async def _resume(self, backing: Backing) -> None:
        for row in await backing.store.deleting():
            if not self._running:
                return
            if self._table.accepts(row.host_type):
                self.log.info("domain_removal_resumed", domain=row.domain)
                self._spawn("domain_removal_failed", self._remove(backing, row.domain))

    # -- changes

    async def insert(self, domain: str, host_type: str, rules: Rules = REPEATABLE) -> bool:
        """A new domain is enabled; False when it was there already, in whatever state.

        Raises DomainIsStatic, UnknownHostType, ServiceDisabled, DomainExists.
        """
        backing = self._check(domain, host_type, rules)
        change = await backing.store.insert(domain, host_type)
        await self._apply(backing, change)
        if change.event_id is None:
            if not rules.repeatable:
                raise DomainExists(domain)
            return False
        self.log.info("domain_inserted", domain=domain, host_type=host_type, event_id=change.event_id)
        return True

    async def insert_many(self, entries: Sequence[tuple[str, str]]) -> list[Outcome]:
        """Inserts all pairs of name and host type in one transaction; the outcome of each, in their order.

        One that is refused harms no other. Raises ServiceDisabled.
        """
        backing = self._require_running()
        outcomes, changes = await insert_many(self._table, backing.store, entries)
        made = sorted((c.event_id, c.row.domain, c.row.host_type) for c in changes if c.event_id is not None)
        await backing.synchroniser.apply_all(made)
        for change in changes:
            served = change.row.status is DomainStatus.ENABLED
            if change.event_id is None and served != (change.row.domain in self._table):
                await self._apply(backing, change)
                break  # that was a look at everything
        if made:
            self.log.info("domains_inserted", count=len(made), first_event_id=made[0][0], last_event_id=made[-1][0])
        return outcomes

    async def set_enabled(self, domain: str, enabled: bool, rules: Rules = REPEATABLE) -> None:
        """Disabling ends the domain's sessions and keeps its data.

        Raises DomainIsStatic, ServiceDisabled, DomainNotFound, UnknownHostType, DomainDeleted.
        """
        backing = self._check(domain, None, rules)
        change = await backing.store.set_enabled(domain, enabled, self._table.accepts)
        await self._apply(backing, change)
        if change.event_id is not None:
            event = "domain_enabled" if enabled else "domain_disabled"
            self.log.info(event, domain=domain, host_type=change.row.host_type, event_id=change.event_id)

    async def delete(
        self, domain: str, host_type: str, rules: Rules = REPEATABLE, *, in_background: bool = False
    ) -> bool:
        """Ends the domain's sessions and removes all its data, in the background if wanted; False when there was none.

        Raises DomainIsStatic, UnknownHostType, ServiceDisabled, WrongHostType, DomainNotFound. When the removal fails
        the domain stays `deleting`, and the call may be repeated.
        """
        backing = self._check(domain, host_type, rules)
        change = await backing.store.begin_delete(domain, host_type)
        if change is None:
            if not rules.repeatable:
                raise DomainNotFound(domain)
            await self._remove(backing, domain)  # what came in late, when it was deleted
            return False
        await self._apply(backing, change)
        self.log.info("domain_deleting", domain=domain, host_type=host_type, event_id=change.event_id)
        if in_background:
            self._spawn("domain_removal_failed", self._remove(backing, domain))
        else:
            await self._remove(backing, domain)
        return True

    async def _remove(self, backing: Backing, domain: str) -> None:
        event_id = await backing.remover.remove_domain(domain)
        if event_id is not None:
            await backing.synchroniser.apply(event_id, domain, None)

    async def _apply(self, backing: Backing, change: Change) -> None:
        row = change.row
        served = row.status is DomainStatus.ENABLED
        if change.event_id is not None:
            await backing.synchroniser.apply(change.event_id, row.domain, row.host_type if served else None)
        elif served != (row.domain in self._table):
            # Another node was faster, and its announcement has not arrived yet.
            try:
                await backing.synchroniser.check()
            except (Unavailable, psycopg2.Error) as error:
                self.log.warn("domains_check_failed", reason=str(error))

    def require_dynamic(self, domain: str, rules: Rules) -> None:
        """Before something of a dynamic domain is administered. Raises ServiceDisabled, DomainIsStatic."""
        self._check(domain, None, rules)

    def _check(self, domain: str, host_type: str | None, rules: Rules) -> Backing:
        """The checks that need no database, in the order of the dialect."""
        if rules.service_first:
            self._require_running()
        if self._table.is_static(domain):
            raise DomainIsStatic(domain)
        if host_type is not None and not self._table.accepts(host_type):
            raise UnknownHostType(host_type)
        return self._require_running()

    def _require_running(self) -> Backing:
        if not self._running or self._backing is None:
            raise ServiceDisabled
        return self._backing

    # -- looking

    async def describe(self, domain: str, rules: Rules = REPEATABLE) -> DomainRow:
        """The stored row. Raises DomainNotFound; by strict rules also ServiceDisabled and DomainIsStatic."""
        if rules.service_first:
            self._require_running()
            if self._table.is_static(domain):
                raise DomainIsStatic(domain)
        row = None if self._table.is_static(domain) else await self._readable().get(domain)
        if row is None:
            raise DomainNotFound(domain)
        return row

    async def browse(
        self,
        *,
        host_type: str | None = None,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
        rules: Rules = REPEATABLE,
    ) -> list[DomainRow]:
        """Up to `limit` dynamic domains by name (code point order), in whatever state, those after `after` if given."""
        if rules.service_first:
            self._require_running()
        return await self._readable().browse(host_type=host_type, prefix=prefix, after=after, limit=limit)

    def _readable(self) -> DomainStore:
        if self._backing is None:
            raise Unavailable("no database of domains is configured")
        return self._backing.store


def prepare_name(text: str) -> str:
    """The name of a domain as it is stored. Raises InvalidDomain."""
    try:
        name = prepare_domain(text)
    except InvalidJID as error:
        raise InvalidDomain(str(error)) from error
    if len(name.encode()) > MAX_DOMAIN_BYTES:
        raise InvalidDomain(f"longer than {MAX_DOMAIN_BYTES} bytes")
    return name
