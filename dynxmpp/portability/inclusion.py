"""A document that is split into several files (XEP-0227 section "Use of XInclude"), put together while it is read.

An <include/> is followed where a host, a user or a child of a user may stand; further inside it is the user's own data.
It may name files in the folder of the document, and below it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from xml.parsers import expat

from dynxmpp.portability.reader import DocumentError

__all__ = ["NS_XINCLUDE", "pieces_of"]

NS_XINCLUDE: Final = "http://www.w3.org/2001/XInclude"
_INCLUDE: Final = f"{NS_XINCLUDE} include"
#: Open elements around an <include/> that is followed.
_MAX_DEPTH: Final = 3
PIECE: Final = 65_536


def pieces_of(path: Path) -> Iterator[bytes]:
    """The whole document. Raises DocumentError for an <include/> that cannot be followed, OSError."""
    path = path.resolve()
    return _File(path, path.parent, 0).pieces()


class _File:
    """One file; `depth` elements are open where its content goes."""

    def __init__(self, path: Path, folder: Path, depth: int) -> None:
        self._path = path
        self._folder = folder
        self._outer = depth
        self._depth = depth
        self._from = 0  # the first byte that has not been given yet
        self._buffer = b""  # what was read from there on
        self._has_begun = False
        self._pending: str | None = None  # what the <include/> that is open names
        self._cuts: list[tuple[int, int, str, int]] = []
        self._parser: Any = expat.ParserCreate(None, " ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse_dtd

    def pieces(self) -> Iterator[bytes]:
        with self._path.open("rb") as source:
            while data := source.read(PIECE):
                self._buffer += data
                self._parse(data, False)
                yield from self._given()
        if self._outer:  # the reader of the whole finds what is wrong with the main file
            self._parse(b"", True)
        yield self._buffer

    def _parse(self, data: bytes, is_last: bool) -> None:
        """The main file is only looked through; what is wrong with it is said by its reader."""
        try:
            self._parser.Parse(data, is_last)
        except expat.ExpatError as problem:
            if self._outer:
                raise DocumentError(f"{self._path}: line {problem.lineno}: not well-formed") from problem

    def _given(self) -> Iterator[bytes]:
        """What can be given: all but a tag that may be an <include/>."""
        for start, end, href, depth in self._cuts:
            yield self._take(start)
            self._take(end)
            yield from _File(self._named(href), self._folder, depth).pieces()
        self._cuts.clear()
        if self._pending is None and self._has_begun:
            yield self._take(max(self._from, self._parser.CurrentByteIndex))

    def _take(self, upto: int) -> bytes:
        taken, self._buffer = self._buffer[: upto - self._from], self._buffer[upto - self._from :]
        self._from = upto
        return taken

    def _named(self, href: str) -> Path:
        """The file that an <include/> means."""
        path = (self._path.parent / unquote(href)).resolve()
        if not href or ":" in href or not path.is_relative_to(self._folder) or not path.is_file():
            raise DocumentError(f"{self._path}: cannot include {href[:100]!r}: no file below {self._folder}")
        return path

    def _refuse_dtd(self, *details: object) -> None:
        raise DocumentError(f"{self._path}: a DTD is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._parser.CurrentByteIndex
        if not self._has_begun:
            self._has_begun = True
            if self._outer:
                self._take(at)  # the XML declaration of a file that is included
        if name == _INCLUDE and self._pending is None and self._depth <= _MAX_DEPTH and self._depth > 0:
            if "parse" in attributes or "xpointer" in attributes:
                raise DocumentError(f"{self._path}: an include with parse or xpointer is not followed")
            self._pending = attributes.get("href", "")
            self._started_at = at
        self._depth += 1

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == _INCLUDE and self._pending is not None and self._depth <= _MAX_DEPTH:
            at = self._parser.CurrentByteIndex
            is_one_tag = self._buffer[: at - self._from].endswith(b"/>")
            end = at if is_one_tag else self._from + self._buffer.index(b">", at - self._from) + 1
            self._cuts.append((self._started_at, end, self._pending, self._depth))
            self._pending = None
