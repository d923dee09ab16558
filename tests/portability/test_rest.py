"""The resource {path}/domains/{domain}/data, and the console command that uses it."""

import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from dynxmpp.auth.base import NotSupported
from dynxmpp.config.listen import AdminApiHandler, DomainHandler
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.service import Backing, DomainService
from dynxmpp.domains.synchroniser import Synchroniser
from dynxmpp.rest.data import DataApi
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.mounts import Administration
from dynxmpp.rest.site import AdminSite, Mount
from tests.portability.support import SCRAM, PortabilityCase, accounts_in, document, user
from tests.portability.test_bad_input import LONG

SAMPLES = Path(__file__).parent / "samples"
XML = "application/xml"


@implementer(IBodyProducer)
class InChunks:
    """A body without a length that is known (RFC 9112 7.1)."""

    length = UNKNOWN_LENGTH

    def __init__(self, data: bytes) -> None:
        self._data = data

    def startProducing(self, consumer: Any) -> Deferred[None]:
        for start in range(0, len(self._data), 50_000):
            consumer.write(self._data[start : start + 50_000])
        return succeed(None)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class DataCase(PortabilityCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        table: Any = self.host.domains
        synchroniser = Synchroniser(
            self.store,
            table,
            clock=self.host.clock,
            on_domain_gone=lambda domain: None,
            cleaning_interval_s=1800,
            max_age_s=7200,
        )
        service = DomainService(table, Backing(self.store, synchroniser, self.remover), spawn=self.host.spawn)
        await service.start()
        self.addCleanup(service.stop)
        self.api = DataApi(service, table, remove_account=self.remover.remove_account, host_types=self.host.host_types)
        mounts = [
            Mount(FIVE, host="_", path="/api", apis=[self.api], username="admin", password="secret"),
            Mount(SIX, host="_", path="/six", apis=[self.api]),
        ]
        site: Any = AdminSite(mounts, clock=reactor)
        listening: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.port = listening.getHost().port
        self.url = f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        method: str,
        domain: str,
        data: Any = None,
        *,
        mount: str = "api",
        content_type: str = XML,
        **query: str,
    ) -> tuple[int, str, bytes]:
        """Status, type and body of the answer."""
        response = await treq.request(
            method,
            f"{self.url}/{mount}/domains/{domain}/data",
            params=query,
            data=data,
            headers=Headers({} if data is None else {"Content-Type": [content_type]}),
            agent=Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)),
            auth=("admin", "secret") if mount == "api" else None,
        )
        kind = response.headers.getRawHeaders("Content-Type", [""])[0]
        return response.code, kind, await response.content()

    async def put(self, domain: str, data: bytes, **options: str) -> tuple[int, Any]:
        status, _, content = await self.ask("PUT", domain, data, **options)
        return status, json.loads(content) if content else None


class ByHttp(DataCase):
    async def test_there_and_back(self) -> None:
        status, kind, leaving = await self.ask("GET", "MONTAGUE.example")
        self.assertEqual((200, XML), (status, kind))
        self.assertEqual({"first", "second"}, set(accounts_in(leaving, "montague.example")))
        status, report = await self.put("verona.example", leaving, host="montague.example")
        self.assertEqual((200, []), (status, report["problems"]))
        self.assertEqual({"created": 2, "existing": 0, "refused": 0}, report["accounts"])
        self.assertEqual(["first", "second"], await self.usernames())
        _, _, again = await self.ask("GET", "verona.example", mount="six")
        self.assertEqual({"first", "second"}, set(accounts_in(again, "verona.example")))

    async def test_a_domain_that_is_not_there(self) -> None:
        data = document(user("a"), host="padua.example")
        self.assertEqual((404, {"what": "domain not found"}), await self.put("padua.example", data))
        self.assertEqual(404, (await self.ask("GET", "padua.example"))[0])
        answer = await self.put("padua.example", data, host_type="none")
        self.assertEqual((403, {"what": "unknown host type"}), answer)
        status, report = await self.put("padua.example", data, host_type="basic", dry_run="true")
        self.assertEqual((200, True, 1), (status, report["dry_run"], report["accounts"]["created"]))
        self.assertNotIn("padua.example", self.host.domains)
        status, _ = await self.put("padua.example", b"<nothing/>", host_type="basic")
        self.assertEqual((400, False), (status, "padua.example" in self.host.domains))
        status, report = await self.put("padua.example", data, host_type="basic")
        self.assertEqual(200, status)
        self.assertEqual(["a"], await self.usernames("padua.example"))
        row = await self.store.get("padua.example")
        self.assertEqual("basic", row.host_type if row else None)

    async def test_another_host_type(self) -> None:
        answer = await self.put("verona.example", document(), host_type="advanced")
        self.assertEqual((409, {"what": "duplicate"}), answer)

    async def test_what_is_wrong_with_a_request(self) -> None:
        data = document(user("a"))
        for query in ({"overwrite": "yes"}, {"dry_run": "1"}, {"host": "a b"}):
            (name,) = query
            expected = (400, {"what": f"invalid query parameter '{name}'"})
            self.assertEqual(expected, await self.put("verona.example", data, **query))
        self.assertEqual(415, (await self.put("verona.example", data, content_type="text/plain"))[0])
        self.assertEqual((400, {"what": "invalid domain name"}), await self.put("a%20b", data))
        response = await treq.get(
            f"{self.url}/api/domains/verona.example/data", headers=Headers({"Accept": ["application/json"]})
        )
        self.assertEqual(406, response.code)
        await response.content()
        response = await treq.put(
            f"{self.url}/api/domains/verona.example/data", data=data, headers=Headers({"Content-Type": [XML]})
        )
        self.assertEqual(403, response.code)
        await response.content()
        self.assertEqual([], await self.usernames())

    async def test_what_is_wrong_with_a_document(self) -> None:
        done = "; done before: accounts: 0 created, 0 existing, 0 refused"
        for data, reason in (
            (b"", "it breaks off"),
            (b"<server-data xmlns='urn:xmpp:pie:0'>", "it breaks off"),
            (b"<!DOCTYPE a []><a/>", "line 1: a DTD is not accepted"),
            (document(host="padua.example"), "the document has no host verona.example; it has: padua.example"),
        ):
            self.assertEqual((400, {"what": reason + done}), await self.put("verona.example", data))
            self.assertEqual((400, reason + done), await self.put("verona.example", data, mount="six"))

    async def test_a_large_body_in_chunks(self) -> None:
        """No limit of the listener holds, and nothing is read faster than it is stored."""
        data = document(user("a", LONG))
        self.assertGreater(len(data), 2_000_000)

        status, _, content = await self.ask("PUT", "verona.example", InChunks(data))
        self.assertEqual(200, status)
        report = json.loads(content)
        self.assertEqual((1, []), (report["accounts"]["created"], report["problems"]))
        self.assertEqual(LONG.count("<result"), report["taken"]["messages"])

    async def test_a_client_that_goes(self) -> None:
        """What was complete is there, and nothing of the account that was not."""
        data = document(user("a"), user("b", LONG))

        class Client(Protocol):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(
                    b"PUT /six/domains/verona.example/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
                    b"Content-Length: %d\r\n\r\n" % (len(data) + 1)
                )
                transport.write(data[:-100])
                transport.loseConnection()

        done: Deferred[None] = Deferred()
        removed = self.remover.remove_account

        async def watched(account: Any) -> None:
            await removed(account)
            done.callback(None)

        self.patch(self.api, "_remove_account", watched)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Client())
        await done
        await self.written()
        self.assertEqual(["a"], await self.usernames())
        rows = (await self.rows()).of("verona.example", "b")
        self.assertEqual(0, sum(rows.values()), rows)

    async def test_a_refusal_comes_before_the_body_is_there(self) -> None:
        answered: Deferred[bytes] = Deferred()

        class Client(Protocol):
            received = b""

            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.write(
                    b"PUT /six/domains/verona.example/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
                    b"Content-Length: 100000000\r\n\r\n<!DOCTYPE"
                )
                transport.write(b" a>")

            def dataReceived(self, data: bytes) -> None:
                self.received += data
                if b"DTD is not accepted" in self.received and not answered.called:
                    answered.callback(self.received)
                    transport: Any = self.transport
                    transport.loseConnection()

        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Client())
        received = await answered
        self.assertTrue(received.startswith(b"HTTP/1.1 400 "))
        self.assertIn(b"Connection: close", received)

    async def test_accounts_that_are_kept_elsewhere(self) -> None:
        async def refuse(*arguments: object, **options: object) -> Any:
            raise NotSupported("elsewhere")

        self.patch(self.accounts, "credentials", refuse)
        status, _, content = await self.ask("GET", "montague.example")
        self.assertEqual((403, {"what": "not supported by the domain's auth methods"}), (status, json.loads(content)))

    async def test_an_export_that_breaks_off(self) -> None:
        vcard: Any = self.host_type.modules["mod_vcard"]

        async def fail(account: Any) -> AsyncIterator[bytes]:
            yield b"x" * 100_000
            raise ZeroDivisionError

        self.patch(vcard, "exported", fail)
        with self.assertRaises(ResponseFailed):
            await self.ask("GET", "montague.example")
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class Mounted(TestCase):
    def test_the_resource_is_where_domains_are(self) -> None:
        table: Any = DomainTable()
        service = DomainService(table, None, spawn=lambda event, work: None)

        async def remove_account(account: Any) -> None: ...

        administration = Administration(service, table, SessionTable(), remove_account)
        for handler in (AdminApiHandler(host="_", path="/six"), DomainHandler(host="_", path="/api")):
            self.assertEqual({"GET", "PUT"}, set(administration.mount(handler).resources["/domains/{domain}/data"]))


class ByCommand(DataCase):
    def setUpFile(self, data: bytes, name: str = "data.xml") -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / name
        path.write_bytes(data)
        return path.resolve()

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        out, errors, status = await getProcessOutputAndValue(
            str(Path(sys.executable).parent / "dynxmpp"),
            ["data", *arguments, "--url", f"{self.url}/api", "--user", "admin:secret"],
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            reactor=reactor,
        )
        return status, out.decode(), errors.decode()

    async def test_there_and_back(self) -> None:
        file = self.setUpFile(b"")
        status, out, errors = await self.run_command("export", "montague.example", "--output", str(file))
        self.assertEqual((0, f"montague.example: written to {file}\n", ""), (status, out, errors))
        self.assertEqual(0o600, stat.S_IMODE(file.stat().st_mode))
        status, out, errors = await self.run_command("import", str(file), "--domain", "verona.example")
        self.assertEqual((0, ""), (status, errors))
        self.assertRegex(out, "^verona.example: accounts: 2 created, 0 existing, 0 refused; taken: ")
        status, out, _ = await self.run_command("export", "verona.example")
        self.assertEqual((0, {"first", "second"}), (status, set(accounts_in(out.encode(), "verona.example"))))

    async def test_what_is_left_out_is_told(self) -> None:
        sample = (SAMPLES / "ejabberd.xml").read_bytes()
        other = user("c d", "<pubsub xmlns='urn:x'/>") + user("e", "<pubsub xmlns='urn:x'/>")
        file = self.setUpFile(sample.replace(b"</host>", other.encode() + b"</host>"))
        status, out, errors = await self.run_command("import", str(file))
        self.assertEqual(1, status)
        self.assertRegex(out, "accounts: 3 created, 0 existing, 1 refused")
        lines = errors.splitlines()
        self.assertEqual("dynxmpp: nobody takes: 1 pubsub {urn:x}", lines[-1])
        self.assertEqual(4, len(lines))
        status, out, errors = await self.run_command("import", str(file), "--json", "--dry-run")
        self.assertEqual((1, ""), (status, errors))
        self.assertEqual({"created": 0, "existing": 3, "refused": 1}, json.loads(out)["accounts"])

    async def test_a_document_in_several_files(self) -> None:
        main = self.setUpFile(
            b"<?xml version='1.0'?>\n<server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'>"
            b"<xi:include href='verona.example.xml'/></server-data>"
        )
        (main.parent / "verona.example.xml").write_bytes(
            b"<?xml version='1.0'?>\n<host xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'"
            b" jid='verona.example'><xi:include href='verona.example/a.xml'/></host>"
        )
        (main.parent / "verona.example").mkdir()
        (main.parent / "verona.example" / "a.xml").write_text(
            f"<?xml version='1.0'?>\n<user xmlns='urn:xmpp:pie:0' name='a'>{SCRAM}</user>\n"
        )
        status, out, errors = await self.run_command("import", str(main))
        self.assertEqual((0, ""), (status, errors), out)
        self.assertEqual(["a"], await self.usernames())

    async def test_failures(self) -> None:
        for data, arguments, expected in (
            (b"", (), (1, "it breaks off")),
            (b"<server-data xmlns='urn:xmpp:pie:0'/>", (), (1, "the document has no host")),
            (document(user("a"), host="padua.example"), (), (3, "domain not found")),
            (document(user("a"))[:-20], (), (1, "it breaks off; done before: accounts: 1 created")),
            (document(user("b")), ("--host", "x.example", "--domain", "verona.example"), (1, "has no host x.example")),
        ):
            status, out, errors = await self.run_command("import", str(self.setUpFile(data)), *arguments)
            self.assertEqual((expected[0], ""), (status, out), errors)
            self.assertIn(expected[1], errors)
            self.assertEqual(1, len(errors.splitlines()), errors)
