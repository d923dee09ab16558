"""`dynxmpp data export` and `dynxmpp data import`: all that is stored of a domain, as a document of XEP-0227."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

import click

from dynxmpp.cli_api import FAILED, REFUSED, Api, one_line
from dynxmpp.jid import InvalidJID, prepare_domain
from dynxmpp.portability.inclusion import pieces_of
from dynxmpp.portability.reader import DocumentError, DocumentReader, Host

__all__ = ["XML", "Progressing", "first_host", "run_import"]

XML: Final = "application/xml"


def run_import(
    api: Api,
    path: Path,
    *,
    domain: str | None,
    host: str | None,
    host_type: str | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Sends the document at `path`, and shows the answer. Ends the program with REFUSED when an account was refused."""
    try:
        host = host or first_host(path)
        domain = domain or host
        with Progressing(_Joined(pieces_of(path)), "sent", total=path.stat().st_size) as source:
            report = api.upload(
                "domains",
                domain,
                "data",
                media_type=XML,
                source=source,
                host=host,
                host_type=host_type,
                overwrite="true" if overwrite else None,
                dry_run="true" if dry_run else None,
            )
    except DocumentError as problem:
        raise api.failure(REFUSED, f"{path}: {problem}") from None
    except OSError as problem:
        raise api.failure(REFUSED, f"{problem.filename or path}: {problem.strerror}") from None
    _show(api, domain, report)


def first_host(path: Path) -> str:
    """The name of the first host in a document. Raises DocumentError, OSError."""
    reader = DocumentReader(wants_host=lambda jid: False, comes_in_parts=lambda key: False)
    for piece in pieces_of(path):
        for event in reader.feed(piece):
            if isinstance(event, Host):
                try:
                    return prepare_domain(event.jid)
                except InvalidJID as error:
                    raise DocumentError(f"the host {event.jid[:100]!r} is no domain") from error
    for _ in reader.close():
        pass
    raise DocumentError("the document has no host")


def _show(api: Api, domain: str, report: Any) -> None:
    """The answer: lines for people, what is wrong on stderr."""
    match report:
        case {
            "accounts": dict() as accounts,
            "taken": dict() as taken,
            "unknown": dict() as unknown,
            "other_hosts": dict() as other_hosts,
            "problems": list() as problems,
            "problems_left_out": int() as more,
        }:
            pass
        case _:
            raise api.failure(FAILED, "what answered is not the REST API: no report of an import")
    numbers = "; ".join(f"{what}: {_listed(counts)}" for what, counts in (("accounts", accounts), ("taken", taken)))
    api.done(one_line(f"{domain}: {numbers}"), **report)
    if not api.as_json:
        for problem in problems:
            click.echo(f"dynxmpp: {one_line(str(problem))}", err=True)
        if more:
            click.echo(f"dynxmpp: {more} more problems", err=True)
        for what, counts in (("nobody takes", unknown), ("other hosts, left out", other_hosts)):
            if counts:
                click.echo(f"dynxmpp: {what}: {one_line(_listed(counts))}", err=True)
    if accounts.get("refused"):
        sys.exit(REFUSED)


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing"


class _Joined:
    """Pieces as something that is read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        taken = self._left if size < 0 else self._left[:size]
        self._left = self._left[len(taken) :]
        return taken


class Progressing:
    """Something that is read from or written to, with a bar on a terminal that shows how far it has come."""

    def __init__(self, stream: Any, verb: str, *, total: int | None = None) -> None:
        """`total`: bytes that are expected, None if nobody knows."""
        self._stream = stream
        self._verb = verb
        self._total = total
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> IO[bytes]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn(self._verb), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._verb, total=self._total)
            self._bar.start()
        return cast("IO[bytes]", self)

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._advance(len(data))
        return data

    def write(self, data: bytes) -> int:
        written: int = self._stream.write(data)
        self._advance(len(data))
        return written

    def flush(self) -> None:
        self._stream.flush()

    def _advance(self, number: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, number)
