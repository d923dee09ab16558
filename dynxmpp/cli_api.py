"""The REST API as the console command uses it: requests, what becomes of refusals, and how answers are shown."""

import base64
import functools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any, Final
from urllib.parse import quote, urlencode

import click

__all__ = ["BROKEN_PIPE", "FAILED", "INTERRUPTED", "JSON_LINES", "REFUSED", "Api", "one_line", "tell"]

#: Seconds until a connection is there, and for the answer to one request: removing a large domain takes its time.
CONNECT_TIMEOUT_S: Final = 10
TIMEOUT_S: Final = 300
UPLOAD_TIMEOUT_S: Final = 60
PAGE: Final = 1000
#: Bytes of an answer that are held at a time, when it goes to a file or to standard output.
PIECE: Final = 65_536
JSON_LINES: Final = "application/jsonl"

REFUSED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, FAILED, CREDENTIALS = 1, 2, 3, 4, 5, 6, 7
#: 128 and the number of the signal, as shells have it: SIGINT, SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141
_STATUSES: Final = {401: CREDENTIALS, 404: NOT_FOUND, 409: CONFLICT}


def tell(text: str, status: int, *, as_json: bool) -> None:
    """Says what went wrong: an object on stdout, or a line on stderr."""
    if as_json:
        click.echo(json.dumps({"error": text, "status": status}))
    else:
        click.echo(f"dynxmpp: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """`text` on one line. What a stranger chose, such as a resource, moves no cursor and feigns no other lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Api:
    """The REST API at `url`; what it refuses ends the program with a line on stderr (or a JSON object on stdout)."""

    def __init__(self, url: str, credentials: str | None, as_json: bool) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if credentials is not None:
            # The server compares bytes of UTF-8 (RFC 7617 2.1); urllib3 would take Latin-1.
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
        self.as_json = as_json

    @functools.cached_property
    def _pool(self) -> Any:
        import urllib3

        # A request that changes something is not repeated behind the operator's back, nor sent elsewhere.
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=TIMEOUT_S)
        return urllib3.PoolManager(retries=False, timeout=timeout)

    def call(self, method: str, *path: str, body: Mapping[str, object] | None = None, **query: object) -> Any:
        """The JSON of the answer, None for an empty one."""
        headers, data = self._headers, None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = json.dumps(body).encode()
        fields = urlencode({key: str(value) for key, value in query.items() if value is not None})
        answer = self._request(method, *path, fields=fields, body=data, headers=headers)
        try:
            return json.loads(answer.data) if answer.data else None
        except ValueError:
            raise self._nonsense() from None

    def download(self, *path: str, media_type: str, out: IO[bytes]) -> None:
        """Writes an answer of this type to `out` as it comes; one that breaks off ends the program as well."""
        from urllib3.exceptions import HTTPError

        headers = {**self._headers, "Accept": media_type}
        answer = self._request("GET", *path, headers=headers, preload_content=False)
        try:
            if answer.headers.get("Content-Type") != media_type:
                raise self._nonsense()
            for data in answer.stream(PIECE):
                out.write(data)
            out.flush()
        except HTTPError as problem:
            text = f"what {self._url} answered broke off and is not complete: {_reason(problem)}"
            raise self.failure(FAILED, text) from None
        finally:
            answer.close()

    def upload(self, *path: str, media_type: str, source: IO[bytes], **query: object) -> Any:
        """Sends what `source` has as it is read; the JSON of the answer."""
        import urllib3

        # While a body is sent, urllib3 takes the first of these times for each piece: the server may be busy.
        timeout = urllib3.Timeout(connect=UPLOAD_TIMEOUT_S, read=TIMEOUT_S)
        headers = {**self._headers, "Content-Type": media_type}
        fields = urlencode({key: str(value) for key, value in query.items() if value is not None})
        answer = self._request("PUT", *path, fields=fields, body=source, headers=headers, timeout=timeout)
        try:
            return json.loads(answer.data)
        except ValueError:
            raise self._nonsense() from None

    def exchange(self, *path: str, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """Sends lines of JSON, and gives the object that answers each of them, as they come."""
        from urllib3.exceptions import HTTPError

        headers = {**self._headers, "Content-Type": JSON_LINES}
        answer = self._request("POST", *path, headers=headers, body=b"".join(lines), preload_content=False)
        begun, count = b"", 0
        try:
            if answer.headers.get("Content-Type") != JSON_LINES:
                raise self._nonsense()
            for data in answer.stream(PIECE):
                *whole, begun = (begun + data).split(b"\n")
                for line in whole:
                    if count == len(lines):
                        raise self._nonsense()
                    count += 1
                    yield self._object_of(line)
        except HTTPError as problem:
            text = f"what {self._url} answered broke off and is not complete: {_reason(problem)}"
            raise self.failure(FAILED, text) from None
        finally:
            answer.close()
        if count != len(lines):
            raise self._nonsense()

    def _object_of(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._nonsense()
        return found

    def _request(self, method: str, *path: str, fields: str = "", **options: Any) -> Any:
        """The answer that is no refusal."""
        from urllib3.exceptions import HTTPError

        url = "/".join([self._url, *(_segment(part) for part in path)])
        try:
            answer = self._pool.request(method, f"{url}?{fields}" if fields else url, redirect=False, **options)
            if answer.status < 300:
                return answer
            data = answer.data
        except HTTPError as problem:
            raise self._unanswered(problem) from None
        raise self.failure(*self._refusal(answer.status, data))

    def _unanswered(self, problem: Exception) -> SystemExit:
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError

        reached = not isinstance(problem, ConnectTimeoutError | NewConnectionError | SSLError)
        what = "no answer from" if reached else "cannot reach"
        return self.failure(UNREACHABLE, f"{what} {self._url}: {_reason(problem)}")

    def _nonsense(self) -> SystemExit:
        return self.failure(FAILED, f"what {self._url} answered is not from the REST API")

    def _refusal(self, status: int, data: bytes) -> tuple[int, str]:
        try:
            parsed = json.loads(data)
            text = str(parsed["what"] if isinstance(parsed, dict) else parsed)
        except (ValueError, KeyError):
            if status == 404:  # of the API itself a missing thing has a reason: this is a path that nothing serves
                return UNREACHABLE, f"no REST API at {self._url}"
            text = "credentials missing or wrong" if status == 401 else f"HTTP status {status}"
        if status == 403 and text.startswith("basic auth "):
            return CREDENTIALS, text
        return _STATUSES.get(status, FAILED if status >= 500 else REFUSED), text

    def failure(self, status: int, text: str) -> SystemExit:
        """Says what went wrong; what is returned is to be raised."""
        tell(text, status, as_json=self.as_json)
        return SystemExit(status)

    def ask(self, *path: str) -> dict[str, Any]:
        """The object that is at a path."""
        answer = self.call("GET", *path)
        if not isinstance(answer, dict):
            raise self._nonsense()
        return answer

    def pages(self, *path: str, key: str, entry: type, limit: int | None, **query: Any) -> Iterator[Any]:
        """The entries of a list, each an `entry`, over as many requests as it takes."""
        return islice(self._pages(*path, key=key, entry=entry, limit=limit, **query), limit)

    def _pages(self, *path: str, key: str, entry: type, limit: int | None, **query: Any) -> Iterator[Any]:
        after: str | None = None
        left = limit
        while left is None or left > 0:
            answer = self.call("GET", *path, after=after, limit=PAGE if left is None else min(PAGE, left), **query)
            match answer:
                case {"next": None | str() as following} if isinstance(answer.get(key), list):
                    entries: list[Any] = answer[key]
                case _:
                    raise self._nonsense()
            # A page that leads to itself would be asked for for ever.
            if not all(isinstance(one, entry) for one in entries) or (following is not None and following == after):
                raise self._nonsense()
            yield from entries
            after = following
            if after is None:
                return
            left = None if left is None else left - len(entries)

    def done(self, text: str, **fields: object) -> None:
        """Says that something was done."""
        click.echo(json.dumps(fields) if self.as_json else text)

    def table(self, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """Shows rows: JSON, a table for a terminal, or columns with tabs for a pipe."""
        if self.as_json:
            click.echo(json.dumps(list(rows)))
        elif not sys.stdout.isatty():
            for row in rows:
                click.echo("\t".join(_shown(row.get(column)) for column in columns))
        else:
            from rich.console import Console as Terminal
            from rich.table import Table
            from rich.text import Text

            table = Table()
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:  # as Text: brackets in a name are no markup
                table.add_row(*(Text(_shown(row.get(column))) for column in columns))
            Terminal(highlight=False).print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else one_line(str(value))


def _segment(part: str) -> str:
    """A name as a segment of a path. The names `.` and `..` would be taken for steps in it (RFC 3986 5.2.4)."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _reason(problem: Exception) -> str:
    """The innermost cause, without the object of urllib3 that it happened to."""
    return re.sub(r"^(?:<[^>]*>|\w+\(host=[^)]*\)): ", "", str(getattr(problem, "reason", problem)))
