"""Two servers on one database: domains are common, and what happens to one on one server happens to it on both."""

from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.trial.unittest import TestCase

from tests.fixtures.http import request
from tests.interop.configs import GENERAL, Ports, server_with, with_database
from tests.interop.databases import ExternalPostgres, until
from tests.interop.raw import Gone, RawClient, logs_in


class TwoServers(TestCase):
    timeout = 60
    postgres: ClassVar[ExternalPostgres]

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def begin(self, here_types: str = '["basic"]', there_types: str = '["basic"]') -> None:
        """Both start at the same time, on a database without a table."""
        self.postgres.fresh_database()
        self.here, self.there = Ports(), Ports()
        self.servers = []
        for ports, types in ((self.here, here_types), (self.there, there_types)):
            general = GENERAL.replace('["basic"]', types)
            text = with_database(self.postgres.connection(), general=general) + ports.sections
            self.servers.append(server_with(self, text))
        await gatherResults(Deferred.fromCoroutine(server.start()) for server in self.servers)

    async def asks(self, ports: Ports, method: str, what: str, body: Any = None) -> tuple[int, Any]:
        return await request(method, f"{ports.api}/{what}", body)

    async def new_domain(self, domain: str, host_type: str = "basic") -> None:
        answer = await self.asks(self.here, "PUT", f"domains/{domain}", {"host_type": host_type})
        self.assertEqual((204, None), answer)
        body = {"username": "alice", "password": "secret"}
        self.assertEqual(201, (await self.asks(self.here, "POST", f"users/{domain}", body))[0])

    async def logs_in(self, ports: Ports, domain: str) -> RawClient:
        """Logs in as soon as the domain is known there."""

        async def attempt() -> RawClient | None:
            try:
                return await logs_in(self, ports.c2s, f"alice@{domain}", "secret")
            except Gone as gone:
                self.assertEqual(("host-unknown",), gone.args)
                return None

        return await until(attempt, f"{domain} to be served")

    async def is_unknown(self, ports: Ports, domain: str) -> None:
        client = await RawClient.connect(self, ports.c2s, domain)
        self.assertEqual("host-unknown", await client.gone())

    async def test_a_domain_made_on_one_is_served_by_both(self) -> None:
        await self.begin()
        await self.new_domain("a.example")
        for ports in (self.here, self.there):
            client = await self.logs_in(ports, "a.example")
            client.says(client.jid, "hello")
            self.assertEqual("hello", await client.body())
        for ports in (self.here, self.there):
            answer = await self.asks(ports, "GET", "domains/a.example")
            self.assertEqual((200, {"host_type": "basic", "enabled": True}), answer)

    async def test_one_disabled_on_one_ends_on_both(self) -> None:
        await self.begin()
        await self.new_domain("a.example")
        await self.new_domain("b.example")
        bystander = await self.logs_in(self.there, "b.example")
        clients = [await self.logs_in(ports, "a.example") for ports in (self.here, self.there)]
        answer = await self.asks(self.here, "PATCH", "domains/a.example", {"enabled": False})
        self.assertEqual((204, None), answer)
        for client, ports in zip(clients, (self.here, self.there), strict=True):
            self.assertEqual("host-gone", await client.gone())
            await self.is_unknown(ports, "a.example")
        await bystander.ping()
        # And back again, this time told to the other server.
        answer = await self.asks(self.there, "PATCH", "domains/a.example", {"enabled": True})
        self.assertEqual((204, None), answer)
        for ports in (self.there, self.here):
            await self.logs_in(ports, "a.example")

    async def test_one_deleted_on_one_ends_on_both(self) -> None:
        await self.begin()
        await self.new_domain("a.example")
        clients = [await self.logs_in(ports, "a.example") for ports in (self.here, self.there)]
        answer = await self.asks(self.here, "DELETE", "domains/a.example", {"host_type": "basic"})
        self.assertEqual((204, None), answer)
        self.assertEqual(["host-gone"] * 2, [await client.gone() for client in clients])
        for ports in (self.here, self.there):
            await self.is_unknown(ports, "a.example")
            self.assertEqual(404, (await self.asks(ports, "GET", "domains/a.example"))[0])
        self.assertEqual([(0,)], self.postgres.rows("SELECT count(*) FROM users WHERE server = 'a.example'"))

    async def test_a_server_that_was_away_catches_up(self) -> None:
        await self.begin()
        await self.new_domain("a.example")
        await self.new_domain("b.example")
        await self.logs_in(self.there, "a.example")
        await self.servers[1].kill()
        await self.asks(self.here, "DELETE", "domains/a.example", {"host_type": "basic"})
        await self.new_domain("c.example")
        await self.servers[1].start()
        await self.is_unknown(self.there, "a.example")
        for domain in ("b.example", "c.example"):
            await logs_in(self, self.there.c2s, f"alice@{domain}", "secret")

    async def test_each_serves_the_host_types_that_it_knows(self) -> None:
        await self.begin('["basic", "advanced"]', '["basic"]')
        await self.new_domain("rich.example", "advanced")
        await self.new_domain("poor.example", "basic")
        await self.logs_in(self.here, "rich.example")
        # Events are applied in their order: once the second is there, the first has been looked at.
        await self.logs_in(self.there, "poor.example")
        await self.servers[1].event("ignore_domain_from_db_with_unknown_host_type", domain="rich.example")
        await self.is_unknown(self.there, "rich.example")
        for method, body in (("PATCH", {"enabled": False}), ("DELETE", {"host_type": "advanced"})):
            answer = await self.asks(self.there, method, "domains/rich.example", body)
            self.assertEqual((403, {"what": "unknown host type"}), answer, method)
        await self.logs_in(self.here, "rich.example")

    async def test_sessions_are_not_shared(self) -> None:
        """A user who is online on the other server counts as one who is not online; nothing is lost by it."""
        await self.begin()
        await self.new_domain("a.example")
        body = {"username": "bob", "password": "secret"}
        self.assertEqual(201, (await self.asks(self.there, "POST", "users/a.example", body))[0])
        alice = await self.logs_in(self.here, "a.example")
        bob = await logs_in(self, self.there.c2s, "bob@a.example", "secret")
        alice.says("bob@a.example", "hello")

        async def stored() -> bool | None:
            return True if self.postgres.rows("SELECT 1 FROM offline_message WHERE username = 'bob'") else None

        await until(stored, "the message to be stored")
        bob.says(bob.jid, "end")
        self.assertEqual("end", await bob.body())
        bob = await logs_in(self, self.there.c2s, "bob@a.example", "secret", "again")
        self.assertEqual("hello", await bob.body())

    async def test_one_port_of_both(self) -> None:
        """`reuse_port`: the system shares out the connections; when one server ends, the other gets all."""
        self.postgres.fresh_database()
        self.here, self.there = Ports(), Ports()
        self.servers = []
        for ports in (self.here, self.there):
            shared = self.here.c2s_section("reuse_port = true") + ports.http_section()
            self.servers.append(server_with(self, with_database(self.postgres.connection()) + shared))
        for server in self.servers:
            await server.start()
        for stopped in self.servers:
            client = await RawClient.connect(self, self.here.c2s, "localhost")
            await client.named("features")
            client.close()
            self.assertEqual(0, await stopped.stop())
        with self.assertRaises(ConnectError):
            await RawClient.connect(self, self.here.c2s, "localhost")
