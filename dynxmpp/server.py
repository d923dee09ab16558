"""The composition root: every long-lived object of a server is made here, in order, by hand.

    databases -> migrations -> host types (accounts, modules) -> domains -> listeners

and ends in the opposite order. Listeners open last: once a client can connect, every domain is there.
"""

import atexit
import gc
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp import __version__
from dynxmpp.accounts import build_accounts
from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.c2s.context import accounts_of
from dynxmpp.c2s.outbox import Outbox
from dynxmpp.c2s.session import C2SSession
from dynxmpp.config.host_config import Config, HostConfig
from dynxmpp.config.services import GLOBAL_POOL
from dynxmpp.core.domain_table import DomainOrigin, DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import AccountRemover, DomainLimits
from dynxmpp.core.router import Router
from dynxmpp.core.session_table import SessionTable
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.databases import Databases, NoPool
from dynxmpp.db.migrations import Migration, migrate
from dynxmpp.db.node_number import NodeNumber
from dynxmpp.db.notify import Notifications
from dynxmpp.db.pool import Database
from dynxmpp.domain_use import MIGRATIONS as USE_MIGRATIONS
from dynxmpp.domain_use import DomainUseParts
from dynxmpp.domains.certificate_table import CertificateTable
from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.remover import DomainRemover, Forgetful, Place
from dynxmpp.domains.service import Backing, DomainService
from dynxmpp.domains.store import DomainStore
from dynxmpp.domains.synchroniser import Synchroniser
from dynxmpp.jid import JID
from dynxmpp.listeners import Listeners
from dynxmpp.log import ServerLog
from dynxmpp.metrics import Metrics
from dynxmpp.module import Module, ModuleContext
from dynxmpp.module_loader import build_modules, discover, start_modules, stop_modules
from dynxmpp.rest.mounts import Administration
from dynxmpp.rest.usage import DomainUse
from dynxmpp.wire.errors import StreamError

#: Seconds that what clients have sent may take to be committed, when the server stops.
SETTLE_TIMEOUT_S = 5.0
#: Seconds that clients have to take what was written, when the server stops.
DRAIN_TIMEOUT_S = 5.0


class Server(MultiService):
    """One node. Its service starts in the background, because a database may have to be waited for."""

    log = Logger()

    def __init__(self, config: Config, reactor: Any, log: ServerLog, reload_config: Callable[[], Config]) -> None:
        super().__init__()
        self.config = config
        self.reactor = reactor
        self.random = random.SystemRandom()
        self._server_log = log
        self._reload_config = reload_config
        #: What comes of one read is written in one piece, be it read from a client or from a database.
        self._outbox = Outbox()
        self.databases = Databases(config, reactor, self._outbox)
        self.domains: DomainTable[HostType] = DomainTable()
        self.sessions = SessionTable()
        self.slow_lane = SlowLane()
        self.router = Router(self.domains, self.sessions, self.slow_lane)
        self.host_types: dict[str, HostType] = {}
        self._module_classes = discover()
        self._starting: Deferred[None] | None = None
        self._exit_status = 0
        #: What other nodes announce, by the database that they do it in.
        self.notifications: dict[Database, Notifications] = {}
        self.node_number: NodeNumber | None = None
        self.domain_service: DomainService | None = None
        self._remover: DomainRemover | None = None
        self.certificates: DomainCertificates | None = None
        self.use: DomainUseParts | None = None
        self.listeners: Listeners | None = None
        self.metrics = Metrics()
        self._count()

    # -- start

    def startService(self) -> None:
        super().startService()
        # Not before: what fails at once could not stop a reactor that does not run yet, nor could a signal.
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._handle_signals()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    async def _start(self) -> None:
        for warning in self.config.warnings:
            self.log.warn("config_warning", text=warning)
        self.log.info("server_starting", version=__version__, config=str(self.config.path))
        await self.databases.start()
        await self._migrate()
        await self._take_number()
        self.use = self._build_use()
        for host in self.config.host_types.values():
            await self._build_host_type(host)
        self._build_domains()
        await start_modules(self.host_types.values())
        await self._start_domains()
        self._listen()
        _quiet_collector()
        self.log.info("server_started", domains=len(self.domains), host_types=len(self.host_types))

    def _start_failed(self, failure: Failure) -> None:
        """What cannot be waited for ends the program: one line, and a status that says so."""
        if failure.check(CancelledError):
            return
        self.log.critical("server_start_failed", reason=failure.getErrorMessage(), kind=str(failure.type))
        self._exit_status = 1
        self.reactor.stop()

    async def _take_number(self) -> None:
        """The number of this process, among all that share the database."""
        database = self._home_database()
        if database is not None:
            self.node_number = NodeNumber(database.settings, clock=self.reactor, reactor=self.reactor)
            await self.node_number.start()

    def _number(self) -> int:
        return 0 if self.node_number is None else self.node_number.number

    async def _migrate(self) -> None:
        """Brings each database to the schema of this program."""
        wanted: dict[Database, list[Migration]] = {}
        for name, host in self.config.host_types.items():
            steps = [m for module in host.modules if module in self._module_classes for m in self._migrations(module)]
            if "rdbms" in host.auth.methods:
                steps.extend(RdbmsAuth.migrations)
            if steps:
                wanted.setdefault(self.databases.needed_by(name), []).extend(steps)
        if self.config.services.service_domain_db is not None:
            wanted.setdefault(self._settings_database(), []).extend(
                (*DomainStore.migrations, *CertificateTable.migrations)
            )
        home = self._home_database()
        if home is not None:
            wanted.setdefault(home, []).extend(USE_MIGRATIONS)
        for database, steps in wanted.items():
            await migrate(database, dict.fromkeys(steps))

    def _migrations(self, module: str) -> tuple[Migration, ...]:
        return self._module_classes[module].migrations

    # -- host types

    async def _build_host_type(self, host: HostConfig) -> None:
        assert self.use is not None
        limits = self.use.limits_of(host)
        accounts = await build_accounts(
            host,
            self.databases,
            clock=self.reactor,
            random=self.random,
            limit_of=lambda domain: limits.limit(domain, "accounts"),
        )
        host_type = HostType(host.name, is_static=host.is_static, accounts=accounts, config=host)
        host_type.provide(DomainLimits, limits)
        origin = DomainOrigin.STATIC if host.is_static else DomainOrigin.DYNAMIC
        self.domains.add_host_type(host.name, host_type, origin)
        if host.is_static:
            self.domains.add_static(host.name)
        database: Any = self.databases.of(host.name)
        context = ModuleContext(
            host_type=host_type,
            router=self.router,
            sessions=self.sessions,
            domains=self.domains,
            database=database,
            clock=self.reactor,
            spawn=self.spawn,
            language=host.general.language,
            node_number=self._number,
            metrics=self.metrics,
            announcements=None if database is None else self._notifications_of(database),
        )
        build_modules(context, host.modules, self._module_classes)
        self.host_types[host.name] = host_type

    def _build_use(self) -> DomainUseParts:
        database = self._home_database()
        use = DomainUseParts(
            self.router,
            database=database,
            has_dynamic=self.config.services.service_domain_db is not None,
            announcements=None if database is None else self._notifications_of(database),
            clock=self.reactor,
            spawn=self.spawn,
        )
        use.listen()
        self.metrics.gauge(
            "sessions_slowed", "Sessions that wait for their domain's message rate.", lambda: len(use.rates)
        )
        return use

    # -- domains

    def _build_domains(self) -> None:
        options = self.config.services.service_domain_db
        database = self._home_database()
        backing = None
        if database is not None:
            store = DomainStore(database, clock=self.reactor)
            if options is not None:
                self.certificates = self._build_certificates(database)
            self._remover = self._build_remover(store, database)
            for host_type in self.host_types.values():
                host_type.provide(AccountRemover, self._remover)
            if options is not None:
                synchroniser = Synchroniser(
                    store,
                    self.domains,
                    clock=self.reactor,
                    on_domain_gone=self._domain_gone,
                    announcements=self._notifications_of(database),
                    cleaning_interval_s=options.event_cleaning_interval,
                    max_age_s=options.event_max_age,
                )
                backing = Backing(store, synchroniser, self._remover)
        self.domain_service = DomainService(self.domains, backing, spawn=self.spawn)

    async def _start_domains(self) -> None:
        """Dynamic domains are loaded before anybody can connect."""
        assert self.domain_service is not None
        has_dynamic = self.config.services.service_domain_db is not None
        for database, notifications in self.notifications.items():
            if notifications.is_wanted or (has_dynamic and database is self._settings_database()):
                await notifications.start()
        await self.domain_service.start()
        if self.use is not None:
            await self.use.start()
        if self.certificates is not None:
            await self.certificates.start()

    def _build_certificates(self, database: Database) -> DomainCertificates:
        """Those of dynamic domains, which TLS and the administration share."""
        announcements = self._notifications_of(database)
        certificates = DomainCertificates(database, self.domains, clock=self.reactor, announcements=announcements)
        certificates.listen()
        gauge = self.metrics.gauge
        gauge("domain_certificates", "Certificates of domains in the database.", lambda: len(certificates))
        gauge("domain_certificates_ending", "Those that end within 21 days, or have ended.", certificates.ending)
        return certificates

    def _notifications_of(self, database: Database) -> Notifications:
        notifications = self.notifications.get(database)
        if notifications is None:
            notifications = Notifications(database.settings, clock=self.reactor, reactor=self.reactor)
            self.notifications[database] = notifications
        return notifications

    def _home_database(self) -> Database | None:
        """Where the server keeps what belongs to no host type; None when there is no database at all."""
        if self.config.services.service_domain_db is None:
            return next(iter(self.databases), None)
        return self._settings_database()

    def _settings_database(self) -> Database:
        options = self.config.services.service_domain_db
        assert options is not None
        database = self.databases.shared() if options.db_pool == GLOBAL_POOL else self.databases.of(options.db_pool)
        if database is None:
            raise NoPool("services.service_domain_db needs the section outgoing_pools.rdbms.default")
        return database

    def _build_remover(self, store: DomainStore, database: Database) -> DomainRemover:
        auth_places, places = [], []
        forgetful: list[Forgetful] = []
        if self.certificates is not None:
            places += [Place(database, stored) for stored in CertificateTable.stored]
            forgetful.append(self.certificates)
        if self.use is not None:
            places += self.use.places
            forgetful += self.use.forgetful
        for host_type in self.host_types.values():
            own = self.databases.of(host_type.name)
            if own is not None:
                auth_places += [Place(own, stored) for stored in RdbmsAuth.stored]
                modules = [m for m in host_type if isinstance(m, Module)]
                places += [Place(own, stored) for module in modules for stored in module.stored]
                forgetful += modules
        return DomainRemover(
            store, settings_database=database, auth_places=auth_places, places=places, forgetful=forgetful
        )

    def _domain_gone(self, domain: str) -> None:
        """A domain is no longer served: its sessions end, and what is known of its accounts is forgotten."""
        for session in self.sessions.of_domain(domain):
            session.end(StreamError("host-gone"))
        if self.use is not None:
            self.use.domain_gone(domain)
        for host_type in self.host_types.values():
            accounts_of(host_type).forget_domain(domain)
            for module in host_type:
                if isinstance(module, Module):
                    module.forget_domain(domain)

    # -- listeners

    def _listen(self) -> None:
        """Opens the ports of the configuration. Raises CannotListenError, TLSConfigError."""
        assert self.domain_service is not None
        administration = Administration(
            self.domain_service,
            self.domains,
            self.sessions,
            self._remove_account,
            tuple(self.host_types.values()),
            self.certificates,
            self._administered_use(),
        )
        self.listeners = Listeners(
            self.config,
            self.reactor,
            domains=self.domains,
            router=self.router,
            random=self.random,
            spawn=self.spawn,
            administration=administration,
            metrics=self.metrics,
            outbox=self._outbox,
            certificates=self.certificates,
        )
        for service in self.listeners.services():
            service.setServiceParent(self)

    def _administered_use(self) -> DomainUse | None:
        if self.use is None or self.use.recorder is None:
            return None
        databases = {name: self.databases.of(name) for name in self.host_types}
        return self.use.for_administration(databases, self.config.host_types)

    async def _remove_account(self, account: JID) -> None:
        """What modules keep of an account; the account itself is its auth method's."""
        if self._remover is not None:
            await self._remover.remove_account(account)

    def _count(self) -> None:
        """What Prometheus may ask for."""
        gauge = self.metrics.gauge
        gauge("sessions", "Bound sessions of this node.", lambda: len(self.sessions))
        gauge("domains", "Domains that this node serves.", lambda: len(self.domains))
        gauge("databases_available", "Pools with a connection.", lambda: sum(d.available for d in self.databases))

    # -- background work

    def spawn(self, event: str, work: Awaitable[object]) -> None:
        """Lets `work` go on by itself; what it raises is logged as `event`."""

        async def run() -> None:
            await work

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self.log.failure(event, failure=failure)

        Deferred.fromCoroutine(run()).addErrback(failed)

    # -- signals

    def _handle_signals(self) -> None:
        """SIGTERM and SIGINT end the server in order and with status 0; SIGHUP reloads what can be reloaded."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.reactor.callFromThread(self._end))
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.reload))
        self.reactor.addSystemEventTrigger("after", "shutdown", self._exit)

    def _end(self) -> None:
        if self.running:  # a second signal must not disturb what the first has begun
            self.reactor.stop()

    def _exit(self) -> None:
        # Twisted has no way to say with which status its program ends. What it still has to do (the pidfile) comes
        # before the interpreter's own end.
        if self._exit_status:
            atexit.register(_end_with, self._exit_status)

    def reload(self) -> None:
        """TLS files, and the log level of the configuration file; anything else needs a restart."""
        if self.listeners is not None:
            self.listeners.reload_tls()
        try:
            level = self._reload_config().general.loglevel
        except Exception as problem:  # noqa: BLE001 - border: a bad file must not end a running server
            self.log.error("reload_refused", reason=str(problem))
            return
        self._server_log.set_level(level)
        self.log.info("reloaded", loglevel=level)

    # -- stop

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self.listeners is not None:
            await self.listeners.stop_accepting()
            await self._settle()
            self.listeners.end_streams(StreamError("system-shutdown"))
        for session in self.sessions:  # those whose clients are away
            session.end(StreamError("system-shutdown"))
        try:
            await self.slow_lane.when_idle().addTimeout(SETTLE_TIMEOUT_S, self.reactor)
        except DeferredTimeoutError:  # a stanza that nobody answers must not keep the server from ending
            self.log.warn("not_settled", seconds=SETTLE_TIMEOUT_S)
        if self.listeners is not None:
            await self.listeners.drain(DRAIN_TIMEOUT_S)
        if self.domain_service is not None:
            await self.domain_service.stop()
        if self.certificates is not None:
            await self.certificates.stop()
        if self.use is not None:
            await self.use.stop()
        for notifications in self.notifications.values():
            await notifications.stop()
        await stop_modules(self.host_types.values())
        if self.node_number is not None:
            await self.node_number.stop()
        await self.databases.stop()
        self.log.info("server_stopped")

    async def _settle(self) -> None:
        """Nothing more is read; what was is committed, and its senders are told so: they need not send it again."""
        sessions = [session for session in self.sessions if isinstance(session, C2SSession)]
        for session in sessions:
            session.slow_down(True)
        settled = DeferredList([session.when_settled() for session in sessions], consumeErrors=True)
        settled.addTimeout(SETTLE_TIMEOUT_S, self.reactor)
        try:
            await settled
        except DeferredTimeoutError:
            self.log.warn("not_settled", seconds=SETTLE_TIMEOUT_S)
        for session in sessions:
            session.acknowledge()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        stopped: Deferred[None] = Deferred.fromCoroutine(self._stop())
        return stopped.addErrback(lambda failure: self.log.failure("server_stop_failed", failure=failure))


def _quiet_collector() -> None:
    """What exists by now stays; what comes is mostly freed by counting. The collector need not look at it so often.

    Trees of stanzas are cycles, so with its default the collector runs often while they are looked into.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _end_with(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
