"""Clients over real sockets and real TLS: what the transports in memory only pretend."""

import base64
import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import Any, cast

from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dynxmpp.c2s import stream
from dynxmpp.c2s.listener import C2SService
from dynxmpp.tls import ALPN_XMPP_CLIENT, ServerTLS, TLSOptions
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_TLS
from tests.fixtures.c2s import NOTHING, PASSWORD, C2SServer, auth, bind, header, plain, response
from tests.fixtures.certs import issue
from tests.tls.handshake import FilesCase, client_context

TIMEOUT_S = 30
STARTTLS = f"<starttls xmlns='{NS_TLS}'/>"


class Peer:
    """A blocking client, to be used in a thread."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.text = b""

    def sends(self, xml: str) -> None:
        self.socket.sendall(xml.encode())

    def until(self, end: bytes) -> bytes:
        """What comes up to and with `end`."""
        while end not in self.text:
            data = self.socket.recv(65536)
            assert data, f"closed, before {end!r} came: {self.text!r}"
            self.text += data
        found, separator, self.text = self.text.partition(end)
        return found + separator

    def opens(self, domain: str) -> bytes:
        """The features."""
        self.sends(header({"to": domain, "version": "1.0"}))
        return self.until(b"</stream:features>")

    def secures(self, name: str) -> None:
        """The handshake; the certificate must be that of `name`."""
        assert not self.text
        context = client_context()
        context.set_alpn_protocols(["xmpp-client"])
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def binds(self, resource: str) -> str:
        self.sends(bind(resource))
        found = re.search(rb"<jid>(.*)</jid>", self.until(b"</iq>"))
        assert found
        return found[1].decode()

    def until_closed(self) -> bytes:
        """Everything up to the end of the connection, which over TLS must be a proper one."""
        while data := self.socket.recv(65536):
            self.text += data
        self.socket.close()
        return self.text


class LoopbackTest(FilesCase):
    def listen(self, mode: str | None) -> None:
        """A service on a free port, as the server opens it."""
        self.server = C2SServer(tls=mode, max_send_queue=100_000_000)
        context = self.server.context
        context.config = cast(Any, _On(context.config, "127.0.0.1"))
        context.clock = cast(Any, reactor)
        directory = Path(self.mktemp())
        for name in ("a.example", "c.example"):
            issue(name).write(directory / name)
        alpn = (ALPN_XMPP_CLIENT,) if mode == "tls" else ()
        context.tls = ServerTLS(TLSOptions(alpn=alpn), clock=cast(Any, reactor), directory=directory)
        service = C2SService(reactor, self.server.factory)
        service.startService()
        assert service.port is not None
        self.port: int = service.port.getHost().port  # type: ignore[attr-defined]
        self.addCleanup(lambda: Deferred.fromCoroutine(service.stop_accepting()))

    async def assert_nobody_is_left(self) -> None:
        await self.server.factory.when_empty()
        self.assertEqual(NOTHING, self.server.balance)

    async def test_starttls(self) -> None:
        self.listen("starttls_required")

        def dialogue() -> tuple[str, bytes]:
            peer = Peer(self.port)
            assert b"<mechanism>" not in peer.opens("c.example")
            peer.sends(STARTTLS)
            peer.until(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            peer.secures("c.example")
            assert b"<mechanism>PLAIN</mechanism>" in peer.opens("c.example")
            peer.sends(plain("ann"))
            peer.until(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
            peer.opens("c.example")
            jid = peer.binds("phone")
            peer.sends("<message to='ann@c.example/phone'/></stream:stream>")
            return jid, peer.until_closed()

        jid, rest = await deferToThread(dialogue)
        self.assertEqual("ann@c.example/phone", jid)
        self.assertEqual(b"<message to='ann@c.example/phone' from='ann@c.example/phone'/></stream:stream>", rest)
        await self.assert_nobody_is_left()
        self.assertEqual(["ann@c.example/phone"], self.server.observer("other").ended)

    async def test_the_certificate_is_that_of_the_header(self) -> None:
        """A client that does not name anybody in its handshake (RFC 6066) gets what its `to` asked for."""
        self.listen("starttls")

        def certificate(domain: str) -> bytes | None:
            peer = Peer(self.port)
            peer.opens(domain)
            peer.sends(STARTTLS)
            peer.until(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            context = client_context()
            context.check_hostname = False
            with context.wrap_socket(peer.socket) as secured:
                return secured.getpeercert(binary_form=True)

        for domain in ("a.example", "c.example"):
            self.assertEqual(issue(domain).der, await deferToThread(certificate, domain))
        await self.assert_nobody_is_left()

    async def test_direct_tls_and_channel_binding(self) -> None:
        self.listen("tls")

        def dialogue() -> str:
            peer = Peer(self.port)
            peer.secures("a.example")
            assert cast(ssl.SSLSocket, peer.socket).selected_alpn_protocol() == "xmpp-client"
            features = peer.opens("a.example")
            assert STARTTLS.encode() not in features
            assert b"<mechanism>SCRAM-SHA-256-PLUS</mechanism>" in features
            assert b"<channel-binding type='tls-server-end-point'/>" in features
            own = ScramClient(
                ["SCRAM-SHA-256-PLUS"],
                "ann",
                PASSWORD,
                channel_binding=("tls-server-end-point", _end_point(cast(ssl.SSLSocket, peer.socket))),
            )
            peer.sends(auth("SCRAM-SHA-256-PLUS", own.get_client_first().encode()))
            own.set_server_first(_content(peer.until(b"</challenge>")))
            peer.sends(response(own.get_client_final().encode()))
            own.set_server_final(_content(peer.until(b"</success>")))
            peer.opens("a.example")
            return peer.binds("phone")

        self.assertEqual("ann@a.example/phone", await deferToThread(dialogue))

    async def test_a_lot_for_a_client_that_then_reads(self) -> None:
        for mode in (None, "tls"):
            self.listen(mode)
            peer = await deferToThread(self.logged_in, mode)
            session: Any = self.server.sessions.of("ann@a.example")[0]
            piece = b"<message><body>%b</body></message>" % (b"x" * 100_000)
            for _ in range(100):
                session.stream.write(piece)
            self.server.factory.end_all(StreamError("system-shutdown"))
            text = await deferToThread(peer.until_closed)
            self.assertEqual(100, text.count(piece))
            self.assertTrue(text.endswith(StreamError("system-shutdown").to_bytes() + b"</stream:stream>"))
            await self.assert_nobody_is_left()

    async def test_an_end_while_not_reading(self) -> None:
        """Over TLS the peer's closing alert has to be read; the connection must not wait for its timeout."""
        self.listen("tls")
        peer = await deferToThread(self.logged_in, "tls")
        session: Any = self.server.sessions.of("ann@a.example")[0]
        self.patch(stream, "CLOSE_TIMEOUT_S", 10 * TIMEOUT_S)
        session.slow_down(True)
        session.end(StreamError("reset"))

        def says_goodbye() -> bytes:
            peer.until(b"</stream:stream>")
            with cast(ssl.SSLSocket, peer.socket).unwrap() as clear:
                return clear.recv(1)

        self.assertEqual(b"", await deferToThread(says_goodbye))
        await self.assert_nobody_is_left()

    async def test_a_broken_handshake(self) -> None:
        self.listen("tls")

        def noise() -> bytes:
            peer = Peer(self.port)
            peer.sends("<stream:stream to='a.example'>" * 10)
            return peer.until_closed()

        self.assertNotIn(b"a.example", await deferToThread(noise))
        await self.assert_nobody_is_left()

    def logged_in(self, mode: str | None) -> Peer:
        peer = Peer(self.port)
        if mode == "tls":
            peer.secures("a.example")
        peer.opens("a.example")
        peer.sends(plain("ann"))
        peer.until(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        peer.opens("a.example")
        peer.binds("phone")
        return peer


class _On:
    """A listener's configuration, on a free port of an address."""

    port = 0

    def __init__(self, config: Any, address: str) -> None:
        self._config = config
        self.ip_address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


def _content(element: bytes) -> str:
    """What a SASL element at the end of `element` carries."""
    found = re.search(rb">([^<>]*)</\w+>$", element)
    assert found
    return base64.b64decode(found[1]).decode()


def _end_point(secured: ssl.SSLSocket) -> bytes:
    """RFC 5929 4, for a certificate signed with SHA-256."""
    der = secured.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).digest()
