"""A certificate that is put on one of two servers is shown by both, and gone from both with its domain."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from tests.fixtures.certs import Issued, authority, issue
from tests.fixtures.http import request
from tests.fixtures.server import free_port, temporary_folder
from tests.interop.configs import GENERAL, Ports, server_with, with_database
from tests.interop.databases import ExternalPostgres, until

METRICS = '[[listen.http.handlers.mongoose_prometheus_handler]]\nhost = "localhost"\npath = "/metrics"\n'


class TlsPorts(Ports):
    """STARTTLS and TLS from the first byte, with a default certificate in `files`."""

    def __init__(self, files: Any) -> None:
        super().__init__()
        self.direct = free_port()
        self._files = files

    @property
    def sections(self) -> str:
        return (
            self.c2s_section(self._tls("starttls_required"))
            + self.c2s_section(self._tls("tls")).replace(f"port = {self.c2s}", f"port = {self.direct}")
            + self.http_section()
            + METRICS
        )

    def _tls(self, mode: str) -> str:
        certificate, key = self._files.certificate, self._files.key
        return f'[listen.c2s.tls]\nmode = "{mode}"\ncertfile = "{certificate}"\nkeyfile = "{key}"\n'


def shown(port: int, domain: str, *, starttls: bool) -> bytes | None:
    """The certificate that a client of `domain` gets. Waits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority().pem.decode())
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        if starttls:
            stream = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
            connection.sendall(f"<stream:stream to='{domain}' version='1.0' {stream}>".encode())
            _read(connection, b"</stream:features>")
            connection.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            _read(connection, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        # Without a name in TLS the stream's `to` decides.
        with context.wrap_socket(connection, server_hostname=None if starttls else domain) as secured:
            return secured.getpeercert(binary_form=True)


def _read(connection: socket.socket, end: bytes) -> None:
    received = b""
    while not received.endswith(end):
        data = connection.recv(4096)
        assert data, received
        received += data


class TwoServers(TestCase):
    timeout = 60
    postgres: ClassVar[ExternalPostgres]

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def begin(self) -> None:
        self.postgres.fresh_database()
        files = issue("default.example").write(temporary_folder(self))
        self.here, self.there = TlsPorts(files), TlsPorts(files)
        text = with_database(self.postgres.connection(), general=GENERAL)
        self.servers = [server_with(self, text + ports.sections) for ports in (self.here, self.there)]
        await gatherResults(Deferred.fromCoroutine(server.start()) for server in self.servers)

    async def asks(self, method: str, what: str, body: Any = None) -> tuple[int, Any]:
        return await request(method, f"{self.here.api}/{what}", body)

    async def assertShown(self, ports: TlsPorts, domain: str, issued: Issued) -> None:
        self.assertEqual(await deferToThread(shown, ports.c2s, domain, starttls=True), issued.der)
        self.assertEqual(await deferToThread(shown, ports.direct, domain, starttls=False), issued.der)

    async def becomes(self, domain: str, issued: Issued) -> None:
        """On the server that was not asked, within moments."""

        async def attempt() -> bool | None:
            der = await deferToThread(shown, self.there.direct, domain, starttls=False)
            return True if der == issued.der else None

        await until(attempt, f"the certificate of {domain}")
        await self.assertShown(self.there, domain, issued)

    async def test_a_certificates_life(self) -> None:
        await self.begin()
        for domain in ("a.example", "b.example"):
            self.assertEqual((204, None), await self.asks("PUT", f"domains/{domain}", {"host_type": "basic"}))
        default = issue("default.example")
        await self.becomes("a.example", default)
        for issued in (issue("a.example"), authority().issue("a.example")):
            body = {"chain": issued.certificate_pem.decode(), "key": issued.key_pem().decode()}
            self.assertEqual((204, None), await self.asks("PUT", "domains/a.example/certificate", body))
            await self.assertShown(self.here, "a.example", issued)
            await self.becomes("a.example", issued)
        await self.assertShown(self.here, "b.example", default)
        self.assertEqual(0, await self.servers[1].stop())
        await self.servers[1].start()
        await self.assertShown(self.there, "a.example", issued)
        self.assertEqual((204, None), await self.asks("DELETE", "domains/a.example", {"host_type": "basic"}))
        self.assertEqual([], self.postgres.rows("SELECT domain FROM domain_certificates"))
        self.assertEqual((204, None), await self.asks("PUT", "domains/a.example", {"host_type": "basic"}))
        await self.assertShown(self.here, "a.example", default)
        await self.becomes("a.example", default)

    async def metrics(self) -> list[str]:
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        response = await treq.get(f"http://localhost:{self.here.http}/metrics", agent=agent)
        lines = (await response.text()).splitlines()
        return [line for line in lines if line.startswith("dynxmpp_domain_certificates")]

    async def test_what_is_told_of_the_end_of_one(self) -> None:
        await self.begin()
        self.assertEqual(
            ["dynxmpp_domain_certificates 0.0", "dynxmpp_domain_certificates_ending 0.0"], await self.metrics()
        )
        now = datetime.now(UTC)
        for domain, days in (("a.example", 10), ("b.example", 100)):
            await self.asks("PUT", f"domains/{domain}", {"host_type": "basic"})
            issued = authority().issue(domain, not_after=now + timedelta(days=days, hours=1))
            body = {"chain": issued.certificate_pem.decode(), "key": issued.key_pem().decode()}
            self.assertEqual((204, None), await self.asks("PUT", f"domains/{domain}/certificate", body))
        self.assertEqual(
            ["dynxmpp_domain_certificates 2.0", "dynxmpp_domain_certificates_ending 1.0"], await self.metrics()
        )
        status, facts = await self.asks("GET", "domains/a.example/certificate")
        self.assertEqual((200, 10), (status, facts["days_left"]))
        await self.servers[0].stop()
        self.servers[0].launch()
        event = await self.servers[0].event("certificate_expires")
        self.assertEqual(("a.example", 10, "warn"), (event["domain"], event["days_left"], event["level"]))
        await self.servers[0].event("server_started")
