"""One node as far as domains are concerned: table, synchroniser, remover, service, on a database it may share."""

from collections.abc import Awaitable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dynxmpp.core.domain_table import DomainOrigin, DomainTable
from dynxmpp.core.interfaces import Announcements
from dynxmpp.domains.remover import DomainRemover, Forgetful, Place
from dynxmpp.domains.service import Backing, DomainService
from dynxmpp.domains.store import DomainStore
from dynxmpp.domains.synchroniser import Synchroniser


class Node:
    """`static` domains, dynamic `host_types`; the clock stands still unless a test advances it."""

    def __init__(
        self,
        database: Any,
        *,
        host_types: Iterable[str] = ("basic", "advanced"),
        static: Iterable[str] = (),
        announcements: Announcements | None = None,
        auth_places: Iterable[Place] = (),
        places: Iterable[Place] = (),
        forgetful: Iterable[Forgetful] = (),
        batch_rows: int = 1000,
        page_rows: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.table: DomainTable[str] = DomainTable()
        for name in host_types:
            self.table.add_host_type(name, name, DomainOrigin.DYNAMIC)
        for name in static:
            self.table.add_host_type(name, name, DomainOrigin.STATIC)
            self.table.add_static(name)
        self.gone: list[str] = []
        self.store = DomainStore(database, clock=self.clock)
        self.synchroniser = Synchroniser(
            self.store,
            self.table,
            clock=self.clock,
            on_domain_gone=self.gone.append,
            announcements=announcements,
            cleaning_interval_s=1800,
            max_age_s=7200,
            page_rows=page_rows,
        )
        self.remover = DomainRemover(
            self.store,
            settings_database=database,
            auth_places=auth_places,
            places=places,
            forgetful=forgetful,
            batch_rows=batch_rows,
        )
        self.background: list[tuple[str, Deferred[object]]] = []
        self.service = DomainService(
            self.table, Backing(self.store, self.synchroniser, self.remover), spawn=self._spawn
        )

    def _spawn(self, event: str, work: Awaitable[object]) -> None:
        async def run() -> object:
            return await work

        self.background.append((event, Deferred.fromCoroutine(run())))

    async def settle(self) -> list[str]:
        """Until all background work is done; the events of what failed."""
        failed = []
        while self.background:
            event, deferred = self.background.pop(0)
            try:
                await deferred
            except Exception:  # noqa: BLE001 - that it failed is the outcome
                failed.append(event)
        return failed

    async def start(self) -> "Node":
        await self.service.start()
        await self.settle()
        return self

    def served(self) -> dict[str, str]:
        """The domains in this node's table, with their host types."""
        return {name: served.host_type for name in self.table if (served := self.table.get(name)) is not None}

    async def polls(self) -> None:
        """The poll comes and is done."""
        self.clock.advance(30)
        await self.polled()

    async def polled(self) -> None:
        """Until a look at the log that may be going on is done."""
        checking = self.synchroniser._checking
        if checking is not None:
            await checking
