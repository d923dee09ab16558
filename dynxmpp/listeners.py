"""The ports of a server, as [listen] wants them."""

from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

from prometheus_client.twisted import MetricsResource
from twisted.application.service import Service
from twisted.internet.defer import DeferredList
from twisted.logger import Logger

from dynxmpp.c2s.context import C2SContext
from dynxmpp.c2s.listener import C2SFactory, C2SService
from dynxmpp.c2s.outbox import Outbox
from dynxmpp.config.host_config import Config
from dynxmpp.config.listen import HttpHandler, MetricsHandler, Tls
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.router import Router
from dynxmpp.metrics import Metrics
from dynxmpp.rest.listener import HttpService
from dynxmpp.rest.mounts import Administration
from dynxmpp.rest.site import AdminSite, Attachment, Mount
from dynxmpp.tls import ServerTLS, StoredCertificates
from dynxmpp.tls_options import build_tls
from dynxmpp.wire.errors import StreamError


class Listeners:
    """Makes the services of all listeners; each opens its port when it starts."""

    log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        domains: DomainTable[HostType],
        router: Router,
        random: Random,
        spawn: Callable[[str, Awaitable[object]], None],
        administration: Administration,
        metrics: Metrics,
        outbox: Outbox,
        certificates: StoredCertificates | None = None,
    ) -> None:
        """`certificates`: those of domains that are in no file, for the listeners of clients."""
        self._config = config
        self._reactor = reactor
        self._domains = domains
        self._router = router
        self._random = random
        self._spawn = spawn
        self._administration = administration
        self._metrics = metrics
        self._outbox = outbox
        self._certificates = certificates
        self._tls: list[ServerTLS] = []
        self.c2s = list(self._build_c2s())
        self.http = list(self._build_http())
        metrics.gauge(
            "connections", "Client connections.", lambda: sum(s.factory.context.connections for s in self.c2s)
        )

    def services(self) -> list[Service]:
        return [*self.c2s, *self.http]

    def _build_c2s(self) -> Iterator[C2SService]:
        general = self._config.general
        for listener in self._config.listen.c2s:
            context = C2SContext(
                config=listener,
                tls=self._build_tls(listener.tls, self._certificates),
                domains=self._domains,
                router=self._router,
                default_domain=general.default_server_domain,
                language=general.language,
                clock=self._reactor,
                random=self._random,
                spawn=self._spawn,
                hide_service_name=general.hide_service_name,
                outbox=self._outbox,
            )
            yield C2SService(self._reactor, C2SFactory(context))

    def _build_http(self) -> Iterator[HttpService]:
        for listener in self._config.listen.http:
            site = AdminSite(
                [place for handler in listener.handlers for place in self._places(handler)],
                clock=self._reactor,
                server_name=self._config.general.http_server_name or "dynxmpp",
            )
            yield HttpService(self._reactor, listener, site, self._build_tls(listener.tls))

    def _places(self, handler: HttpHandler) -> list[Mount | Attachment]:
        """What a handler section puts at its path."""
        if isinstance(handler, MetricsHandler):
            return [Attachment(handler.host, handler.path, MetricsResource(self._metrics.registry))]
        return list(self._administration.mounts([handler]))

    def _build_tls(self, config: Tls | None, stored: StoredCertificates | None = None) -> ServerTLS | None:
        if config is None:
            return None
        tls = build_tls(config, self._config.general, clock=self._reactor, stored=stored)
        self._tls.append(tls)
        return tls

    def reload_tls(self) -> None:
        """Certificates are read anew when they are next needed."""
        for tls in self._tls:
            tls.reload()

    async def stop_accepting(self) -> None:
        """Closes all ports; what is connected stays."""
        for c2s in self.c2s:
            await c2s.stop_accepting()
        for http in self.http:
            await http.stop_accepting()

    def end_streams(self, error: StreamError) -> None:
        """Ends every client's stream with `error`."""
        for service in self.c2s:
            service.factory.end_all(error)

    async def drain(self, timeout_s: float) -> None:
        """Returns when no client's connection is left, or after `timeout_s`: some clients never read."""
        gone = DeferredList([service.factory.when_empty() for service in self.c2s], consumeErrors=True)
        await gone.addTimeout(timeout_s, self._reactor)
        left = sum(len(service.factory.streams) for service in self.c2s)
        if left:
            self.log.warn("streams_not_drained", count=left)
