"""A listening port for clients: endpoint, TLS from the first byte where that is wanted, one C2SStream a connection."""

from typing import Any

from twisted.application.service import Service
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.words.protocols.jabber.xmlstream import XmlStreamServerFactory

from dynxmpp.c2s.context import C2SContext
from dynxmpp.c2s.eager_port import EagerPort
from dynxmpp.c2s.negotiation import C2SNegotiation
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.wire.errors import StreamError


class C2SFactory(XmlStreamServerFactory):
    """Builds the streams of one listener, and can end them all."""

    noisy = False

    def __init__(self, context: C2SContext) -> None:
        super().__init__(lambda: C2SNegotiation(context))
        self.context = context
        self._limits = context.limits
        self.streams: set[C2SStream] = set()
        self._when_empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> C2SStream:
        context = self.context
        stream = C2SStream(self.authenticatorFactory(), self._limits, context.clock, context.language, context.outbox)
        stream.factory = self
        self.installBootstraps(stream)
        return stream

    def stream_gone(self, stream: C2SStream) -> None:
        """The connection of `stream` is closed."""
        self.streams.discard(stream)
        if not self.streams:
            waiting, self._when_empty = self._when_empty, []
            for deferred in waiting:
                if not deferred.called:
                    deferred.callback(None)

    def when_empty(self) -> "Deferred[None]":
        """Fires once there is no connection; may be cancelled."""
        deferred: Deferred[None] = Deferred()
        if self.streams:
            self._when_empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def end_all(self, error: StreamError) -> None:
        """Ends every stream with `error`."""
        for stream in list(self.streams):
            stream.fail(error)


class C2SService(Service):
    """The port as a service: open while it runs."""

    log = Logger()

    def __init__(self, reactor: Any, factory: C2SFactory) -> None:
        self._reactor = reactor
        self.factory = factory
        self.port: IListeningPort | None = None

    def startService(self) -> None:
        context, factory = self.factory.context, self.factory
        config = context.config
        served: Any = factory
        if context.tls_mode == "tls":
            assert context.tls is not None
            served = TLSMemoryBIOFactory(context.tls, False, factory)
            served.noisy = False
        address = config.ip_address
        binding: Any = tcp.makeBinding(address, config.port, reuseAddress=True, reusePort=config.reuse_port)
        port = EagerPort(binding, served, config.backlog, address, self._reactor)
        port.startListening()
        self.port = port
        super().startService()
        self.log.info("c2s_listening", address=str(port.getHost()), tls=context.tls_mode or "none")

    async def stop_accepting(self) -> None:
        """Closes the port; streams go on."""
        if self.port is not None:
            port, self.port = self.port, None
            await port.stopListening()  # type: ignore[misc]
