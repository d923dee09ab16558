"""What is tortured: a server of two static domains, and a PostgreSQL that keeps its promises to the disk."""

import contextlib
import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from tests.chaos.disasters import Disaster, Kind
from tests.chaos.history import History
from tests.chaos.progress import Gate
from tests.fixtures.postgres import OwnServer
from tests.fixtures.server import ServerProcess, free_port

T = TypeVar("T")
_reactor: Any = reactor

DOMAINS = ("one.example", "two.example")
DATABASE = "chaos"
#: Seconds that the server has for its start, and for its end in order.
START_S = 60.0
STOP_S = 30.0

CONFIG = """
[general]
loglevel = "info"
hosts = ["one.example", "two.example"]
default_server_domain = "one.example"
[auth]
methods = ["dummy"]
[auth.dummy]
base_time = 0
variance = 0
[outgoing_pools.rdbms.default]
workers = 5
[outgoing_pools.rdbms.default.connection]
driver = "pgsql"
host = "{settings.host}"
port = {settings.port}
database = "{settings.database}"
username = "{settings.username}"
password = "unused"
max_start_interval = 1
[[listen.c2s]]
port = {port}
ip_address = "127.0.0.1"
max_unauthenticated = 10000
[modules.mod_mam_meta]
pm = {{}}
[modules.mod_stream_management]
"""


class Installation:
    """A server and its database; `gate` is open while clients may connect."""

    def __init__(self, history: History) -> None:
        self.gate = Gate()
        self.port = free_port()
        #: Errors that the server logged, by event.
        self.errors: Counter[str] = Counter()
        self._history = history
        self._folder = tempfile.TemporaryDirectory(prefix="dynxmpp-chaos-")
        os.chmod(self._folder.name, 0o755)
        # One thread that stays: PostgreSQL dies with the thread that started it.
        self._threads = ThreadPool(1, 1, "database")
        self._threads.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self.postgres = OwnServer(durable=True)
        config = Path(self._folder.name) / "dynxmpp.toml"
        config.write_text(CONFIG.format(settings=self.postgres.settings(DATABASE), port=self.port))
        self.server = ServerProcess(config)

    async def start(self) -> None:
        # Ctrl-C ends the reactor, and with it everything that would have been waited for.
        self._trigger = _reactor.addSystemEventTrigger("before", "shutdown", self._abandon)
        self._threads.start()
        await self._in_thread(self.postgres.start)
        await self._in_thread(lambda: self.postgres.create_database(DATABASE))
        await self._start_server()

    async def stop(self) -> None:
        """Ends and removes everything. May be called in any state."""
        try:
            await self._end_server()
        finally:
            _reactor.removeSystemEventTrigger(self._trigger)
            await self._in_thread(self.postgres.stop)
            self._threads.stop()
            self._folder.cleanup()

    def _abandon(self) -> None:
        process = self.server.process
        if process is not None and process.status is None:
            os.kill(process.pid, signal.SIGKILL)
        self.postgres.stop()
        self._folder.cleanup()

    async def _start_server(self) -> None:
        """Raises defer.TimeoutError when it does not come up."""
        started: Deferred[Any] = Deferred.fromCoroutine(self.server.start())
        await started.addTimeout(START_S, _reactor)
        self.gate.open()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await deferToThreadPool(_reactor, self._threads, work)

    # -- disasters

    async def suffer(self, disaster: Disaster) -> None:
        """One of those that concern the server or its database; returns when both run again."""
        happens = {
            Kind.SERVER_KILLED: self._kill_server,
            Kind.SERVER_STOPPED: self._stop_server,
            Kind.DATABASE_KILLED: self._kill_database,
            Kind.DATABASE_RESTARTED: self._restart_database,
            Kind.DATABASE_FROZEN: self._freeze_database,
            Kind.BOTH_KILLED: self._kill_both,
        }
        await happens[disaster.kind](disaster.away_s)

    async def _kill_server(self, away_s: float) -> None:
        self.gate.close()
        await self.server.kill()
        self._read_log()
        await deferLater(_reactor, away_s)
        await self._start_server()

    async def _stop_server(self, away_s: float) -> None:
        await self._end_server()
        await deferLater(_reactor, away_s)
        await self._start_server()

    async def _end_server(self) -> None:
        self.gate.close()
        process = self.server.process
        if process is None or process.status is not None:
            return
        stopped: Deferred[int] = Deferred.fromCoroutine(self.server.stop())
        try:
            status = await stopped.addTimeout(STOP_S, _reactor)
        except defer.TimeoutError:
            await self.server.kill()
            self._history.fault("server did not stop in order", f"not in {STOP_S} s: {process.lines[-5:]}")
        else:
            if status != 0:
                self._history.fault("server did not stop in order", f"status {status}: {process.errors[-5:]}")
        self._read_log()

    async def _kill_database(self, away_s: float) -> None:
        await self._in_thread(self.postgres.kill)
        await deferLater(_reactor, away_s)
        await self._in_thread(self.postgres.restart)

    async def _restart_database(self, away_s: float) -> None:
        await self._in_thread(self.postgres.shut_down)
        await deferLater(_reactor, away_s)
        await self._in_thread(self.postgres.restart)

    async def _freeze_database(self, away_s: float) -> None:
        """It takes what it is sent and does not answer; then it goes on as if nothing had been."""
        family = [self.postgres.pid, *_children(self.postgres.pid)]
        _signal_all(family, signal.SIGSTOP)
        try:
            await deferLater(_reactor, away_s)
        finally:
            _signal_all(family, signal.SIGCONT)

    async def _kill_both(self, away_s: float) -> None:
        """The machine, so to speak. The server comes back first and has to wait for its database."""
        self.gate.close()
        await self.server.kill()
        await self._in_thread(self.postgres.kill)
        self._read_log()
        self.server.launch()
        started: Deferred[Any] = Deferred.fromCoroutine(self.server.event("server_started"))
        await deferLater(_reactor, away_s)
        await self._in_thread(self.postgres.restart)
        await started.addTimeout(START_S, _reactor)
        self.gate.open()

    # -- what is there afterwards

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.postgres.admin(sql, database=DATABASE)

    def _read_log(self) -> None:
        """Of a server that has ended."""
        process = self.server.process
        assert process is not None
        for line in process.lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["level"] in ("error", "critical"):
                    self.errors[event["event"]] += 1
                reason = event.get("traceback", "").strip().rpartition("\n")[2]
                if reason and "Unavailable" not in reason:  # a database that is away is no fault of the server
                    self._history.fault("fault logged by the server", f"{event['event']}: {event['traceback']}")
        for line in process.errors:
            self._history.fault("fault logged by the server", line)


def _children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()]


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
