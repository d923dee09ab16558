"""A Twisted TLS server in memory and the clients to meet it: Python's ssl, and pyOpenSSL where that one can't tell."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.fixtures.certs import authority


class Application(Protocol):
    """Remembers what it received and how it ended."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class FilesCase(TestCase):
    """A test whose temporary names lie in a folder that goes with it: trial's own would stay, keys and all."""

    def mktemp(self) -> str:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return str(Path(folder.name) / "temporary")


class LogCase(FilesCase):
    """A test that reads what was logged while it ran."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self, name: str) -> list[LogEvent]:
        return [event for event in self.events if event["log_format"] == name]


class Server:
    """A TLSMemoryBIOProtocol on a string transport; it sees what a listener's protocol sees."""

    def __init__(self, creator: IOpenSSLServerConnectionCreator) -> None:
        self._clock = Clock()
        factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(Application), clock=self._clock)
        built = factory.buildProtocol(None)
        assert isinstance(built, TLSMemoryBIOProtocol)
        self.transport = built
        assert isinstance(built.wrappedProtocol, Application)
        self.application = built.wrappedProtocol
        self._wire = StringTransport()
        built.makeConnection(self._wire)

    def receive(self, data: bytes) -> None:
        if self.application.lost is not None:
            return
        self.transport.dataReceived(data)
        if self._wire.disconnecting:
            self.transport.connectionLost(Failure(ConnectionError("closed")))

    def sent(self) -> bytes:
        self._clock.advance(0)
        data = self._wire.value()
        self._wire.clear()
        return data


def client_context(trusted: bytes | None = None) -> ssl.SSLContext:
    """Python's client; trusts the test authority (or `trusted`, PEM) and checks names if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=(trusted or authority().pem).decode())
    return context


def unverifying_context() -> ssl.SSLContext:
    """Python's client, for tests in which any certificate may come."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class Met:
    """A finished handshake: both ends, and the DER of the certificate the client was shown."""

    server: Server
    client: ssl.SSLObject
    der: bytes = b""
    _to_client: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    _to_server: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)

    def until(self, step: Callable[[], object]) -> None:
        """Repeat the client's `step`, carrying bytes, till it no longer waits. Raises what it raises."""
        for _ in range(20):
            try:
                step()
            except ssl.SSLWantReadError:
                self._carry()
            except ssl.SSLError:
                self._carry()
                raise
            else:
                self._carry()
                return
        raise AssertionError("the handshake leads nowhere")

    def _carry(self) -> None:
        outgoing = self._to_server.read()
        if outgoing:
            self.server.receive(outgoing)
        self._to_client.write(self.server.sent())

    def say(self, data: bytes) -> None:
        self.until(lambda: self.client.write(data))


def meet(
    creator: IOpenSSLServerConnectionCreator,
    name: str | None = None,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> Met:
    """Shake hands, the client sending `name` (SNI). Raises ssl.SSLError as the client sees it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context or unverifying_context()
    client = context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    met = Met(Server(creator), client, _to_client=to_client, _to_server=to_server)
    met.until(client.do_handshake)
    # TLS 1.3: the client is done before the server judges its certificate; a byte shows what the server thinks.
    met.say(b"?")
    met.der = client.getpeercert(binary_form=True) or b""
    return met


def refusal(
    creator: IOpenSSLServerConnectionCreator, name: str | None = None, context: ssl.SSLContext | None = None
) -> str:
    """What a client's OpenSSL says of the alert it gets (lower case); fails when the client is served."""
    try:
        met = meet(creator, name, context)
        met.until(lambda: met.client.read(1))
    except ssl.SSLError as error:
        return str(error).lower()
    raise AssertionError("the handshake went through")


def meet_pyopenssl(creator: IOpenSSLServerConnectionCreator, client: SSL.Connection) -> Server:
    """Shake hands with a pyOpenSSL client, which can export keying material."""
    server = Server(creator)
    client.set_connect_state()
    for _ in range(6):
        with suppress(SSL.WantReadError):
            client.do_handshake()
        with suppress(SSL.WantReadError):
            server.receive(client.bio_read(1 << 16))
        answer = server.sent()
        if answer:
            client.bio_write(answer)
    return server
