"""Logging: one event, one line, for people or as JSON; its level can be changed while the server runs.

Events are `Logger` calls with a fixed name and fields: `log.info("domain_inserted", domain=..., host_type=...)`. A
traceback follows its line in the text form, and is a field in the JSON form.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
)
from zope.interface import implementer

#: general.loglevel -> the least severe level that is logged; None logs nothing.
LEVELS: Mapping[str, Any] = {
    "none": None,
    "emergency": LogLevel.critical,
    "alert": LogLevel.critical,
    "critical": LogLevel.critical,
    "error": LogLevel.error,
    "warning": LogLevel.warn,
    "notice": LogLevel.info,
    "info": LogLevel.info,
    "debug": LogLevel.debug,
    "all": LogLevel.debug,
}

_EVENT_NAME = re.compile(r"[a-z0-9_]+").fullmatch
_PLAIN = re.compile(r"[^\s\"'=\\]+").fullmatch
_NOT_FIELDS = ("format", "message", "time", "system", "namespace", "isError", "failure", "why", "eventSource")
_SECRETS = re.compile("password|secret|token", re.IGNORECASE).search


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """The fields that the caller gave; what may be a secret by its name is not shown."""
    for key, value in event.items():
        if not key.startswith("log_") and key not in _NOT_FIELDS:
            yield key, "***" if _SECRETS(key) else value


def _visible(text: str) -> str:
    """A text for a line: control characters, of which a terminal would make something else, are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _value(value: object) -> str:
    """A field's value for a line, in quotes where it could be taken for something else."""
    text = str(value)
    if _PLAIN(text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _name(event: LogEvent) -> str:
    """The event's name; a whole text for events of other libraries."""
    format_ = event.get("log_format")
    if isinstance(format_, str) and _EVENT_NAME(format_):
        return format_
    text = formatEvent(event)
    return _visible(" ".join(text.split())) or "event"


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else failure.getTraceback()


def _source(event: LogEvent) -> str:
    return str(event.get("log_namespace", "-")).removeprefix("dynxmpp.")


def _time(event: LogEvent) -> str:
    return datetime.fromtimestamp(event["log_time"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text_line(event: LogEvent) -> str:
    """`time level source event field=value ...`, with the traceback, if any, indented below."""
    parts = [_time(event), event["log_level"].name.ljust(5), _source(event), _name(event)]
    if _EVENT_NAME(parts[-1]):
        for key, value in _fields(event):
            parts.append(f"{key}={_value(value)}")
    traceback = _traceback(event)
    below = "".join(f"\n    {_visible(line)}" for line in traceback.splitlines())
    return " ".join(parts) + below + "\n"


def json_line(event: LogEvent) -> str:
    """One JSON object: time, level, source, event, and the fields under their names."""
    record: dict[str, Any] = {
        "time": _time(event),
        "level": event["log_level"].name,
        "source": _source(event),
        "event": _name(event),
    }
    if _EVENT_NAME(record["event"]):
        record.update((key, value) for key, value in _fields(event) if key not in record)
    traceback = _traceback(event)
    if traceback:
        record["traceback"] = traceback
    return json.dumps(record, default=str, ensure_ascii=False) + "\n"


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as a line to `file`."""

    def __init__(self, file: IO[str], as_json: bool) -> None:
        self._file = file
        self._line = json_line if as_json else text_line

    def __call__(self, event: LogEvent) -> None:
        if "log_level" in event and "log_time" in event:
            self._file.write(self._line(event))
            self._file.flush()


@implementer(ILogFilterPredicate)
class ServerLog:
    """The server's observer, and its level: the predicate that decides what is logged."""

    def __init__(self, file: IO[str], *, level: str, as_json: bool = False) -> None:
        """`level` is a value of general.loglevel."""
        self._level: Any = None
        self.observer = FilteringLogObserver(LineObserver(file, as_json), [self])
        self.set_level(level)

    def set_level(self, level: str) -> None:
        self._level = LEVELS[level]

    def __call__(self, event: LogEvent) -> Any:
        level = event.get("log_level")
        # The noise of Twisted's own factories is worth a line only to those who look for everything.
        if level is None or self._level is None:
            return PredicateResult.no
        if not str(event.get("log_namespace", "")).startswith("dynxmpp") and level < LogLevel.warn:
            level = LogLevel.debug
        return PredicateResult.maybe if level >= self._level else PredicateResult.no
