"""A listening port for HTTP."""

from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.policies import ThrottlingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.server import Site

from dynxmpp.config.listen import HttpListener
from dynxmpp.tls import ServerTLS


class HttpService(Service):
    """The port as a service: open while it runs."""

    log = Logger()

    def __init__(self, reactor: Any, config: HttpListener, site: Site, tls: ServerTLS | None) -> None:
        self._reactor = reactor
        self._config = config
        self._site = site
        self._tls = tls
        self.port: IListeningPort | None = None

    def startService(self) -> None:
        factory: Any = self._site
        factory.noisy = False
        limit = self._config.transport.max_connections
        if limit != float("inf"):
            factory = ThrottlingFactory(factory, maxConnectionCount=int(limit))
        if self._tls is not None:
            factory = TLSMemoryBIOFactory(self._tls, False, factory)
        factory.noisy = False
        config = self._config
        self.port = self._reactor.listenTCP(config.port, factory, config.backlog, config.ip_address)
        super().startService()
        self.log.info("http_listening", ip_address=config.ip_address, port=config.port, tls=self._tls is not None)

    async def stop_accepting(self) -> None:
        """Closes the port; requests that are being answered go on."""
        if self.port is not None:
            port, self.port = self.port, None
            await port.stopListening()  # type: ignore[misc]
