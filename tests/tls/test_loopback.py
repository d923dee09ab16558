"""The same over sockets: direct TLS by listenSSL, STARTTLS by startTLS, with the transports a listener really has."""

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHandshakeListener, IListeningPort, ITLSTransport
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from dynxmpp.tls import ALPN_XMPP_CLIENT, ServerTLS, TLSOptions, channel_bindings
from tests.fixtures.certs import authority, issue
from tests.tls.handshake import FilesCase, client_context

# The same object, with the type that has all of TCP and TLS.
loop = cast(PosixReactorBase, reactor)


class Listener(Protocol):
    """Says who it is; on "STARTTLS a.example\\n" does so, and after the handshake tells its channel bindings."""

    def __init__(self, tls: ServerTLS) -> None:
        self._tls = tls

    def dataReceived(self, data: bytes) -> None:
        verb, _, argument = data.decode().strip().partition(" ")
        assert self.transport is not None
        if verb == "STARTTLS":
            self.transport.write(b"PROCEED\n")
            cast(ITLSTransport, self.transport).startTLS(self._tls.for_name(argument))
        elif verb == "BINDINGS":
            told = (f"{kind}={value.hex()}" for kind, value in channel_bindings(self.transport).items())
            self.transport.write((" ".join(told) or "none").encode() + b"\n")


@implementer(IHandshakeListener)
class Client(Protocol):
    """Waits for lines and for the end of the handshake."""

    def __init__(self) -> None:
        self._waiting: Deferred[bytes] | None = None
        self._line = b""
        self.secured: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    @property
    def wire(self) -> Any:
        """The transport, with all that a socket's has and no single interface declares."""
        return self.transport

    def ask(self, line: bytes) -> Deferred[bytes]:
        self._waiting = Deferred()
        self.wire.write(line + b"\n")
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        self._line += data
        if self._line.endswith(b"\n") and self._waiting is not None:
            line, self._line = self._line.strip(), b""
            waiting, self._waiting = self._waiting, None
            waiting.callback(line)

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class Listeners(ServerFactory):
    """Makes listeners."""

    def __init__(self, tls: ServerTLS) -> None:
        self._tls = tls

    def buildProtocol(self, addr: object) -> Protocol:
        return Listener(self._tls)


class LoopbackTests(FilesCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        for name in ("a.example", "b.example"):
            issue(name).write(directory / name)
        self.starttls = ServerTLS(TLSOptions(), clock=loop, directory=directory)
        self.direct = ServerTLS(TLSOptions(alpn=(ALPN_XMPP_CLIENT,)), clock=loop, directory=directory)

    def listen(self) -> int:
        """The number of a port that begins in the clear."""
        return self.number(loop.listenTCP(0, Listeners(self.starttls), interface="127.0.0.1"))

    def listen_direct(self) -> int:
        """The number of a port that begins with TLS."""
        return self.number(loop.listenSSL(0, Listeners(self.direct), self.direct, interface="127.0.0.1"))

    def number(self, port: IListeningPort) -> int:
        self.addCleanup(port.stopListening)
        return cast(IPv4Address, port.getHost()).port

    async def connect(self, port: int) -> Client:
        return await connectProtocol(TCP4ClientEndpoint(loop, "127.0.0.1", port), Client())

    async def close(self, client: Client) -> None:
        client.wire.loseConnection()
        await client.gone

    async def assertBound(self, client: Client, name: str) -> None:
        """Both ends see the same connection and the certificate of `name`."""
        connection = client.wire.getHandle()
        assert isinstance(connection, SSL.Connection)
        exported = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        seen = hashlib.sha256(issue(name).der).hexdigest()
        told = await client.ask(b"BINDINGS")
        self.assertEqual(told.decode(), f"tls-exporter={exported.hex()} tls-server-end-point={seen}")

    async def test_starttls(self) -> None:
        port = self.listen()
        trusted = Certificate.loadPEM(authority().pem)
        for name in ("a.example", "b.example"):
            client = await self.connect(port)
            self.assertEqual(await client.ask(b"BINDINGS"), b"none")
            self.assertEqual(await client.ask(b"STARTTLS " + name.encode()), b"PROCEED")
            client.wire.startTLS(optionsForClientTLS(name, trustRoot=trusted))
            await client.secured
            await self.assertBound(client, name)
            await self.close(client)

    async def test_starttls_without_a_name_from_tls(self) -> None:
        port = self.listen()

        def shown() -> bytes | None:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
                plain.sendall(b"STARTTLS b.example\n")
                assert plain.recv(100) == b"PROCEED\n"
                context = client_context()
                context.check_hostname = False
                with context.wrap_socket(plain) as secured:
                    return secured.getpeercert(binary_form=True)

        self.assertEqual(await deferToThread(shown), issue("b.example").der)

    async def test_direct(self) -> None:
        port = self.listen_direct()

        def ask(name: str) -> tuple[str | None, str | None, bytes]:
            context = client_context()
            context.set_alpn_protocols(["xmpp-client"])
            with (
                socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
                context.wrap_socket(plain, server_hostname=name) as secured,
            ):
                secured.sendall(b"BINDINGS\n")
                return secured.version(), secured.selected_alpn_protocol(), secured.recv(1000)

        for name in ("a.example", "b.example"):
            version, protocol, told = await deferToThread(ask, name)
            self.assertEqual((version, protocol), ("TLSv1.3", "xmpp-client"))
            seen = hashlib.sha256(issue(name).der).hexdigest()
            self.assertIn(f"tls-server-end-point={seen}", told.decode())

    async def test_direct_without_overlap_is_refused(self) -> None:
        port = self.listen_direct()

        def refused() -> str:
            context = client_context()
            context.set_alpn_protocols(["h2"])
            with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
                try:
                    context.wrap_socket(plain, server_hostname="a.example")
                except ssl.SSLError as error:
                    return str(error)
            return "served"

        self.assertIn("no application protocol", await deferToThread(refused))

    async def test_noise_instead_of_a_handshake_ends_the_connection(self) -> None:
        port = self.listen_direct()
        client = await self.connect(port)
        client.wire.write(b"<stream:stream to='a.example'>" * 10)
        await client.gone
