"""A document of XEP-0227 as it comes in: bytes to events, with a bounded part of it in memory.

Its root is <server-data/>, or a <host/> as files have it that such a document includes. Children of <user/> become
trees. What may come in parts does so: an archive of any length is many elements with some messages each. What cannot,
and is larger than MAX_ELEMENT, is left out, and so told.

Refused: DTDs and with them all entities, other encodings than UTF-8, depth, attributes, single tags and different names
without bounds.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.parsers import expat

from twisted.words.xish import domish

from dynxmpp.portability.pieces import Child, Event, Foreign, Host, LeftOut, Piece, User, UserEnd
from dynxmpp.protocol.pie import NS_PIE
from dynxmpp.wire.stanza import qualified
from dynxmpp.wire.tree import SEPARATOR, split_attributes, split_name

__all__ = [
    "Child",
    "DocumentError",
    "DocumentReader",
    "Event",
    "Foreign",
    "Host",
    "LeftOut",
    "User",
    "UserEnd",
]

#: Open elements; stanzas are at most 64 deep, and a document puts six around them.
MAX_DEPTH: Final = 80
MAX_ATTRIBUTES: Final = 64
#: Bytes of a tag, a comment or the like: expat holds it as a whole.
MAX_TOKEN: Final = 1 << 20
#: Different names, which expat never forgets, and their characters.
MAX_NAMES: Final = 100_000
MAX_NAMES_SIZE: Final = 8 << 20

_SERVER_DATA: Final = f"{NS_PIE}{SEPARATOR}server-data"
_HOST: Final = f"{NS_PIE}{SEPARATOR}host"
_USER: Final = f"{NS_PIE}{SEPARATOR}user"
#: Where in the document we are.
_OUTSIDE, _IN_SERVER, _IN_HOST, _IN_USER, _IN_CHILD, _SKIPPING = range(6)
_PLACES: Final = {_IN_SERVER: "server-data", _IN_HOST: "host", _IN_USER: "user"}


class DocumentError(Exception):
    """The document cannot be read any further; the text says where and why."""


class DocumentReader:
    """Reads one document. `wants_host` says by its name whether a host is; `comes_in_parts` by the key of a child."""

    def __init__(self, *, wants_host: Callable[[str], bool], comes_in_parts: Callable[[str], bool]) -> None:
        self._wants_host = wants_host
        self._comes_in_parts = comes_in_parts
        self._events: list[Event] = []
        self._place = _OUTSIDE
        self._depth = 0
        self._skipped_below = 0
        self._back_to = _OUTSIDE
        self._names: set[str] = set()
        self._names_size = 0
        self._fed = 0
        self._piece: Piece | None = None
        self._prefixes: dict[str, str] = {}
        self._defaults: list[str] = [""]
        self._parser = self._new_parser()

    @property
    def line(self) -> int:
        """The line of the document that was read last."""
        return int(self._parser.CurrentLineNumber)

    def feed(self, data: bytes) -> Iterator[Event]:
        """What these bytes complete. Raises DocumentError, after all that comes before."""
        return self._parse(data, False)

    def close(self) -> Iterator[Event]:
        """The document ends here. Raises DocumentError if it should not."""
        return self._parse(b"", True)

    def _parse(self, data: bytes, is_last: bool) -> Iterator[Event]:
        error: DocumentError | None = None
        try:
            self._fed += len(data)
            self._parser.Parse(data, is_last)
            if self._fed - max(self._parser.CurrentByteIndex, 0) > MAX_TOKEN:
                raise DocumentError(f"line {self.line}: a tag of more than {MAX_TOKEN} bytes")
        except expat.ExpatError as problem:
            text = expat.errors.messages[problem.code]
            error = DocumentError("it breaks off" if is_last else f"line {problem.lineno}: {text}")
        except DocumentError as problem:
            error = problem
        events = self._events.copy()
        self._events.clear()  # the list itself is shared with the piece that is under way
        yield from events
        if error is not None:
            raise error

    # -- the parser

    def _new_parser(self) -> Any:
        parser = expat.ParserCreate("UTF-8", SEPARATOR, None)
        if hasattr(parser, "SetReparseDeferralEnabled"):
            parser.SetReparseDeferralEnabled(False)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartNamespaceDeclHandler = self._namespace
        parser.EndNamespaceDeclHandler = self._end_namespace
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._refuse_dtd
        parser.EntityDeclHandler = self._refuse_dtd
        return parser

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            raise DocumentError(f"the encoding is {encoding[:40]}, not UTF-8")

    def _refuse_dtd(self, *details: object) -> None:
        raise self._error("a DTD is not accepted")

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        if prefix is None:
            self._defaults.append(uri or "")
        else:
            self._prefixes[prefix] = uri or ""
            if len(self._prefixes) > MAX_ATTRIBUTES:
                raise self._error("too many namespaces")

    def _end_namespace(self, prefix: str | None) -> None:
        if prefix is None:
            self._defaults.pop()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"elements nested more than {MAX_DEPTH} deep")
        if len(attributes) > MAX_ATTRIBUTES:
            raise self._error(f"an element with more than {MAX_ATTRIBUTES} attributes")
        self._note_names(name, attributes)
        prefixes, self._prefixes = self._prefixes, {}
        if self._place == _IN_CHILD:
            assert self._piece is not None
            self._piece.start(self._new_element(name, attributes, prefixes), self._at())
        elif self._place == _IN_USER:
            self._place = _IN_CHILD
            key = qualified(*split_name(name))
            element = self._new_element(name, attributes, prefixes)
            self._piece = Piece(key, element, self._at(), self._events, in_parts=self._comes_in_parts(key))
        elif self._place != _SKIPPING:
            self._start_outside(name, attributes)

    def _new_element(self, name: str, attributes: dict[str, str], prefixes: dict[str, str]) -> domish.Element:
        return domish.Element(split_name(name), self._defaults[-1], split_attributes(attributes), prefixes)

    def _start_outside(self, name: str, attributes: dict[str, str]) -> None:
        """An element that is no part of a user."""
        place = self._place
        if place == _OUTSIDE and name == _SERVER_DATA:
            self._place = _IN_SERVER
        elif place in (_OUTSIDE, _IN_SERVER) and name == _HOST:
            self._start_host(attributes.get("jid", ""))
        elif place == _IN_HOST and name == _USER:
            self._place = _IN_USER
            self._events.append(User(attributes.get("name", ""), attributes.get("password")))
        elif place == _OUTSIDE:
            raise self._error(f"the root is {_shown(name)}, not server-data in the namespace {NS_PIE}")
        else:
            self._events.append(Foreign(qualified(*split_name(name)), _PLACES[place]))
            self._skip()

    def _start_host(self, jid: str) -> None:
        wanted = self._wants_host(jid)
        self._events.append(Host(jid, wanted))
        if wanted:
            self._place = _IN_HOST
        else:
            self._skip()

    def _skip(self) -> None:
        """What is in the element that has just begun is passed over."""
        self._back_to = self._place
        self._skipped_below = self._depth
        self._place = _SKIPPING

    def _end(self, name: str) -> None:
        self._depth -= 1
        place = self._place
        if place == _IN_CHILD:
            assert self._piece is not None
            if self._piece.end(self._at()):
                self._piece = None
                self._place = _IN_USER
        elif place == _SKIPPING:
            if self._depth < self._skipped_below:
                self._place = self._back_to
        elif place == _IN_USER:
            self._place = _IN_HOST
            self._events.append(UserEnd())
        else:
            self._place = _IN_SERVER if self._depth else _OUTSIDE

    def _text(self, data: str) -> None:
        if self._place == _IN_CHILD:
            assert self._piece is not None
            self._piece.text(data, self._at())
        elif self._place in _PLACES and data.strip():
            self._events.append(Foreign("text", _PLACES[self._place]))

    # -- bounds

    def _note_names(self, *names_of: Any) -> None:
        name, attributes = names_of
        for new in {name, *attributes} - self._names:
            self._names.add(new)
            self._names_size += len(new)
        if len(self._names) > MAX_NAMES or self._names_size > MAX_NAMES_SIZE:
            raise self._error("too many different names of elements and attributes")

    def _at(self) -> int:
        return int(self._parser.CurrentByteIndex)

    def _error(self, text: str) -> DocumentError:
        return DocumentError(f"line {self.line}: {text}")


def _shown(name: str) -> str:
    uri, local = split_name(name)
    return f"{local[:60]} in the namespace {uri[:60]}" if uri else f"{local[:60]} without a namespace"
