"""`dynxmpp domain import` and `dynxmpp account import`: what files of comma-separated values say is made.

What is there already counts as done, so after an interruption the same command goes on where it was.
"""

import csv
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import click

from dynxmpp.cli_api import INTERRUPTED, REFUSED, Api, one_line
from dynxmpp.cli_rows import Entry, Kind, entries_of

__all__ = ["run_import"]

ERROR_COLUMN: Final = "error"


def run_import(api: Api, kind: Kind, source: IO[bytes], *, dry_run: bool, errors: Path | None) -> None:
    """Makes what the lines of `source` say, and tells what became of them. Ends the program unless all is there now.

    `errors` is the file for lines that fail. With `dry_run` lines are looked at, and nothing is sent.
    """
    with ExitStack() as stack:
        try:
            file = None if errors is None else stack.enter_context(_errors_file(errors, source))
        except OSError as problem:
            raise api.failure(REFUSED, f"{errors}: {problem.strerror}") from None
        progress = stack.enter_context(_Progress(source))
        report = _Report(kind, progress, file)
        try:
            entries = progress.watch(entries_of(kind, source))
            if dry_run:
                _check(entries, report)
            else:
                _send_all(api, entries, report)
        except KeyboardInterrupt:
            stack.close()
            report.summarise(api, dry_run)
            raise SystemExit(INTERRUPTED) from None
        except SystemExit:  # the reason has been told
            stack.close()
            if not api.as_json:
                report.summarise(api, dry_run)
            raise
    report.summarise(api, dry_run)
    if report.failures:
        raise SystemExit(REFUSED)


def _errors_file(path: Path, source: IO[bytes]) -> IO[str]:
    """For its owner only: lines of accounts have passwords."""
    if path.exists() and _is_file(source) and os.path.samestat(path.stat(), os.fstat(source.fileno())):
        raise click.UsageError("--errors would overwrite the file that is read")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="")


def _is_file(source: IO[bytes]) -> bool:
    try:
        return stat.S_ISREG(os.fstat(source.fileno()).st_mode)
    except io.UnsupportedOperation:
        return False


# -- doing


def _check(entries: Iterable[Entry], report: "_Report") -> None:
    for entry in entries:
        if entry.problem is not None:
            report.failed(entry, entry.problem)
        else:
            report.done(entry, "right")


def _send_all(api: Api, entries: Iterable[Entry], report: "_Report") -> None:
    batch: list[Entry] = []
    for entry in entries:
        if entry.problem is not None:
            report.failed(entry, entry.problem)
            continue
        batch.append(entry)
        if len(batch) == report.kind.at_once:
            _send(api, batch, report)
            batch = []
    if batch:
        _send(api, batch, report)


def _send(api: Api, batch: Sequence[Entry], report: "_Report") -> None:
    """Sends some lines, and notes what became of each as the answer comes."""
    lines = [json.dumps(entry.sent, ensure_ascii=False).encode() + b"\n" for entry in batch]
    for entry, result in zip(batch, api.exchange(report.kind.path, lines=lines), strict=True):
        outcome = result.get("result")
        if outcome in ("created", "exists"):
            report.done(entry, outcome)
        else:
            report.failed(entry, str(result.get("error", "refused")))


# -- telling


class _Report:
    """What has become of the lines so far; failed ones go to the file `errors`, or else to standard error."""

    def __init__(self, kind: Kind, progress: "_Progress", errors: IO[str] | None) -> None:
        self.kind = kind
        self.failures = 0
        self._progress = progress
        self._counts = {"created": 0, "exists": 0, "right": 0}
        self._groups: dict[str, int] = {}
        self._rows: Any = None
        if errors is not None:
            self._rows = csv.writer(errors, lineterminator="\n")
            self._rows.writerow((*kind.columns, ERROR_COLUMN))

    def done(self, entry: Entry, outcome: str) -> None:
        self._counts[outcome] += 1
        if self.kind.group is not None and entry.sent is not None:
            group = entry.sent[self.kind.group]
            self._groups[group] = self._groups.get(group, 0) + 1

    def failed(self, entry: Entry, reason: str) -> None:
        self.failures += 1
        if self._rows is not None:
            missing = len(self.kind.columns) - len(entry.columns)
            self._rows.writerow((*entry.columns, *[""] * missing, reason))
        else:
            self._progress.say(f"line {entry.number}: {reason}" + (f": {entry.name}" if entry.name else ""))

    def summarise(self, api: Api, dry_run: bool) -> None:
        created, exists, right = (self._counts[name] for name in ("created", "exists", "right"))
        if dry_run:
            groups = ", ".join(f"{count} {one_line(name)}" for name, count in sorted(self._groups.items()))
            text = f"{right} would be created or are there{f' ({groups})' if groups else ''}, {self.failures} wrong"
            fields = {"valid": right, "failed": self.failures, **({"host_types": self._groups} if self._groups else {})}
            api.done(text, dry_run=True, **fields)
        else:
            text = f"{created} created, {exists} there already, {self.failures} failed"
            api.done(text, created=created, exists=exists, failed=self.failures)


class _Progress:
    """A bar on a terminal, by the bytes that were read; nothing where standard error is no terminal."""

    def __init__(self, source: IO[bytes]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False)
        self._source = source
        self._is_file = _is_file(source)
        self._shown = console.is_terminal
        columns = (BarColumn(), TextColumn("{task.fields[lines]} lines"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not self._shown)
        total = os.fstat(source.fileno()).st_size if self._is_file else None
        self._task = self._bar.add_task("", total=total, lines=0)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def watch(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            yield entry
            if self._shown:
                position = self._source.tell() if self._is_file else None
                self._bar.update(self._task, completed=position, lines=entry.number)

    def say(self, text: str) -> None:
        """A line above the bar."""
        line = f"dynxmpp: {one_line(text)}"
        if self._shown:
            self._bar.console.print(line, markup=False, soft_wrap=True)
        else:
            click.echo(line, err=True)
