"""RawClient over TLS, for clients that say everything at once (XEP-0388, XEP-0386, XEP-0484).

client = await TlsClient.reaches(case, port, "example.org")
client.begins("<authenticate .../>")
success = await client.named("success")
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.words.xish import domish
from zope.interface import implementer

from tests.interop.raw import PATIENCE_S, RawClient


@implementer(IOpenSSLClientConnectionCreator)
class _Trusting:
    """TLS with whoever is there: the servers of tests have made their certificates themselves."""

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([b"xmpp-client"])
        connection = SSL.Connection(context, None)
        connection.set_tlsext_host_name(self._domain.encode())
        return connection


@implementer(IHandshakeListener)
class TlsClient(RawClient):
    """Counts stanzas as XEP-0198 wants it, from the moment when the test sets `handled`."""

    def __init__(self) -> None:
        super().__init__()
        self.handled: int | None = None
        self._secured: Deferred[None] = Deferred()
        self._held: list[str] | None = None

    @classmethod
    async def reaches(cls, case: Any, port: int, domain: str) -> "TlsClient":
        """Connected, with the handshake done and nothing said; closed with the test. Raises ConnectError."""
        endpoint = wrapClientTLS(_Trusting(domain), TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        client: Any = await endpoint.connect(Factory.forProtocol(cls))
        assert isinstance(client, TlsClient)
        case.addCleanup(client.close)
        client.domain = domain
        await client._secured.addTimeout(PATIENCE_S, reactor)
        return client

    def handshakeCompleted(self) -> None:
        self._secured.callback(None)

    def exported(self) -> bytes:
        """The channel binding tls-exporter (RFC 9266)."""
        connection: SSL.Connection = self.transport.getHandle()  # type: ignore[union-attr]
        return connection.export_keying_material(b"EXPORTER-Channel-Binding", 32)

    def begins(self, xml: str) -> None:
        """Sends the stream header and all this in one write."""
        self._held = held = list[str]()
        self.open_stream(self.domain)
        self._held = None
        self.send("".join((*held, xml)))

    def send(self, xml: str) -> None:
        if self._held is not None:
            self._held.append(xml)
        else:
            super().send(xml)

    def _arrived(self, element: domish.Element) -> None:
        if self.handled is not None and element.name in ("message", "presence", "iq"):
            self.handled += 1
        super()._arrived(element)
