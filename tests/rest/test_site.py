"""What is decided before a handler is asked."""

import base64
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.site import AdminSite, Attachment, Mount, accepts_json, host_of
from tests.rest.server import RestTestCase, at

ORG = at("/api", "example.org")
BASIC = {"host_type": "basic"}


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


class Plain(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        request.setHeader("Content-Type", "application/json")
        return b'"plain"'


class TransportTests(RestTestCase):
    def places(self) -> Sequence[Mount | Attachment]:
        return [*super().places(), Attachment("_", "/plain", Plain())]

    async def test_the_host_header_selects_the_mount(self) -> None:
        for host, status in (
            ("localhost", 404),
            ("LOCALHOST:1234", 404),
            ("example.org", 404),
            ("[::1]:8088", 404),
            ("", 404),
            ("localhost.example", 404),
        ):
            answer = await self.ask("GET", ORG, headers={"Host": host})
            known = host.lower().startswith("localhost") and host != "localhost.example"
            self.assertEqual(answer.outcome, (status, {"what": "domain not found"} if known else None), host)
        answer = await self.ask("GET", at("/six", "example.org"), headers={"Host": "a..b"})
        self.assertEqual(answer.outcome, (404, "Given domain does not exist"))

    async def test_paths_that_are_not_there(self) -> None:
        for path in (
            "/",
            "/api",
            "/api/",
            "/api/domain",
            "/api/domains/",
            "/api/domains//",
            "/api//domains",
            "/api/domains/a/b",
            "/apix/domains/example.org",
            "/api/domains/example.org/",
            "/other/domains/example.org",
            "/api%2Fdomains/example.org",
            "/%FF/x",
        ):
            answer = await self.ask("GET", path)
            self.assertEqual(answer.outcome, (404, None), path)

    async def test_other_methods(self) -> None:
        for method in ("POST", "OPTIONS", "HEAD", "TRACE", "FOO"):
            answer = await self.ask(method, ORG)
            self.assertEqual(answer.outcome, (405, None))
            self.assertEqual(answer.headers.getRawHeaders("Allow"), ["PUT, PATCH, GET, DELETE"])
        answer = await self.ask("OPTIONS", at("/six", "example.org"))
        self.assertEqual(answer.outcome, (200, None))
        self.assertEqual(answer.headers.getRawHeaders("Allow"), ["PUT, PATCH, GET, DELETE, OPTIONS"])

    async def test_bodies_that_are_not_json(self) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
            for method in ("PUT", "PATCH"):
                answer = await self.ask(method, ORG, BASIC, headers={"Content-Type": kind})
                self.assertEqual(answer.outcome, (415, None), kind)
        answer = await self.ask("PUT", ORG, BASIC, headers={"Content-Type": "Application/JSON; charset=utf-8; x=y"})
        self.assertEqual(answer.status, 204)

    async def test_clients_that_do_not_want_json(self) -> None:
        for accept in (
            "text/html",
            "application/xml, text/*",
            "application/json;q=0",
            "application/*, application/json;q=0.0",
        ):
            answer = await self.ask("GET", ORG, headers={"Accept": accept})
            self.assertEqual(answer.outcome, (406, None), accept)
        for accept in ("*/*", "application/json", "text/html, application/*;q=0.1", "application/json;q=0.5, */*;q=0"):
            answer = await self.ask("GET", ORG, headers={"Accept": accept})
            self.assertEqual(answer.status, 404, accept)

    async def test_bodies_that_are_too_large(self) -> None:
        padding = " " * (64 * 1024 - len('{"host_type":"basic"}'))
        fits = ('{"host_type":"basic"' + padding + "}").encode()
        self.assertEqual((await self.ask("PUT", ORG, raw=fits)).status, 204)
        for raw in (fits + b" ", b"x" * 500_000):
            answer = await self.ask("PUT", ORG, raw=raw)
            self.assertEqual(answer.outcome, (413, {"what": "body is too large"}))

    async def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes, until the server closes."""
        answer: Deferred[bytes] = Deferred()

        class Client(Protocol):
            received = b""

            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(request)

            def dataReceived(self, data: bytes) -> None:
                self.received += data

            def connectionLost(self, reason: Any = None) -> None:
                answer.callback(self.received)

        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Client())
        return await answer

    async def test_headers_of_any_bytes(self) -> None:
        for host, name, status in (
            (b"\xff", b"X", b"404"),
            (b"localhost", b"Accept", b"406"),
            (b"localhost", b"Authorization", b"404"),
        ):
            request = b"GET /api/domains/a HTTP/1.1\r\nHost: %b\r\n%b: \xff\xfe\r\nConnection: close\r\n\r\n"
            answer = await self.raw(request % (host, name))
            self.assertTrue(answer.startswith(b"HTTP/1.1 " + status), answer)

    async def test_a_target_that_is_a_whole_url_overrides_the_host_header(self) -> None:
        request = b"GET http://%b:80/api/domains?limit=1 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
        answer = await self.raw(request % (b"localhost", b"elsewhere"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
        answer = await self.raw(request % (b"elsewhere", b"localhost"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 404"), answer)

    async def test_a_body_without_an_end_is_cut_off(self) -> None:
        lost: Deferred[int] = Deferred()
        sent = 0

        class Flood(Protocol):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(b"PUT /api/domains/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                transport.registerProducer(self, False)

            def resumeProducing(self) -> None:
                nonlocal sent
                sent += 65536
                transport: Any = self.transport
                transport.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

            def stopProducing(self) -> None: ...

            def connectionLost(self, reason: Any = None) -> None:
                lost.callback(sent)

        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Flood())
        # Some megabytes more may stand in the buffers of both sockets.
        self.assertLess(await lost, 64 * 1024 * 1024)

    async def test_other_resources_at_a_path(self) -> None:
        self.assertEqual((await self.ask("GET", "/plain")).outcome, (200, "plain"))


class CredentialsTests(RestTestCase):
    async def test_five(self) -> None:
        path = at("/api-auth", "example.org")
        for headers, what in (
            ({}, "basic auth is required"),
            ({"Authorization": "Bearer x"}, "basic auth is required"),
            (basic("admin", "wrong"), "basic auth provided, invalid password"),
            (basic("other", "sécret"), "basic auth provided, invalid password"),
            ({"Authorization": "Basic ***"}, "basic auth provided, invalid password"),
            ({"Authorization": "Basic"}, "basic auth provided, invalid password"),
        ):
            answer = await self.ask("PUT", path, BASIC, headers=headers)
            self.assertEqual(answer.outcome, (403, {"what": what}))
            self.assertFalse(answer.headers.hasHeader("WWW-Authenticate"))
        self.assertEqual((await self.ask("PUT", path, BASIC, headers=basic("admin", "sécret"))).status, 204)

    async def test_five_without_configured_credentials(self) -> None:
        answer = await self.ask("PUT", ORG, BASIC, headers=basic("admin", "sécret"))
        self.assertEqual(answer.outcome, (403, {"what": "basic auth provided, but not configured"}))
        self.assertEqual((await self.ask("PUT", ORG, BASIC, headers={"Authorization": "Bearer x"})).status, 204)

    async def test_six(self) -> None:
        path = at("/six-auth", "example.org")
        for headers in ({}, {"Authorization": "Bearer x"}, basic("admin", "wrong"), {"Authorization": "Basic ***"}):
            for method in ("PUT", "GET", "OPTIONS"):
                answer = await self.ask(method, path, BASIC if method == "PUT" else None, headers=headers)
                self.assertEqual(answer.outcome, (401, None))
                challenge = answer.headers.getRawHeaders("WWW-Authenticate")
                self.assertEqual(challenge, ['Basic realm="mongooseim"'])
        self.assertEqual((await self.ask("PUT", path, BASIC, headers=basic("admin", "sécret"))).status, 204)

    async def test_six_without_configured_credentials(self) -> None:
        for headers in (basic("admin", "sécret"), {"Authorization": "Bearer x"}):
            answer = await self.ask("PUT", at("/six", "example.org"), BASIC, headers=headers)
            self.assertEqual(answer.outcome, (401, None))

    async def test_nothing_is_done_without_them(self) -> None:
        await self.ask("PUT", at("/api-auth", "example.org"), BASIC)
        await self.ask("PUT", at("/six-auth", "example.org"), BASIC)
        self.assertEqual(await self.db.query("SELECT domain FROM domain_settings"), [])


class HeaderTests(TestCase):
    def test_hosts(self) -> None:
        for header, host in (
            (None, ""),
            ("localhost", "localhost"),
            ("LocalHost:80", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ):
            self.assertEqual(host_of(header), host)

    def test_accept(self) -> None:
        for header, accepted in (
            (None, True),
            ("", True),
            ("*/*;q=0", False),
            (";;,", False),
            ("application/json", True),
        ):
            self.assertEqual(accepts_json(header), accepted, header)

    def test_the_first_mount_that_has_the_resource_answers(self) -> None:
        mounts = [Mount(FIVE, host="_", path="/api", apis=[]), Mount(SIX, host="_", path="/api/six", apis=[])]
        self.assertIsNone(mounts[0].find(["six", "openapi.json"]))
        self.assertIsNotNone(mounts[1].find(["openapi.json"]))
        AdminSite(mounts, clock=reactor)
