"""A client that says goodbye to TLS (RFC 8446 6.1) while much of what it was sent is still on its way."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from dynxmpp.tls import ServerTLS, TLSOptions
from tests.fixtures.c2s import NOTHING, C2SServer, bind, header, plain
from tests.fixtures.certs import issue
from tests.tls.handshake import FilesCase, client_context

T = TypeVar("T")
TIMEOUT_S = 10


class SmallClient:
    """A blocking client that takes little at a time, and can say goodbye before it has read everything."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", port))
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._received, self._to_send, server_hostname="a.example")
        self._until_done(self._tls.do_handshake)

    def _until_done(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._to_send.read())
                data = self.socket.recv(65536)
                assert data, "closed"
                self._received.write(data)
            else:
                self.socket.sendall(self._to_send.read())
                return done

    def asks(self, xml: str, answer: bytes) -> None:
        """Sends, and reads until `answer` has come."""
        self._until_done(lambda: self._tls.write(xml.encode()))
        got = b""
        while answer not in got:
            got += self._until_done(lambda: self._tls.read(65536))

    def says_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self.socket.sendall(self._to_send.read())

    def reads_to_the_end(self) -> None:
        """Raises TimeoutError when the server does not close."""
        while self.socket.recv(65536):
            pass
        self.socket.close()


class Goodbye(FilesCase):
    async def test_the_session_ends_although_much_was_to_be_sent(self) -> None:
        server = C2SServer(tls="tls", max_send_queue=100_000_000)
        server.context.clock = cast(Any, reactor)
        directory = Path(self.mktemp())
        issue("a.example").write(directory / "a.example")
        tls = ServerTLS(TLSOptions(), clock=cast(Any, reactor), directory=directory)
        factory = TLSMemoryBIOFactory(tls, False, server.factory)
        port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def logged_in() -> SmallClient:
            client = SmallClient(port.getHost().port)
            client.asks(header({"to": "a.example", "version": "1.0"}), b"</stream:features>")
            client.asks(plain("ann"), b"<success")
            client.asks(header({"to": "a.example", "version": "1.0"}), b"</stream:features>")
            client.asks(bind("phone"), b"</iq>")
            return client

        client = await deferToThread(logged_in)
        session: Any = server.sessions.of("ann@a.example")[0]
        connection = session.stream.transport.transport
        heard: Deferred[None] = Deferred()
        lose = connection.loseConnection

        def closes() -> None:
            lose()
            if not heard.called:
                heard.callback(None)

        self.patch(connection, "loseConnection", closes)
        self.addCleanup(connection.abortConnection)
        for _ in range(100):
            session.stream.write(b"<message><body>%b</body></message>" % (b"x" * 100_000))
        client.says_goodbye()
        await heard
        await deferToThread(client.reads_to_the_end)
        await server.factory.when_empty()
        self.assertEqual(NOTHING, server.balance)
        self.assertEqual(["ann@a.example/phone"], server.observer().ended)
