"""Files of comma-separated values as `cli_import.py` reads them: each line for itself, checked before it is sent."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from dynxmpp.auth.base import InvalidPassword, prepare_new_password
from dynxmpp.domains.errors import InvalidDomain
from dynxmpp.domains.service import prepare_name
from dynxmpp.jid import JID, InvalidJID

__all__ = ["ACCOUNTS", "MAX_LINE_BYTES", "Entry", "Kind", "domains", "entries_of"]

#: The longest line that is looked at, with its end.
MAX_LINE_BYTES: Final = 4096

Row = Mapping[str, str]


class BadLine(Exception):
    """A line that is not sent. The argument is the reason."""


@dataclass(frozen=True)
class Kind:
    """What a file has: its columns, and how a row becomes what is sent to `path`, `at_once` of them with one request.

    The first column names what is made. `read` raises BadLine. `group`: what of a line its kind is told by. With
    `secret`, no line that may be mixed up is shown.
    """

    path: str
    columns: tuple[str, ...]
    at_once: int
    read: Callable[[Row], Row]
    group: str | None = None
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: its number, its columns, what may be shown of it, and what is sent of it or is wrong with it."""

    number: int
    columns: Sequence[str] = ()
    name: str = ""
    sent: Row | None = None
    problem: str | None = None


def domains(default_host_type: str | None) -> Kind:
    """Files of domains. `default_host_type` is for lines without one."""

    def read(row: Row) -> Row:
        host_type = row.get("host_type", "").strip() or default_host_type
        try:
            name = prepare_name(row.get("domain", "").strip())
        except InvalidDomain:
            raise BadLine("invalid domain name") from None
        if not host_type:
            raise BadLine("no host type")
        return {"domain": name, "host_type": host_type}

    # the answers to so many fit between server and client, which reads them when it has sent all
    return Kind("domains", ("domain", "host_type"), 1000, read, group="host_type")


def _account(row: Row) -> Row:
    try:
        jid = JID.parse(row.get("jid", "").strip())
        prepare_name(jid.domain)
    except (InvalidJID, InvalidDomain):
        raise BadLine("invalid address") from None
    if jid.local is None or jid.resource is not None:
        raise BadLine("not of the form user@domain")
    password = row.get("password", "")
    try:
        prepare_new_password(password)
    except InvalidPassword:
        raise BadLine("invalid password") from None
    return {"jid": str(jid), "password": password}


ACCOUNTS: Final = Kind("users", ("jid", "password"), 100, _account, secret=True)


def entries_of(kind: Kind, source: IO[bytes]) -> Iterator[Entry]:
    """The lines that are not blank.

    The first may name the columns, in any order and with others among them. A line is a row: quotes do not reach over
    its end, so that a wrong one harms no other.
    """
    names: Sequence[str] = kind.columns
    begun = False
    for number, line in enumerate(_lines(source), 1):
        if line is None:
            yield Entry(number, problem="the line is too long")
            continue
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape").rstrip("\r\n")
        if not text.strip():
            continue
        is_first, begun = not begun, True
        try:
            (columns,) = csv.reader([text], strict=True)
        except csv.Error as problem:
            yield Entry(number, (text,), problem=f"not comma-separated values: {problem}")
            continue
        found = [column.strip().lower() for column in columns]
        if is_first and kind.columns[0] in found:
            names = found
        else:
            yield _entry(kind, number, dict(zip(names, columns, strict=False)))


def _entry(kind: Kind, number: int, row: Row) -> Entry:
    columns = [row.get(name, "") for name in kind.columns]
    name = "" if kind.secret else columns[0]
    try:
        for column in columns:
            column.encode()
        sent = kind.read(row)
    except UnicodeEncodeError:
        return Entry(number, columns, name, problem="not in UTF-8")
    except BadLine as problem:
        return Entry(number, columns, name, problem=str(problem))
    return Entry(number, columns, sent[kind.columns[0]], sent)


def _lines(source: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is too long, which is not held in memory."""
    while line := source.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = source.readline(MAX_LINE_BYTES)
        yield None
