"""What domains use and may use: the objects of a server that count it, keep it and bound it, put together."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.config.host_config import HostConfig
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Announcements, Clock, Database
from dynxmpp.core.message_rate import MessageRates
from dynxmpp.core.router import Router
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.limits import HostTypeLimits, LimitStore, Overrides
from dynxmpp.domains.remover import Place
from dynxmpp.domains.stored_sizes import StoredSizes
from dynxmpp.domains.usage import UsageRecorder, UsageStore
from dynxmpp.rest.usage import DomainUse

__all__ = ["MIGRATIONS", "DomainUseParts"]

MIGRATIONS: Final[tuple[Migration, ...]] = (*UsageStore.migrations, *LimitStore.migrations)


class DomainUseParts:
    """One a node. Without a database of the server's own nothing is kept: limits are those of the configuration file.

    `spawn(event, work)` lets work go on in the background and logs what it raises under that event.
    """

    def __init__(
        self,
        router: Router,
        *,
        database: Database | None,
        has_dynamic: bool,
        announcements: Announcements | None,
        clock: Clock,
        spawn: Callable[[str, Awaitable[object]], None],
    ) -> None:
        domains: DomainTable[HostType] = router.domains
        self._router = router
        self._database = database
        self._clock = clock
        self.sizes = StoredSizes(clock)
        self.rates = MessageRates(clock)
        self.recorder: UsageRecorder | None = None
        self.overrides: Overrides | None = None
        router.usage.rate_of = self.rates.of
        if database is not None:
            store = UsageStore(database, has_dynamic=has_dynamic)
            self.recorder = UsageRecorder(store, router.usage, is_static=domains.is_static, clock=clock, spawn=spawn)
            self.overrides = Overrides(
                LimitStore(database), announcements=announcements, clock=clock, spawn=spawn, changed=self._changed
            )

    def limits_of(self, host: HostConfig) -> HostTypeLimits:
        """For the host type; they hold for its accounts too."""
        return HostTypeLimits(host.limits, self.overrides, self.sizes, self._host_type)

    def _host_type(self, domain: str) -> HostType | None:
        served = self._router.domains.get(domain)
        return None if served is None else served.host_type

    def _changed(self, domain: str) -> None:
        host_type = self._host_type(domain)
        if host_type is not None:
            self._router.usage.limits_changed(domain, host_type)

    # -- for the removal of domains

    @property
    def places(self) -> tuple[Place, ...]:
        if self._database is None:
            return ()
        return tuple(Place(self._database, stored) for stored in (UsageStore.stored, LimitStore.stored))

    @property
    def forgetful(self) -> tuple[UsageRecorder | Overrides, ...]:
        return () if self.recorder is None or self.overrides is None else (self.recorder, self.overrides)

    def domain_gone(self, domain: str) -> None:
        """A domain is no longer served, or by another host type from now on. What it has used stays."""
        self._router.usage.close(domain)
        self.sizes.forget(domain)

    # -- for the administration

    def for_administration(
        self, databases: Mapping[str, Database | None], configs: Mapping[str, HostConfig]
    ) -> DomainUse:
        """`databases` and `configs` are those of the host types, by name."""
        assert self.recorder is not None
        tables = {
            name: Place(database, RdbmsAuth.stored[0])
            for name, database in databases.items()
            if database is not None and "rdbms" in configs[name].auth.methods
        }
        return DomainUse(self.recorder, self.sizes, tables, self._clock, self.overrides)

    # -- life

    def listen(self) -> None:
        """To be called before announcements are listened to."""
        if self.overrides is not None:
            self.overrides.listen()

    async def start(self) -> None:
        """Before anybody can connect."""
        if self.overrides is not None:
            await self.overrides.start()
        if self.recorder is not None:
            self.recorder.start()

    async def stop(self) -> None:
        """When no stanza comes any more."""
        self.rates.stop()
        if self.overrides is not None:
            self.overrides.stop()
        if self.recorder is not None:
            await self.recorder.stop()
