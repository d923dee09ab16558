"""Bodies of JSON lines: a request has an object on each line, the answer says on a line what became of it."""

import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import psycopg2

from dynxmpp.rest.dialect import Dialect
from dynxmpp.rest.errors import BodyBroken, LineTooLong, MissingField
from dynxmpp.rest.operation import parse_object
from dynxmpp.wire.errors import Unavailable

__all__ = [
    "DATABASE_ERRORS",
    "MAX_LINE_BYTES",
    "Line",
    "LineReader",
    "Result",
    "answer_lines",
    "member",
    "object_of",
    "refusal",
]

#: The longest line that is looked at, without its end.
MAX_LINE_BYTES: Final = 4096
#: What is raised when the database has failed, and nothing that comes after can succeed.
DATABASE_ERRORS: Final = (Unavailable, psycopg2.Error)

#: A line without its end; None for one that is too long.
Line = bytes | None
#: What became of a line.
Result = Mapping[str, Any]


class LineReader:
    """Takes a body apart that comes in `pieces`. Blank lines are left out; no more than a piece is held."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(pieces)
        self._ready: deque[Line] = deque()
        self._begun = b""
        self._too_long = False

    async def take(self, limit: int) -> list[Line]:
        """The lines that are there, at least one and at most `limit`; none at the end. Raises what `pieces` raises."""
        while not self._ready:
            piece = await anext(self._pieces, None)
            if piece is None:
                self._add(self._begun)
                self._begun = b""
                break
            self._split(piece)
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _split(self, piece: bytes) -> None:
        *whole, self._begun = (self._begun + piece).split(b"\n")
        for line in whole:
            self._add(line)
        if len(self._begun) > MAX_LINE_BYTES:
            self._too_long = True
        if self._too_long:
            self._begun = b""

    def _add(self, line: bytes) -> None:
        if self._too_long or len(line) > MAX_LINE_BYTES:
            self._too_long = False
            self._ready.append(None)
        elif line and not line.isspace():
            self._ready.append(line)


async def answer_lines(
    pieces: AsyncIterable[bytes],
    limit: int,
    work: Callable[[Sequence[Line]], Awaitable[tuple[Sequence[Result], Exception | None]]],
) -> AsyncGenerator[bytes, None]:
    """The lines of an answer, for up to `limit` lines at a time as `work` makes results of them.

    `work` gives an exception as well when nothing can follow what it has done. If nothing has been answered before that
    it is raised at once, otherwise behind the results, so that the answer is not taken for whole.
    """
    reader = LineReader(pieces)
    answered = False
    try:
        while lines := await reader.take(limit):
            results, end = await work(lines)
            if end is not None and not answered:
                raise end
            yield b"".join(json.dumps(result, ensure_ascii=False).encode() + b"\n" for result in results)
            answered = True
            if end is not None:
                raise end
    except BodyBroken:
        return  # the client is gone, and nobody is there to be told


def refusal(dialect: Dialect, error: Exception) -> dict[str, str]:
    """The members of a result that say why a line was refused, in the words of the dialect."""
    answer = dialect.answer(type(error))
    text = answer.text_for(error)
    return {"result": "error", "error": HTTPStatus(answer.status).phrase if text is None else text}


def object_of(line: Line) -> Mapping[str, Any]:
    """The object that a line has. Raises LineTooLong, InvalidJson."""
    if line is None:
        raise LineTooLong
    return parse_object(line)


def member(given: Mapping[str, Any], name: str) -> str:
    """A member that must be a string. Raises MissingField."""
    value = given.get(name)
    if not isinstance(value, str):
        raise MissingField(name)
    return value
