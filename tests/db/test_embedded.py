"""The embedded PostgreSQL: first and later starts, crashes of both sides, folders of others, users."""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

import dynxmpp
from dynxmpp.db import data_folder
from dynxmpp.db.data_folder import DataFolder
from dynxmpp.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from dynxmpp.db.pool import Database, DatabaseUnavailable, PoolSettings
from dynxmpp.db.postgres_programs import ENVIRONMENT, find_programs, process_user
from tests.fixtures.postgres import new_folder

IS_ROOT = os.geteuid() == 0
PROJECT = Path(dynxmpp.__file__).resolve().parent.parent


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def status_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/status").read_text()


class EmbeddedTestCase(TestCase):
    """Each test gets a folder of its own."""

    def setUp(self) -> None:
        self.folder = new_folder(in_memory=True)
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.data = self.folder / "data"

    def embedded(self, data: Path | None = None, **options: Any) -> EmbeddedPostgres:
        embedded = EmbeddedPostgres(data or self.data, database="dynxmpp", reactor=reactor, **options)
        self.addCleanup(embedded.stop)
        return embedded

    async def connect(self, settings: PoolSettings) -> Database:
        db = Database(settings, clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        await db.start()
        return db

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(reactor, 0.005)

    async def refused(self, embedded: EmbeddedPostgres) -> str:
        with self.assertRaises(EmbeddedPostgresError) as caught:
            await embedded.start()
        return str(caught.exception)

    def snapshot(self) -> dict[str, tuple[int, int, int, float]]:
        """What is in the folder, to see that nothing was touched."""
        found = {}
        for path in self.data.rglob("*"):
            about = path.lstat()
            found[str(path)] = (about.st_mode, about.st_uid, about.st_size, about.st_mtime)
        return found


class LifeTests(EmbeddedTestCase):
    async def test_first_start_then_second_start_keeps_the_data(self) -> None:
        first = self.embedded()
        settings = await first.start()
        db = await self.connect(settings)
        await db.execute("CREATE TABLE notes (body text)")
        await db.execute("INSERT INTO notes VALUES ('kept')")
        durability = "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        self.assertEqual(await db.query(durability), [("on", "on")])
        locale = "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s"
        self.assertEqual(await db.query(locale, ("dynxmpp",)), [("b", "C.UTF-8", "UTF8")])
        await db.stop()
        await first.stop()
        self.assertFalse((self.data / "cluster" / "postmaster.pid").exists())
        second = self.embedded()
        again = await second.start()
        self.assertEqual(again, settings)
        self.assertEqual(await (await self.connect(again)).query("SELECT body FROM notes"), [("kept",)])

    async def test_who_may_log_in(self) -> None:
        settings = await self.embedded().start()
        db = await self.connect(settings)
        self.assertEqual(
            await db.query("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user"),
            [(False, False)],
        )
        for user, password in (
            ("dynxmpp", "wrong"),
            ("dynxmpp", ""),
            ("postgres", ""),
            ("postgres", settings.password),
        ):
            with self.assertRaises(psycopg2.OperationalError):
                psycopg2.connect(host=settings.host, dbname="dynxmpp", user=user, password=password).close()

    async def test_permissions(self) -> None:
        settings = await self.embedded().start()
        self.assertEqual(mode_of(self.data / "password"), 0o600)
        self.assertEqual((self.data / "password").stat().st_uid, os.geteuid())
        self.assertEqual(mode_of(settings.host), 0o700)
        self.assertEqual(mode_of(self.data / "cluster"), 0o700)
        self.assertNotIn(settings.password, repr(settings))
        self.assertNotIn(settings.password, (self.data / "postgres.log").read_text())

    async def test_statements_are_not_logged(self) -> None:
        db = await self.connect(await self.embedded().start())
        await db.execute("CREATE TABLE notes (body text PRIMARY KEY)")
        for _ in range(2):
            with contextlib.suppress(psycopg2.Error):
                await db.execute("INSERT INTO notes VALUES ('dear juliet')")
        log = (self.data / "postgres.log").read_text()
        self.assertIn("duplicate key", log)
        self.assertNotIn("juliet", log)

    async def test_a_second_database_name(self) -> None:
        first = self.embedded()
        await first.start()
        await first.stop()
        second = EmbeddedPostgres(self.data, database='odd "name"', reactor=reactor)
        self.addCleanup(second.stop)
        db = await self.connect(await second.start())
        self.assertEqual(await db.query("SELECT current_database()"), [('odd "name"',)])

    async def test_a_port_on_loopback_asks_for_the_password(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = await self.embedded(port=port).start()
        tcp = {"host": "127.0.0.1", "port": port, "dbname": "dynxmpp", "user": "dynxmpp"}
        psycopg2.connect(**tcp, password=settings.password).close()
        with self.assertRaises(psycopg2.OperationalError):
            psycopg2.connect(**tcp, password="wrong").close()

    async def test_without_a_port_nothing_listens_on_tcp(self) -> None:
        db = await self.connect(await self.embedded().start())
        self.assertEqual(await db.query("SELECT current_setting('listen_addresses')"), [("",)])

    async def test_a_removed_password_file_is_replaced(self) -> None:
        first = self.embedded()
        before = await first.start()
        await first.stop()
        (self.data / "password").unlink()
        after = await self.embedded().start()
        self.assertNotEqual(after.password, before.password)
        await self.connect(after)

    async def test_a_path_too_long_for_a_socket(self) -> None:
        data = self.folder / ("long" * 30)
        embedded = self.embedded(data)
        settings = await embedded.start()
        self.assertTrue(settings.host.startswith("/tmp/"))
        self.assertEqual(mode_of(settings.host), 0o700)
        await self.connect(settings)
        await embedded.stop()
        self.assertNotIn(settings.host.rpartition("/")[2], os.listdir("/tmp"))

    async def test_stop_while_starting(self) -> None:
        embedded = self.embedded()
        started = Deferred.fromCoroutine(embedded.start())
        await embedded.stop()
        await self.assertFailure(started, EmbeddedPostgresError)
        self.assertFalse((self.data / "cluster").exists())
        again = self.embedded()
        await self.connect(await again.start())
        self.assertEqual(list(self.data.glob("cluster.new-*")), [])

    async def test_the_log_is_bounded(self) -> None:
        self.patch(data_folder, "LOG_LIMIT", 100)
        folder = DataFolder(self.folder)
        folder.log_file.write_text("x" * 101)
        log = os.open(folder.log_file, os.O_WRONLY | os.O_APPEND)
        self.addCleanup(os.close, log)
        folder.limit_log()
        os.write(log, b"after")
        self.assertEqual(folder.log_file.read_text(), "after")
        self.assertEqual((self.folder / "postgres.log.1").read_text(), "x" * 101)
        folder.limit_log()
        self.assertEqual(folder.log_file.read_text(), "after")


class RefusalTests(EmbeddedTestCase):
    async def test_a_folder_with_something_else_in_it(self) -> None:
        self.data.mkdir()
        (self.data / "letters.txt").write_text("mine")
        before = self.snapshot()
        self.assertIn("is not empty (letters.txt)", await self.refused(self.embedded()))
        self.assertEqual(self.snapshot(), before)

    async def test_a_plain_data_directory_of_another_postgresql(self) -> None:
        self.data.mkdir()
        (self.data / "PG_VERSION").write_text("18\n")
        before = self.snapshot()
        self.assertIn("is not empty (PG_VERSION)", await self.refused(self.embedded()))
        self.assertEqual(self.snapshot(), before)

    async def test_another_major_version(self) -> None:
        cluster = self.data / "cluster"
        cluster.mkdir(parents=True)
        (cluster / "PG_VERSION").write_text("15\n")
        before = self.snapshot()
        self.assertIn("was made by PostgreSQL 15", await self.refused(self.embedded()))
        self.assertEqual({k: v for k, v in self.snapshot().items() if not k.endswith("/lock")}, before)

    async def test_a_cluster_folder_that_is_none(self) -> None:
        cluster = self.data / "cluster"
        cluster.mkdir(parents=True)
        (cluster / "letters.txt").write_text("mine")
        self.assertIn("is not a PostgreSQL data directory", await self.refused(self.embedded()))
        self.assertEqual((cluster / "letters.txt").read_text(), "mine")

    async def test_a_half_done_initdb_is_done_again(self) -> None:
        half = self.data / "cluster.new-abc"
        half.mkdir(parents=True)
        (half / "PG_VERSION").write_text("18\n")
        await self.connect(await self.embedded().start())
        self.assertFalse(half.exists())

    async def test_two_servers_on_one_folder(self) -> None:
        first = self.embedded()
        db = await self.connect(await first.start())
        text = await self.refused(self.embedded())
        self.assertIn(f"data directory {self.data} is in use by process {os.getpid()}", text)
        self.assertEqual(await db.query("SELECT 1"), [(1,)])

    async def test_a_refused_start_leaves_the_folder_free(self) -> None:
        self.data.mkdir()
        (self.data / "letters.txt").write_text("mine")
        await self.refused(self.embedded())
        (self.data / "letters.txt").unlink()
        await self.connect(await self.embedded().start())

    async def test_postgresql_that_does_not_start_says_why(self) -> None:
        first = self.embedded()
        await first.start()
        await first.stop()
        with (self.data / "cluster" / "postgresql.conf").open("a") as file:
            file.write("\nno_such_setting = 1\n")
        self.assertIn("no_such_setting", await self.refused(self.embedded()))
        with (self.data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


class CrashTests(EmbeddedTestCase):
    def popen(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """A program that is killed at the end of the test."""
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd="/", stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    async def test_killed_while_it_serves(self) -> None:
        reasons: list[str] = []
        embedded = self.embedded(on_exit=reasons.append)
        db = await self.connect(await embedded.start())
        await db.execute("CREATE TABLE notes (body text)")
        await db.execute("INSERT INTO notes VALUES ('kept')")
        killed = embedded.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await self.until(lambda: embedded.pid not in (None, killed))
        rows: list[Any] = []
        while not rows:
            with contextlib.suppress(DatabaseUnavailable):
                rows = await db.query("SELECT body FROM notes")
        self.assertEqual(rows, [("kept",)])
        self.assertEqual(len(reasons), 1)
        self.assertIn("signal 9", reasons[0])

    async def test_a_stale_postmaster_file_whose_number_is_taken(self) -> None:
        first = self.embedded()
        await first.start()
        await first.stop()
        other = self.popen(["sleep", "600"])
        pid_file = self.data / "cluster" / "postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{self.data}/cluster\n1\n5432\n\n\n0 0\nready\n")
        os.chown(pid_file, *self.owner())
        await self.connect(await self.embedded().start())
        self.assertIsNone(other.poll())

    def owner(self) -> tuple[int, int]:
        about = (self.data / "cluster").stat()
        return about.st_uid, about.st_gid

    async def test_a_postgres_left_running_by_a_dead_server(self) -> None:
        first = self.embedded()
        await first.start()
        await first.stop()
        # Started as our server would, but without the signal the kernel sends when that dies.
        programs = find_programs()
        user = process_user(programs, self.data, "nobody")
        command = [
            word
            for word in user.command(programs.path("postgres"), "-D", str(self.data / "cluster"))
            if not word.startswith("--pdeathsig")
        ]
        left = self.popen([*command, "-c", f"unix_socket_directories={self.data}/run", "-c", "listen_addresses="])
        folder = DataFolder(self.data)
        await self.until(lambda: (state := folder.postmaster()) is not None and state.ready)
        embedded = self.embedded()
        await self.connect(await embedded.start())
        self.assertEqual(left.wait(), 0)
        self.assertNotEqual(embedded.pid, left.pid)


class ProcessTests(EmbeddedTestCase):
    """The server in a process of its own, killed or run as somebody else."""

    def spawn(self, *prefix: str, data: Path | None = None) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.db.embedded_server", str(data or self.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=PROJECT,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()

    def answer(self, process: "subprocess.Popen[str]") -> list[str]:
        assert process.stdout is not None
        return process.stdout.readline().split(" ", 2)

    async def test_our_process_is_killed(self) -> None:
        for number in range(1, 4):
            server = self.spawn()
            word, pid, count = self.answer(server)
            self.assertEqual((word, count.strip()), ("ready", str(number)))
            server.kill()
            server.wait()
            # PostgreSQL ends by itself, told by the kernel; the next start does not wait for that here.
        folder = DataFolder(self.data)
        await self.until(lambda: not folder.is_served_by(int(pid)))

    async def test_both_are_killed(self) -> None:
        for number in range(1, 3):
            server = self.spawn()
            word, pid, count = self.answer(server)
            self.assertEqual((word, count.strip()), ("ready", str(number)))
            server.send_signal(signal.SIGSTOP)
            os.kill(int(pid), signal.SIGKILL)
            server.kill()
            server.wait()

    async def test_another_process_uses_the_folder(self) -> None:
        server = self.spawn()
        self.assertEqual(self.answer(server)[0], "ready")
        text = await self.refused(self.embedded())
        self.assertIn(f"in use by process {server.pid}", text)
        second = self.spawn()
        self.assertEqual(self.answer(second)[0], "refused")

    def can_run_us(self, prefix: tuple[str, ...]) -> bool:
        command = [*prefix, sys.executable, "-c", "import dynxmpp.db.embedded"]
        return subprocess.run(command, cwd=PROJECT, stderr=subprocess.DEVNULL, check=False).returncode == 0

    async def test_as_somebody_else_than_root(self) -> None:
        if not IS_ROOT:
            raise SkipTest("we are not root: every other test shows it")
        nobody = pwd.getpwnam("nobody")
        prefix = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--")
        if not self.can_run_us(prefix):
            raise SkipTest("our Python is in a folder closed to nobody")
        self.folder.chmod(0o777)
        server = self.spawn(*prefix)
        self.assertEqual(self.answer(server)[0], "ready")
        self.assertEqual(self.data.stat().st_uid, nobody.pw_uid)
        self.assertEqual(mode_of(self.data), 0o700)


class RootTests(EmbeddedTestCase):
    def setUp(self) -> None:
        if not IS_ROOT:
            raise SkipTest("needs root")
        super().setUp()

    async def test_it_does_not_run_as_root(self) -> None:
        embedded = self.embedded()
        await embedded.start()
        status = status_of(embedded.pid)
        uid = pwd.getpwnam("nobody").pw_uid
        self.assertIn(f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}", status)
        self.assertIn("CapEff:\t0000000000000000", status)

    async def test_behind_a_closed_folder(self) -> None:
        closed = self.folder / "closed"
        closed.mkdir(mode=0o700)
        embedded = self.embedded(closed / "data")
        db = await self.connect(await embedded.start())
        self.assertEqual(await db.query("SELECT 1"), [(1,)])
        self.assertEqual(mode_of(closed), 0o700)
        # CAP_DAC_READ_SEARCH, or in a container without it CAP_DAC_OVERRIDE: that one and no other.
        status = status_of(embedded.pid)
        effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
        self.assertIn(int(effective, 16), (1 << 2, 1 << 1))

    async def test_a_user_who_does_not_exist(self) -> None:
        text = await self.refused(self.embedded(run_as="no-such-user"))
        self.assertIn("no-such-user", text)
        self.assertIn("does not exist", text)

    async def test_root_as_the_user(self) -> None:
        self.assertIn("does not run as root", await self.refused(self.embedded(run_as="root")))
