"""`twistd dynxmpp` as a program: its options, what it says and with which status it ends."""

import json
import os
import signal
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IReadDescriptor
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.fixtures.http import request
from tests.fixtures.lines import LineProcess
from tests.fixtures.server import TWISTD, ServerProcess, free_port, temporary_folder
from tests.interop import raw
from tests.interop.configs import WITHOUT_DATABASE, Ports, data_folder, server_with, with_database
from tests.interop.databases import ExternalPostgres, until

MISTAKEN = """
[general]
hosts = ["localhost"]
default_server_domain = "localhost"
loglevel = "loud"
[auth]
methods = ["rdbms"]
[[listen.c2s]]
prot = 5222
"""


@implementer(IReadDescriptor)
class Ending:
    """Tells when a process ends that is not our child."""

    def __init__(self, pid: int) -> None:
        self.ended: Deferred[None] = Deferred()
        self._descriptor = os.pidfd_open(pid)
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        reactor.removeReader(self)
        os.close(self._descriptor)
        self.ended.callback(None)

    def connectionLost(self, reason: object) -> None:
        """Nothing to lose."""

    def logPrefix(self) -> str:
        return "Ending"


class Program(TestCase):
    timeout = 30

    def twistd(self, *arguments: str, folder: Path | None = None) -> LineProcess:
        where = folder if folder is not None else temporary_folder(self)
        return LineProcess([TWISTD, *arguments], cwd=str(where), env=dict(os.environ))

    def file(self, text: str) -> Path:
        file = temporary_folder(self) / "dynxmpp.toml"
        file.write_text(text)
        return file


class CommandLine(Program):
    async def test_a_valid_file(self) -> None:
        ports = Ports()
        file = self.file(with_database('driver = "embedded"\ndata_dir = "data"') + ports.sections)
        check = self.twistd("dynxmpp", "--check", "-c", str(file), folder=file.parent)
        self.assertEqual(0, await check.when_ended(), check.errors)
        self.assertEqual(([f"{file}: valid"], []), (check.lines, check.errors))
        self.assertEqual([file.name], [entry.name for entry in file.parent.iterdir()], "nothing is made")

    async def assert_mistakes(self, *options: str) -> None:
        file = self.file(MISTAKEN)
        program = self.twistd(*options, "-c", str(file), folder=file.parent)
        self.assertEqual(1, await program.when_ended())
        self.assertEqual([], program.lines)
        for line in program.errors:
            self.assertTrue(line.startswith(f"{file}: "), line)
        for path in ("general.loglevel", "listen.c2s[0].prot", "listen.c2s[0].port"):
            self.assertEqual(1, sum(f": {path}: " in line for line in program.errors), (path, program.errors))
        self.assertEqual([file.name], [entry.name for entry in file.parent.iterdir()], "nothing is made")

    async def test_mistakes_are_lines_of_their_own(self) -> None:
        await self.assert_mistakes("dynxmpp", "--check")

    async def test_a_server_does_not_start_with_them(self) -> None:
        await self.assert_mistakes("-n", "--pidfile=", "dynxmpp")

    async def test_there_is_no_file(self) -> None:
        program = self.twistd("dynxmpp", "--check", "-c", "nowhere.toml")
        self.assertEqual(1, await program.when_ended())
        self.assertEqual(1, len(program.errors), program.errors)
        self.assertIn("nowhere.toml", program.errors[0])

    async def test_unknown_options(self) -> None:
        for arguments in (("dynxmpp", "--frobnicate"), ("dynxmpp", "--check", "surplus")):
            program = self.twistd(*arguments)
            self.assertEqual(1, await program.when_ended(), arguments)
            said = "\n".join(program.lines + program.errors)
            self.assertIn("Usage: twistd", said)
            self.assertNotIn("Traceback", said)


class Life(Program):
    """Starting, running, ending."""

    def without_database(self, more: str = "") -> ServerProcess:
        self.ports = Ports()
        return server_with(self, WITHOUT_DATABASE + self.ports.c2s_section(more))

    async def test_every_line_of_the_log_is_a_json_object(self) -> None:
        server = await self.without_database().start()
        client = await raw.RawClient.connect(self, self.ports.c2s, "localhost")
        await client.authenticates("alice", "secret")
        client.send("</stream:stream>")
        self.assertIsNone(await client.gone())
        self.assertEqual(0, await server.stop())
        assert server.process is not None
        events = [json.loads(line) for line in server.process.lines]
        for event in events:
            self.assertTrue({"time", "level", "source", "event"} <= event.keys(), event)
        names = [event["event"] for event in events]
        for name in ("server_starting", "c2s_listening", "server_started", "server_stopped"):
            self.assertEqual(1, names.count(name), names)
        self.assertEqual([], server.process.errors)

    async def test_sigterm_with_a_client_that_never_reads(self) -> None:
        """The others are told that the server ends; the one that takes nothing holds up the end for a bounded time."""
        server = await self.without_database("max_send_queue = 100_000_000").start()
        sender, deaf = [await raw.RawClient.connect(self, self.ports.c2s, "localhost") for _ in range(2)]
        for client, name in ((sender, "sender"), (deaf, "deaf")):
            await client.authenticates(name, "secret")
            reply = await client.asks("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", type="set")
            self.assertEqual("result", reply["type"])
            client.jid = str(next(next(reply.elements()).elements()))
        deaf.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(80):  # more than the buffers of the system take
            sender.says(deaf.jid, "x" * 200_000)
        await sender.ping()
        ended = Deferred.fromCoroutine(server.stop())
        self.assertEqual("system-shutdown", await sender.gone())
        self.assertEqual(0, await ended)
        await server.event("streams_not_drained", count=1)

    async def test_a_second_signal_changes_nothing(self) -> None:
        server = await self.without_database().start()
        assert server.process is not None
        ended = server.process.when_ended()
        for _ in range(3):
            os.kill(server.process.pid, signal.SIGTERM)
        self.assertEqual(0, await ended)
        await server.event("server_stopped")

    async def test_the_port_is_in_use(self) -> None:
        server = self.without_database()
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.ports.c2s))
            other.listen()
            ended = server.launch().when_ended()
            failed = await server.event("server_start_failed")
            self.assertEqual(1, await ended)
        self.assertIn(str(self.ports.c2s), failed["reason"])
        self.assertIn("in use", failed["reason"])
        assert server.process is not None
        self.assertNotIn("Traceback", "\n".join(server.process.lines + server.process.errors))

    async def test_the_data_directory_is_in_use(self) -> None:
        folder = data_folder(self)
        text = with_database(f'driver = "embedded"\ndata_dir = "{folder}"', general=WITHOUT_DATABASE.split("[auth]")[0])
        first = server_with(self, text + Ports().c2s_section())
        second = server_with(self, text + Ports().c2s_section())
        await first.start()
        ended = second.launch().when_ended()
        failed = await second.event("server_start_failed")
        self.assertEqual(1, await ended)
        assert first.process is not None
        self.assertIn(f"data directory {folder} is in use by process {first.process.pid}", failed["reason"])
        self.assertEqual(0, await first.stop())
        await second.start()  # and now it is free

    async def test_sigterm_while_the_embedded_database_is_made(self) -> None:
        connection = f'driver = "embedded"\ndata_dir = "{data_folder(self)}"'
        server = server_with(self, with_database(connection) + Ports().sections)
        server.launch()
        await server.event("server_starting")
        self.assertEqual(0, await server.stop())
        await server.event("server_stopped")
        await server.start()
        self.assertEqual(0, await server.stop())


class DatabaseAway(Program):
    async def test_sigterm_while_it_is_waited_for(self) -> None:
        ports = Ports()
        connection = 'driver = "pgsql"\nhost = "127.0.0.1"\ndatabase = "d"\nusername = "u"\npassword = "p"'
        server = server_with(self, with_database(f"{connection}\nport = {free_port()}") + ports.sections)
        server.launch()
        await server.event("database_connect_failed", attempt=2)
        self.assertEqual(0, await server.stop())
        await server.event("server_stopped")

    async def test_the_port_opens_once_it_answers(self) -> None:
        postgres = ExternalPostgres()
        self.addCleanup(postgres.server.stop)
        postgres.fresh_database()
        postgres.server.shut_down()
        ports = Ports()
        server = server_with(self, with_database(postgres.connection()) + ports.sections)
        server.launch()
        for attempt in (1, 2, 3):
            failed = await server.event("database_connect_failed")
            self.assertEqual(attempt, failed["attempt"])
            self.assertIn("refused", failed["reason"])
        with self.assertRaises(Refused):
            await raw.RawClient.connect(self, ports.c2s, "localhost")
        postgres.server.restart()
        await server.event("server_started")
        client = await raw.RawClient.connect(self, ports.c2s, "localhost")
        await client.named("features")

    async def test_sigterm_after_it_went_away(self) -> None:
        postgres = ExternalPostgres()
        self.addCleanup(postgres.server.stop)
        postgres.fresh_database()
        ports = Ports()
        server = server_with(self, with_database(postgres.connection()) + ports.sections)
        await server.start()
        body = {"username": "alice", "password": "alice"}
        self.assertEqual(201, (await request("POST", f"{ports.api}/users/localhost", body))[0])
        alice = await raw.logs_in(self, ports.c2s, "alice@localhost", "alice")
        postgres.server.kill()
        self.addCleanup(postgres.server.restart)  # clears up the shared memory that it left behind
        await server.event("database_connection_lost")
        self.assertEqual(0, await server.stop())
        self.assertEqual("system-shutdown", await alice.gone())
        await server.event("server_stopped")


class Daemon(Program):
    """twistd without -n."""

    def start(self, text: str) -> LineProcess:
        self.folder = temporary_folder(self)
        self.log, self.pidfile = self.folder / "server.log", self.folder / "server.pid"
        (self.folder / "dynxmpp.toml").write_text(text)
        options = (f"--logfile={self.log}", f"--pidfile={self.pidfile}")
        return self.twistd(*options, "dynxmpp", "--json-log", "-c", "dynxmpp.toml", folder=self.folder)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines()]

    async def test_it_writes_its_log_and_ends_by_kill(self) -> None:
        ports = Ports()
        starter = self.start(WITHOUT_DATABASE + ports.c2s_section())
        self.assertEqual(0, await starter.when_ended(), starter.errors)
        pid = int(self.pidfile.read_text())
        ending = Ending(pid)

        async def connects() -> raw.RawClient | None:
            try:
                return await raw.RawClient.connect(self, ports.c2s, "localhost")
            except Refused:
                return None

        try:
            client = await until(connects, "the daemon to listen")
            await client.named("features")
        finally:
            os.kill(pid, signal.SIGTERM)
            await ending.ended
        self.assertEqual("system-shutdown", await client.gone())
        self.assertEqual(["server_starting", "server_started", "server_stopped"], self.only("server_"))
        self.assertFalse(self.pidfile.exists())

    def only(self, prefix: str) -> list[str]:
        return [event for event in self.events() if event.startswith(prefix)]

    async def test_a_failed_start_leaves_no_pidfile(self) -> None:
        ports = Ports()
        with socket.socket() as other:
            other.bind(("127.0.0.1", ports.c2s))
            other.listen()
            await self.start(WITHOUT_DATABASE + ports.c2s_section()).when_ended()

            async def failed() -> bool | None:
                return True if "server_stopped" in self.events() and not self.pidfile.exists() else None

            await until(failed, "the daemon to end")
        self.assertEqual(["server_starting", "server_start_failed", "server_stopped"], self.only("server_"))
