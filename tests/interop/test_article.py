"""The configuration files of etc/article, as printed but for ports: each starts, and serves what the article says."""

from collections.abc import Iterable
from typing import Any, ClassVar

from twisted.internet.error import ConnectError
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.wire.ns import NS_STANZA_ERRORS
from tests.fixtures.http import request
from tests.fixtures.lines import LineProcess
from tests.fixtures.server import PROJECT, TWISTD, ServerProcess, free_port, temporary_folder
from tests.interop import raw, slix
from tests.interop.databases import PASSWORD, ExternalPostgres, create_accounts, until

ARTICLE = PROJECT / "etc" / "article"
#: Asks for a room.
ROOM = "<query xmlns='urn:xmpp:muclight:0#create'><occupants>{}</occupants></query>"


class AsPrinted(TestCase):
    timeout = 30

    async def test_each_file_is_valid(self) -> None:
        files = sorted(ARTICLE.iterdir())
        self.assertEqual(4, len(files))
        for file in files:
            check = LineProcess([TWISTD, "dynxmpp", "--check", "-c", str(file)], cwd=str(PROJECT))
            self.assertEqual(0, await check.when_ended(), check.errors)
            self.assertEqual([f"{file}: valid"], check.lines)


class ArticleServer(TestCase):
    """A server with one of the files; only ports and addresses are substituted, each exactly once."""

    timeout = 30
    postgres: ClassVar[ExternalPostgres]

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def serves(self, name: str) -> ServerProcess:
        self.postgres.fresh_database()
        self.port, self.http = free_port(), free_port()
        text = (ARTICLE / name).read_text()
        changes = {
            "port = 5222": f'ip_address = "127.0.0.1"\nport = {self.port}',
            f'password = "{PASSWORD}"': f'password = "{PASSWORD}"\nport = {self.postgres.port}',
            "port = 8088": f"port = {self.http}",
        }
        for printed, ours in changes.items():
            self.assertEqual(1 if "8088" not in printed or "[[listen.http]]" in text else 0, text.count(printed))
            text = text.replace(printed, ours)
        config = temporary_folder(self) / name
        config.write_text(text)
        self.api = f"http://localhost:{self.http}/api"
        server = ServerProcess(config)
        self.addCleanup(server.clean_up)
        # The files set no loglevel, and what is said at the default one is nothing, if all is well.
        server.launch()
        await until(self._is_open, "the port to be open")
        return server

    async def _is_open(self) -> bool | None:
        try:
            await raw.RawClient.connect(self, self.port, "example.com")
        except ConnectError:
            return None
        return True

    async def accounts(self, *jids: str) -> None:
        """Accounts whose passwords are their addresses."""
        await create_accounts(self, self.postgres.settings(), *((jid, jid) for jid in jids))

    async def logs_in(self, jid: str) -> raw.RawClient:
        return await raw.logs_in(self, self.port, jid, jid)

    async def header_of(self, domain: str) -> tuple[str, str | None]:
        """Who answers a client that asks for `domain`, and with which stream error."""
        client = await raw.RawClient.connect(self, self.port, domain)
        condition = await client.gone()
        assert client.header is not None
        return client.header["from"], condition


async def makes_room(client: raw.RawClient, room: str, *members: str) -> None:
    users = "".join(f"<user affiliation='member'>{member}</user>" for member in members)
    answer = await client.asks(ROOM.format(users), type="set", to=room)
    assert answer["type"] == "result", answer.toXml()


async def said_in_room(client: raw.RawClient, body: str) -> domish.Element:
    return await client.element(lambda element: element.name == "message" and str(element.body) == body)


def warnings(server: ServerProcess) -> list[str]:
    assert server.process is not None
    return [line for line in server.process.lines if '"event": "config_warning"' in line]


class SingleDomain(ArticleServer):
    async def test_two_accounts_chat(self) -> None:
        server = await self.serves("1-single-domain.toml")
        await self.accounts("alice@example.com", "bob@example.com")
        alice = await slix.logs_in(self, "alice@example.com/phone", "alice@example.com", self.port, "plain")
        bob = await slix.logs_in(self, "bob@example.com/laptop", "bob@example.com", self.port, "plain")
        alice.does("message", to="bob@example.com", body="hello")
        heard = await bob.event("message")
        self.assertEqual(("alice@example.com/phone", "hello"), (heard["sender"], heard["body"]))
        bob.does("message", to=heard["sender"], body="and back")
        self.assertEqual("and back", (await alice.event("message"))["body"])
        self.assertEqual(("example.com", "host-unknown"), await self.header_of("example.org"))
        self.assertEqual([], warnings(server))
        with self.assertRaises(raw.Refused) as refused:
            await raw.logs_in(self, self.port, "alice@example.com", "guess")
        self.assertEqual("not-authorized", str(refused.exception))
        self.assertEqual(0, await server.stop())


class SeveralDomains(ArticleServer):
    async def test_three_domains(self) -> None:
        server = await self.serves("2-several-domains.toml")
        domains = ("example.com", "chat.example.org", "big-company.example.com")
        await self.accounts(*(f"alice@{domain}" for domain in domains))
        clients = {domain: await self.logs_in(f"alice@{domain}") for domain in domains}
        for sender in domains:
            for recipient in domains:
                clients[sender].says(f"alice@{recipient}", f"{sender} to {recipient}")
        for recipient, client in clients.items():
            heard = {await client.body() for _ in domains}
            self.assertEqual({f"{sender} to {recipient}" for sender in domains}, heard)
        self.assertEqual(("example.com", "host-unknown"), await self.header_of("example.org"))
        await self.assert_archive(clients["big-company.example.com"], messages=5)
        await self.assert_no_archive(clients["example.com"])
        await self.assert_room(clients["chat.example.org"], archived=None)
        # Its creation, and what was said in it.
        await self.assert_room(clients["big-company.example.com"], archived=2)
        answer = await clients["example.com"].asks(ROOM.format(""), type="set", to="kitchen@muclight.example.com")
        self.assertEqual("remote-server-not-found", raw.error_of(answer)[0])
        self.assertEqual([], warnings(server))
        with self.assertRaises(ConnectError):
            await raw.RawClient.connect(self, self.http, "example.com")

    async def query(self, client: raw.RawClient, of: str | None = None) -> Any:
        return await client.asks("<query xmlns='urn:xmpp:mam:2'/>", type="set", to=of)

    async def assert_archive(self, client: raw.RawClient, *, messages: int) -> None:
        answer = await self.query(client)
        self.assertEqual("result", answer["type"], answer.toXml())
        self.assertEqual(str(messages), str(next(answer.fin.elements()).count))

    async def assert_no_archive(self, client: raw.RawClient) -> None:
        """The module is switched on for one host type only."""
        answer = await self.query(client)
        self.assertEqual("error", answer["type"])
        self.assertIsNotNone(next(answer.error.elements(NS_STANZA_ERRORS, "feature-not-implemented"), None))

    async def assert_room(self, client: raw.RawClient, *, archived: int | None) -> None:
        """One that the client makes and talks in; `archived` None: without an archive."""
        room = f"kitchen@muclight.{client.domain}"
        await makes_room(client, room)
        client.send(f"<message type='groupchat' to='{room}'><body>soup</body></message>")
        heard = await said_in_room(client, "soup")
        self.assertEqual(f"{room}/alice@{client.domain}", heard["from"])
        answer = await self.query(client, of=room)
        if archived is None:
            self.assertEqual("feature-not-implemented", raw.error_of(answer)[0])
        else:
            self.assertEqual(str(archived), str(next(answer.fin.elements()).count))


class DynamicDomains(ArticleServer):
    """The table of spec "worked example", request by request."""

    async def asks(self, method: str, domain: str, body: Any = None) -> tuple[int, Any]:
        return await request(method, f"{self.api}/domains/{domain}", body)

    async def answers(self, *table: tuple[str, str, Any, tuple[int, Any]]) -> None:
        for method, domain, body, expected in table:
            self.assertEqual(expected, await self.asks(method, domain, body), f"{method} {domain} {body}")

    async def test_the_worked_example(self) -> None:
        await self.serves("3-dynamic-domains.toml")
        await self.answers(
            ("PUT", "example.org", {"host_type": "basic"}, (204, None)),
            ("GET", "example.org", None, (200, {"host_type": "basic", "enabled": True})),
            ("PUT", "example.org", {"host_type": "advanced"}, (409, {"what": "duplicate"})),
            ("PUT", "example.net", {"host_type": "gold"}, (403, {"what": "unknown host type"})),
            ("PUT", "big-company.example.com", {"host_type": "basic"}, (403, {"what": "domain is static"})),
            ("GET", "big-company.example.com", None, (404, {"what": "domain not found"})),
        )
        await self.accounts("alice@example.org", "bob@example.org")
        alice = await slix.logs_in(self, "alice@example.org/phone", "alice@example.org", self.port, "plain")
        bob = await self.logs_in("bob@example.org")
        alice.does("message", to="bob@example.org", body="hello")
        self.assertEqual("hello", await bob.body())
        reply = await bob.asks(raw.roster_item("alice@example.org", "Alice"), type="set")
        self.assertEqual("result", reply["type"])

        await self.answers(("PATCH", "example.org", {"enabled": False}, (204, None)))
        await alice.event("disconnected")
        self.assertEqual("host-gone", await bob.gone())
        self.assertEqual(("example.com", "host-unknown"), await self.header_of("example.org"))
        await self.answers(("PATCH", "example.org", {"enabled": True}, (204, None)))
        bob = await self.logs_in("bob@example.org")
        self.assertEqual({"alice@example.org": "Alice"}, await bob.roster())
        await self.answers(
            ("PATCH", "example.org", {"enabled": False}, (204, None)),
            ("DELETE", "example.org", {"host_type": "advanced"}, (403, {"what": "wrong host type"})),
            ("DELETE", "example.org", {"host_type": "basic"}, (204, None)),
            ("DELETE", "example.org", {"host_type": "basic"}, (204, None)),
        )
        self.assertEqual([(0,), (0,)], [self.count(table)[0] for table in ("users", "rosters")])
        self.assertEqual(("example.com", "host-unknown"), await self.header_of("example.com"))

    def count(self, table: str) -> list[tuple[Any, ...]]:
        return self.postgres.rows(f"SELECT count(*) FROM {table} WHERE server = 'example.org'")

    async def test_the_static_domain_is_served_beside_them(self) -> None:
        await self.serves("3-dynamic-domains.toml")
        await self.answers(("PUT", "example.org", {"host_type": "advanced"}, (204, None)))
        await self.accounts("carol@big-company.example.com", "alice@example.org")
        carol, alice = await self.logs_in("carol@big-company.example.com"), await self.logs_in("alice@example.org")
        alice.says("carol@big-company.example.com", "hello")
        self.assertEqual("hello", await carol.body())


class LoadTest(ArticleServer):
    async def test_walls_between_domains(self) -> None:
        server = await self.serves("4-load-test.toml")
        for domain, host_type in (("a.example", "basic"), ("b.example", "basic"), ("c.example", "advanced")):
            answer = await request("PUT", f"{self.api}/domains/{domain}", {"host_type": host_type})
            self.assertEqual((204, None), answer)
        jids = ("ann@a.example", "al@a.example", "bob@b.example", "cid@c.example", "big@big-company.example.com")
        await self.accounts(*jids)
        ann, al, *others = [await self.logs_in(jid) for jid in jids]
        ann.says("al@a.example", "inside")
        self.assertEqual("inside", await al.body())
        for jid in jids[2:]:
            await self.assert_filtered(ann, f"<message to='{jid}' type='chat'><body>hello</body></message>", jid)
            await self.assert_filtered(ann, f"<presence to='{jid}' type='subscribe'/>", jid)
        await self.assert_nothing_came(others)
        await self.assert_rooms_end_at_the_wall(ann, al, others)
        self.assertEqual([], warnings(server))

    async def assert_rooms_end_at_the_wall(
        self, ann: raw.RawClient, al: raw.RawClient, others: list[raw.RawClient]
    ) -> None:
        """Who is behind it can be a member, and hears nothing."""
        room = "kitchen@muclight.a.example"
        await makes_room(ann, room, "al@a.example", "bob@b.example")
        ann.send(f"<message type='groupchat' to='{room}'><body>soup</body></message>")
        for client in (ann, al):
            self.assertEqual(f"{room}/ann@a.example", (await said_in_room(client, "soup"))["from"])
        await self.assert_nothing_came(others)
        await self.assert_filtered(others[0], f"<message to='{room}' type='groupchat'><body>I</body></message>", room)

    async def assert_filtered(self, client: raw.RawClient, stanza: str, recipient: str) -> None:
        client.send(stanza)
        error = await client.element(lambda element: element.getAttribute("type") == "error")
        self.assertEqual(recipient, error["from"])
        self.assertEqual(("service-unavailable", "cancel", "Filtered by the domain isolation"), raw.error_of(error))

    async def assert_nothing_came(self, clients: Iterable[raw.RawClient]) -> None:
        for client in clients:
            # What they send themselves comes after whatever was on its way to them.
            client.says(client.jid, "end")
            self.assertEqual("end", await client.body())
