"""StanzaStream: bytes of a stream in, stanzas out, without a tree.

Stands where `twisted.words` has its element stream (XmlStream._initializeStream) and calls the same three events, in
the order of the stream, after the parser has returned: an error in a handler cannot reach the parser.

What the parser is kept from, and why:

- DTDs, comments, processing instructions, entities that are not predefined: RFC 6120 11.1, `restricted-xml`.
- Unbounded stanzas, depth, attributes, elements: `policy-violation`, before the memory is spent.
- Incomplete tags: see gate.py; what waits there counts towards the size.
- Growing for ever: expat keeps each name it ever saw. After RENEW_AFTER bytes a fresh parser takes over.

What happens has its place in a queue: the header, elements, the stream's end, the error that ends it. So an error comes
after all that came before it in the stream, also when that has to wait (`suspend()`), and a handler that raises loses
nothing: its exception comes out of `parse()` or `resume()`, the rest stays queued, and `resume()` goes on with it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from twisted.words.xish import domish

from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.gate import OPEN_TAG, TagGate
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.stanza import NO_PREFIXES, Stanza
from dynxmpp.wire.tree import SEPARATOR, parse_children, split_attributes, split_name

#: Bytes after which a parser is replaced by a fresh one.
RENEW_AFTER = 512 * 1024

#: What nearly every element at depth 1 is called.
_NAMES = {f"{NS_CLIENT}{SEPARATOR}{name}": (NS_CLIENT, name) for name in ("message", "presence", "iq")}
_SLASH = ord("/")
_LESS_THAN = ord("<")
_WHITE_SPACE = b" \t\r\n"
# What a stream may begin with: "<", white space, the first byte of a byte order mark. HTTP and TLS do not.
_BEGINNINGS = b"<\xef" + _WHITE_SPACE
_CODES = expat.errors.codes
_CONDITIONS = {
    _CODES[expat.errors.XML_ERROR_UNDEFINED_ENTITY]: "restricted-xml",
    _CODES[expat.errors.XML_ERROR_UNBOUND_PREFIX]: "bad-namespace-prefix",
    _CODES[expat.errors.XML_ERROR_UNKNOWN_ENCODING]: "unsupported-encoding",
    _CODES[expat.errors.XML_ERROR_INCORRECT_ENCODING]: "unsupported-encoding",
}
_UTF16_MARKS = (b"\xfe\xff", b"\xff\xfe", b"\x00<", b"<\x00")


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one element at depth 1 (and of the stream header): bytes, open elements, attributes, elements.

    `max_attributes` bounds the attributes of each element, and the prefixes that the header or a stanza's tag declares.
    """

    max_stanza_size: int = 262_144
    max_depth: int = 64
    max_attributes: int = 64
    max_elements: int = 10_000


class StanzaStream:
    """One XML stream, from its header to its closing tag. A restart (RFC 6120 4.3.3) takes a new one.

    `parse()` and `resume()` raise StreamError when the stream cannot go on, once what came before has been handed out.
    """

    DocumentStartEvent: Callable[[domish.Element], object]
    ElementEvent: Callable[[Stanza], object]
    DocumentEndEvent: Callable[[], object]

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self._max_attributes = limits.max_attributes  # looked at for each element
        self._max_depth = limits.max_depth
        self._depth = 0
        self._ended = False  # nothing more is read; what is in _ready may still be handed out
        self._gate = TagGate()  # received, not yet fed
        self._buffer: bytes | bytearray = b""  # fed; begins with the stanza that is not complete
        self._offset = 0  # the parser's index of the first byte of _buffer
        self._fed = 0  # bytes that the parser has been given
        self._renew_at = RENEW_AFTER
        self._gap_at = 0  # where in _buffer the last element at depth 1 ended
        self._stanza_at = 0
        self._name = ""
        self._attributes: dict[Any, str] = {}
        self._keys: list[str] = []
        self._nested = 0  # elements deeper than the children of the stanza
        self._default_uri: str | None = None  # declared on the tag that is being opened
        self._prefixes: dict[str, str] = NO_PREFIXES
        self._root_tag = b""
        self._root_default = ""
        self._root_prefixes: tuple[tuple[str, str, bytes], ...] = ()
        self._ready: deque[Stanza | domish.Element | StreamError | None] = deque()  # None: the stream's end
        self._suspended = False
        self._dispatching = False
        self._parser = self._new_parser()

    # -- for the owner of the stream

    def parse(self, data: bytes) -> None:
        """Takes bytes as they come from the transport."""
        if not self._ended:
            if not self._fed and (self._gate.held[:2] + data)[:2] in _UTF16_MARKS:
                self._fail(StreamError("unsupported-encoding", "Only UTF-8 is supported"))
            else:
                fed = self._gate.take(data)
                if fed:
                    self._feed(fed)
                if self._gate.held or self._buffer:
                    self._check_unfinished()
        if self._ready:
            self._dispatch()

    def suspend(self) -> None:
        """Elements wait from now on, until `resume()`: one that is being handled must be answered first."""
        self._suspended = True

    def resume(self) -> None:
        """Hands out what has waited, then goes on as before."""
        self._suspended = False
        self._dispatch()

    def close(self) -> None:
        """Nothing that has been received is handed out any more."""
        self._ready.clear()
        self._end()

    @property
    def has_unread(self) -> bool:
        """Has something been received that was not handed out? After STARTTLS that would be a plaintext injection."""
        return bool(self._ready or self._depth > 1 or self._gate.held.strip())

    # -- feeding

    def _feed(self, fed: bytes) -> None:
        if self._buffer:
            self._buffer += fed  # a bytearray: see _forget
        else:
            self._buffer = fed
            self._offset = self._fed
        self._fed += len(fed)
        try:
            self._parser.Parse(fed, False)
            self._forget()
        except expat.ExpatError as problem:
            self._fail(StreamError(_CONDITIONS.get(problem.code, "not-well-formed")))
        except StreamError as problem:
            self._fail(problem)

    def _forget(self) -> None:
        """Keeps of the buffer what belongs to the element that is not complete."""
        if self._depth == 1:
            if self._gap_at != len(self._buffer):
                self._check_gap(len(self._buffer))
            self._buffer = b""
            self._gap_at = 0
        elif self._ended:
            self._end()
            return
        else:
            start = self._stanza_at
            if start or type(self._buffer) is bytes:
                self._buffer = bytearray(self._buffer[start:])
                self._offset += start
                self._stanza_at = self._gap_at = 0
            self._check_pending()
        if self._fed > self._renew_at and self._depth:
            self._renew()

    def _check_pending(self) -> None:
        """Refuses a comment, a processing instruction or a DTD before it is complete: expat would scan it each time."""
        at = self._parser.CurrentByteIndex - self._offset
        if at < len(self._buffer) and (self._depth == 0 or self._buffer[at : at + 2] in (b"<!", b"<?")):
            raise StreamError("restricted-xml")

    def _check_unfinished(self) -> None:
        """Bounds what is neither complete nor handed out."""
        gate = self._gate
        held = gate.held
        if held and self._depth <= 1 and held[0] != _LESS_THAN:
            if self._depth == 1:
                gate.skip_white_space()  # keepalives need no memory
                if held and held[0] != _LESS_THAN:
                    self._fail(StreamError("bad-format", "Text outside of a stanza"))
            elif len(held) > 1 and held[0] not in _BEGINNINGS:  # one byte could be half of an UTF-16 mark
                self._fail(StreamError("not-well-formed"))
        if len(self._buffer) + len(held) > self.limits.max_stanza_size:
            self._fail(StreamError("policy-violation", "Stanza too big"))

    def _fail(self, error: StreamError) -> None:
        """The stream ends with this error, unless it has ended already."""
        if not self._ended:
            self._ready.append(error)
        self._end()

    def _end(self) -> None:
        """Nothing more is read. The parser goes, which refers to us as we to it."""
        self._ended = True
        self._gate.clear()
        self._buffer = b""
        self._parser = None

    def _dispatch(self) -> None:
        if self._dispatching:
            return  # called by a handler: the loop below goes on when it returns
        ready = self._ready
        self._dispatching = True
        try:
            while ready and not self._suspended:
                item = ready.popleft()
                if type(item) is Stanza:
                    self.ElementEvent(item)
                elif item is None:
                    self.DocumentEndEvent()
                elif isinstance(item, StreamError):
                    raise item
                else:
                    self.DocumentStartEvent(item)
        finally:
            self._dispatching = False

    # -- the parser

    def _new_parser(self) -> Any:
        # No interning: the dictionary would keep each name that a peer ever used.
        parser = expat.ParserCreate("UTF-8", SEPARATOR, None)
        if hasattr(parser, "SetReparseDeferralEnabled"):
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.StartNamespaceDeclHandler = self._on_namespace
        parser.XmlDeclHandler = self._on_declaration
        parser.StartDoctypeDeclHandler = self._on_restricted
        parser.EntityDeclHandler = self._on_restricted
        parser.CommentHandler = self._on_restricted
        parser.ProcessingInstructionHandler = self._on_restricted
        return parser

    def _renew(self) -> None:
        """A fresh parser that has read the same stream header, and once more the stanza that is not complete.

        Not waiting for a moment between two stanzas: a peer might never leave us one.
        """
        parser = self._new_parser()
        parser.StartElementHandler = parser.StartNamespaceDeclHandler = None
        parser.Parse(self._root_tag, False)
        parser.StartElementHandler = self._on_start
        parser.StartNamespaceDeclHandler = self._on_namespace
        self._parser = parser
        self._offset = len(self._root_tag)
        self._fed = self._offset + len(self._buffer)
        # At least as much again: reading twice must stay rare.
        self._renew_at = self._fed + max(RENEW_AFTER, self._fed)
        if self._buffer:
            self._depth = 1
            self._default_uri, self._prefixes = None, NO_PREFIXES
            parser.Parse(bytes(self._buffer), False)

    def _on_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise StreamError("unsupported-encoding", "Only UTF-8 is supported")

    def _on_restricted(self, *details: object) -> None:
        raise StreamError("restricted-xml")

    def _on_namespace(self, prefix: str | None, uri: str | None) -> None:
        if prefix is None:
            self._default_uri = uri or ""
        else:
            if self._prefixes is NO_PREFIXES:
                self._prefixes = {}
            self._prefixes[prefix] = uri or ""
            if len(self._prefixes) > self.limits.max_attributes:
                raise StreamError("policy-violation", "Too many namespaces")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        depth = self._depth
        self._depth = depth + 1
        if len(attributes) > self._max_attributes:
            raise StreamError("policy-violation", "Too many attributes")
        if depth == 2:
            self._keys.append(name)
        elif depth > 2:
            self._nested += 1
            if depth > self._max_depth:
                raise StreamError("policy-violation", "Elements nested too deep")
            if self._nested > self.limits.max_elements:
                raise StreamError("policy-violation", "Too many elements")
        elif depth:
            self._name = name
            self._attributes = attributes
            self._keys = []
            self._nested = 0
            self._stanza_at = self._parser.CurrentByteIndex - self._offset
            if self._stanza_at != self._gap_at:
                self._check_gap(self._stanza_at)
            # Inside of a stanza nobody asks for namespaces: 0.3 us for each declaration saved.
            self._parser.StartNamespaceDeclHandler = None
        else:
            self._open_root(name, attributes)

    def _on_end(self, name: str) -> None:
        depth = self._depth = self._depth - 1
        if depth == 1:
            self._finish(self._parser.CurrentByteIndex - self._offset)
        elif depth == 0:
            self._check_gap(self._parser.CurrentByteIndex - self._offset)
            self._ended = True
            self._ready.append(None)

    def _open_root(self, name: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex - self._offset
        match = OPEN_TAG(self._buffer, start)
        assert match is not None  # expat has just parsed it
        self._root_tag = bytes(match.group())
        if len(self._root_tag) > self.limits.max_stanza_size:
            raise StreamError("policy-violation", "Stream header too big")
        self._gap_at = match.end()
        self._root_default = self._default_uri or ""
        prefixes = self._prefixes
        self._root_prefixes = tuple((prefix, uri, prefix.encode() + b":") for prefix, uri in prefixes.items())
        root = domish.Element(split_name(name), self._root_default, split_attributes(attributes), prefixes)
        self._default_uri, self._prefixes = None, NO_PREFIXES
        self._ready.append(root)
        if self._root_tag.endswith(b"/>"):
            self._root_tag = self._root_tag[:-2] + b">"

    def _finish(self, at: int) -> None:
        """The end tag of a stanza begins at `at` (or an empty-element tag ends there): hand it out."""
        buffer = self._buffer
        start = self._stanza_at
        inner_at = self._end_of_tag(start)
        if buffer[inner_at - 2] == _SLASH:
            inner, end = b"", inner_at
        else:
            content, end = buffer[inner_at:at], buffer.index(b">", at) + 1
            inner = content if type(content) is bytes else bytes(content)
        limits = self.limits
        if end - start > limits.max_stanza_size:
            raise StreamError("policy-violation", "Stanza too big")
        keys = self._keys
        if len(keys) + self._nested > limits.max_elements:
            raise StreamError("policy-violation", "Too many elements")
        self._gap_at = end
        uri, name = _NAMES.get(self._name) or split_name(self._name)
        default_uri, prefixes = self._default_uri, self._prefixes
        if default_uri is None:
            default_uri = self._root_default
        else:
            self._default_uri = None
        if prefixes is not NO_PREFIXES:
            self._prefixes = NO_PREFIXES
        for prefix, prefix_uri, colon in self._root_prefixes:
            if colon in inner and prefix not in prefixes:
                prefixes = {**prefixes, prefix: prefix_uri}
        self._parser.StartNamespaceDeclHandler = self._on_namespace
        attributes = split_attributes(self._attributes)
        if default_uri == uri:
            stanza = Stanza(name, attributes, inner, tuple(keys), uri, prefixes)
        else:
            # Its own name has a prefix: its bytes are rewritten, to stand in its own namespace.
            stanza = Stanza.of_children(name, attributes, parse_children(inner, default_uri, prefixes), uri, prefixes)
        self._ready.append(stanza)

    def _end_of_tag(self, start: int) -> int:
        """Where the content of the stanza begins whose open tag is at `start`.

        The first ">" ends the tag unless one stands in a value; which values there are is known by now, so the regular
        expression is seldom needed (0.2 us less).
        """
        plain = self._default_uri is None and self._prefixes is NO_PREFIXES
        if plain and ">" not in "".join(self._attributes.values()):
            return self._buffer.index(b">", start) + 1
        match = OPEN_TAG(self._buffer, start)
        assert match is not None  # expat has just parsed it
        return match.end()

    def _check_gap(self, until: int) -> None:
        """Between two elements at depth 1 there may be white space only (RFC 6120 4.6.1 and 11.7)."""
        gap = bytes(self._buffer[self._gap_at : until]).strip(_WHITE_SPACE)
        if gap.startswith((b"<!--", b"<?")):
            raise StreamError("restricted-xml")  # not complete yet
        if gap:
            raise StreamError("bad-format", "Text outside of a stanza")
