"""What is killed, and what is there afterwards: the server, PostgreSQL, both kinds of PostgreSQL."""

import os
import shutil
import signal
from typing import Any, ClassVar

import psycopg2
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.db.postgres_programs import find_programs
from tests.fixtures.http import request
from tests.fixtures.lines import LineProcess
from tests.fixtures.server import ServerProcess
from tests.interop.configs import Ports, data_folder, server_with, with_database
from tests.interop.databases import ExternalPostgres, until
from tests.interop.raw import RawClient, Refused, error_of, logs_in, roster_item
from tests.interop.traffic import WAIT, Chat, Writers

NAMES = ("alice", "carol", "dave", "erin", "romeo", "juliet")
OFFLINE = 20


class Crash(TestCase):
    """A server with some accounts at its static domain; a chat, and writers."""

    timeout = 60
    server: ServerProcess

    async def begin(self, connection: str) -> None:
        self.ports = Ports()
        self.server = server_with(self, with_database(connection) + self.ports.sections)
        await self.server.start()
        await self.server.event("database_connected")  # read, so that the next one is about a later connection
        for name in NAMES:
            body = {"username": name, "password": name}
            status, _ = await request("POST", f"{self.ports.api}/users/localhost", body)
            self.assertEqual(201, status)
        self.alice, romeo, juliet = [await self.logs_in(name) for name in ("alice", "romeo", "juliet")]
        self.clients = [self.alice, romeo, juliet]
        self.chat = Chat(romeo, juliet)
        self.writers = Writers(self.alice, self.ports.api)

    async def logs_in(self, name: str) -> RawClient:
        return await logs_in(self, self.ports.c2s, f"{name}@localhost", name)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    async def sends_offline(self, name: str, count: int) -> None:
        """Messages to somebody who is not there, up to their being visible to others in the database."""
        for number in range(count):
            self.alice.says(f"{name}@localhost", f"message {number}")

        async def committed() -> bool | None:
            [[found]] = self.rows(f"SELECT count(*) FROM offline_message WHERE username = '{name}'")
            return True if found == count else None

        await until(committed, "the messages to be in the database")

    async def assert_confirmed_is_there(self) -> None:
        """What the writers were told to be done is done: in the database, and asked of the server."""
        await self.writers.ended()
        alice = await logs_in(self, self.ports.c2s, "alice@localhost", "alice", "later")
        found = await alice.roster()
        for jid, number in self.writers.items.items():
            self.assertGreaterEqual(int(found[jid]), number, jid)
        [domains] = zip(*self.rows("SELECT domain FROM domain_settings"), strict=True)
        self.assertEqual(set(), set(self.writers.domains) - set(domains))
        for domain in (self.writers.domains[0], self.writers.domains[-1]):
            client = await RawClient.connect(self, self.ports.c2s, domain)
            await client.named("features")

    async def assert_hears(self, name: str, *bodies: str) -> None:
        client = await self.logs_in(name)
        self.assertEqual(list(bodies), [await client.body() for _ in bodies])
        client.says(client.jid, "end")
        self.assertEqual("end", await client.body(), "and nothing twice")

    async def killed_server(self) -> None:
        await self.writers.go_on(20)
        await self.sends_offline("carol", OFFLINE)
        await self.chat.goes_on()
        await self.server.kill()
        for client in self.clients:
            await client.gone()
        await self.server.start()
        await self.assert_confirmed_is_there()
        await self.assert_hears("carol", *(f"message {number}" for number in range(OFFLINE)))
        for name in NAMES:
            await self.logs_in(name)

    def assert_nothing_lost_in_silence(self) -> None:
        """Clients stayed, their chat went on in order, and each request got an answer."""
        self.assertEqual([], self.chat.out_of_order)
        self.assertEqual([False] * 3, [client._closed for client in self.clients])
        self.assertEqual(set(), set(self.writers.refused_items) - {WAIT})
        self.assertEqual(set(), {status for status, _ in self.writers.refused_domains} - {500})


class WithExternalPostgres(Crash):
    postgres: ClassVar[ExternalPostgres]

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def setUp(self) -> None:  # type: ignore[override]
        self.postgres.fresh_database()
        await self.begin(self.postgres.connection())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.postgres.rows(sql)

    async def test_the_server_is_killed(self) -> None:
        await self.killed_server()

    async def test_postgres_is_killed(self) -> None:
        await self.writers.go_on(10)
        await self.sends_offline("carol", 1)
        self.postgres.server.kill()
        await self.server.event("database_connection_lost")
        await self.while_away()
        self.postgres.server.restart()
        await self.server.event("database_connected")
        await self.afterwards()

    async def while_away(self) -> None:
        """The answers to whatever needs the database."""
        await self.chat.goes_on()
        erin = await RawClient.connect(self, self.ports.c2s, "localhost")
        self.alice.says("dave@localhost", "lost?")
        rest = Deferred.fromCoroutine(request("GET", f"{self.ports.api}/domains/d0.example"))
        login = Deferred.fromCoroutine(self.condition_of_login(erin))
        dave = await self.alice.element(lambda e: e.name == "message" and e.getAttribute("type") == "error")
        self.assertEqual((500, {"what": "database error"}), await rest)
        self.assertEqual("temporary-auth-failure", await login)
        self.assertEqual(("dave@localhost", WAIT), (dave["from"], error_of(dave)[:2]))
        self.assertEqual(WAIT, error_of(await self.alice.asks(roster_item("x@localhost", "x"), type="set"))[:2])
        self.alice.says("carol@localhost", "meanwhile")
        await self.alice.ping()
        await self.chat.goes_on()

    async def condition_of_login(self, client: RawClient) -> str:
        with self.assertRaises(Refused) as refused:
            await client.authenticates("erin", "erin")
        return str(refused.exception)

    async def afterwards(self) -> None:
        await self.writers.go_on(5)
        await self.assert_confirmed_is_there()
        await self.assert_hears("carol", "message 0", "meanwhile")
        await self.assert_hears("dave")
        await self.chat.goes_on()
        self.assertTrue(self.writers.refused_items)
        self.assertTrue(self.writers.refused_domains)
        self.assert_nothing_lost_in_silence()

    async def test_postgres_is_restarted(self) -> None:
        await self.writers.go_on(10)
        self.postgres.server.shut_down()
        self.postgres.server.restart()
        await self.server.event("database_connection_lost")
        await self.server.event("database_connected")
        await self.writers.go_on(5)
        await self.chat.goes_on()
        await self.assert_confirmed_is_there()
        self.assert_nothing_lost_in_silence()


class WithEmbeddedPostgres(Crash):
    async def setUp(self) -> None:  # type: ignore[override]
        self.data = data_folder(self)
        await self.begin(f'driver = "embedded"\ndata_dir = "{self.data}"')

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        password = (self.data / "password").read_text().strip()
        connection = psycopg2.connect(host=str(self.data / "run"), dbname="dynxmpp", user="dynxmpp", password=password)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    async def test_the_server_is_killed(self) -> None:
        await self.killed_server()

    async def test_postgres_is_killed(self) -> None:
        started = await self.server.event("embedded_postgres_started")
        await self.writers.go_on(10)
        await self.sends_offline("carol", 1)
        os.kill(started["pid"], signal.SIGKILL)
        await self.server.event("embedded_postgres_exited")
        await self.chat.goes_on()
        await self.server.event("embedded_postgres_restarted")
        await self.server.event("database_connected")
        await self.writers.go_on(5)
        await self.assert_confirmed_is_there()
        await self.assert_hears("carol", "message 0")
        await self.chat.goes_on()
        self.assert_nothing_lost_in_silence()

    async def test_a_backup_is_restored(self) -> None:
        """As docs/operations.md tells it: dumped while the server runs, restored into a new data directory."""
        await self.writers.go_on(10)
        await self.writers.ended()
        dump = self.data.with_name(self.data.name + ".dump")
        self.addCleanup(dump.unlink, missing_ok=True)
        await self.postgres_program("pg_dump", "--format=custom", f"--file={dump}")
        self.assertEqual(0, await self.server.stop())
        shutil.rmtree(self.data / "cluster")
        await self.server.start()
        self.assertEqual([], self.rows("SELECT 1 FROM users"))
        await self.postgres_program("pg_restore", "--clean", "--if-exists", "--single-transaction", str(dump))
        self.assertEqual(0, await self.server.stop())
        await self.server.start()
        await self.assert_confirmed_is_there()

    async def postgres_program(self, name: str, *arguments: str) -> None:
        environment = {"PGPASSWORD": (self.data / "password").read_text().strip()}
        options = ["-h", str(self.data / "run"), "-U", "dynxmpp", "-d", "dynxmpp"]
        program = LineProcess([find_programs().path(name), *options, *arguments], cwd="/", env=environment)
        self.assertEqual(0, await program.when_ended(), program.errors)
