"""JIDs: addresses as values, prepared by the profiles of RFC 6122, parsed once and remembered.

Every address that reaches the rest of the server is prepared; two JIDs are equal when their texts are. A text that a
peer sent costs one dictionary look-up when it was seen before: preparing costs tens of microseconds, a look-up 0.1.
The memory is bounded, because the texts come from strangers.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from twisted.words.protocols.jabber.xmpp_stringprep import nameprep, nodeprep, resourceprep

#: RFC 6122 2.1: no part of an address exceeds this many bytes of UTF-8.
MAX_PART_BYTES: Final = 1023
MAX_LABEL_BYTES: Final = 63
#: Three parts and two separators.
_MAX_TEXT_BYTES: Final = 3 * MAX_PART_BYTES + 2
#: Longer texts are parsed anew each time, so that the memory of a cache is bounded in bytes and not only in entries.
_CACHED_TEXT: Final = 256
_CACHE_ENTRIES: Final = 32768

# What the profiles leave as it is (but for case), in ASCII. Nodeprep forbids "&'/:<>@ and space.
_PLAIN_LOCAL = re.compile(r"[!#-%(-.0-9;=?A-Z\[-~]+").fullmatch
_PLAIN_RESOURCE = re.compile(r"[ -~]+").fullmatch
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch


class InvalidJID(ValueError):
    """A text that is no address, or a part that fails its preparation (RFC 6120 8.3.3.8, jid-malformed)."""


def prepare_local(text: str) -> str:
    """The localpart `text` after nodeprep. Raises InvalidJID."""
    if _PLAIN_LOCAL(text):
        return _bounded(text.lower(), "localpart")
    return _bounded(_stable(nodeprep.prepare, text, "localpart"), "localpart")


def prepare_resource(text: str) -> str:
    """The resourcepart `text` after resourceprep. Raises InvalidJID."""
    if _PLAIN_RESOURCE(text):
        return _bounded(text, "resourcepart")
    return _bounded(_stable(resourceprep.prepare, text, "resourcepart"), "resourcepart")


def prepare_domain(text: str) -> str:
    """The domainpart `text` in lower case, its labels as U-labels, without a final dot. Raises InvalidJID.

    Both spellings of an internationalised name (`xn--...` and the name itself) give the same result (RFC 7622 3.2.1).
    IP addresses are accepted as RFC 6122 2.2 has it, IPv6 in brackets.
    """
    if text.endswith("."):
        text = text[:-1]
    if _PLAIN_DOMAIN(text):
        text = text.lower()
        return _bounded(text if "xn--" not in text else _prepare_labels(text), "domainpart")
    if text.startswith("["):
        return _ipv6_literal(text)
    return _bounded(_prepare_labels(text), "domainpart")


def _ipv6_literal(text: str) -> str:
    try:
        if text.endswith("]") and "%" not in text:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
    except ValueError:
        pass
    raise InvalidJID("domainpart: not an IPv6 address")


def _prepare_labels(text: str) -> str:
    # RFC 3490 3.1: these full stops separate labels too.
    labels = re.sub("[\u3002\uff0e\uff61]", ".", text).split(".")
    return ".".join(_prepare_label(label) for label in labels)


def _prepare_label(label: str) -> str:
    prepared = _stable(nameprep.nameprep, label, "domainpart")
    if "." in prepared:  # some compatibility characters become one, and would make two labels out of one
        raise InvalidJID("domainpart: forbidden character")
    try:
        ascii_form = prepared if prepared.isascii() else "xn--" + prepared.encode("punycode").decode("ascii")
        if prepared.startswith("xn--"):
            prepared = _decode_a_label(prepared)
    except UnicodeError as error:
        raise InvalidJID("domainpart: not an internationalised label") from error
    if len(ascii_form) > MAX_LABEL_BYTES:
        raise InvalidJID(f"domainpart: label longer than {MAX_LABEL_BYTES} bytes")
    return prepared


def _decode_a_label(label: str) -> str:
    """The U-label of `label`; refused when it is not what that U-label encodes to."""
    decoded = label[4:].encode("ascii").decode("punycode")
    if decoded.isascii() or nameprep.nameprep(decoded) != decoded:
        raise UnicodeError(label)
    return decoded


def _stable(prepare: Callable[[str], str], text: str, part: str) -> str:
    """`prepare(text)`, refused where preparing the result again would change it: such texts are no identity."""
    try:
        once = prepare(text)
        twice = prepare(once)
    except (UnicodeError, IndexError) as error:
        raise InvalidJID(f"{part}: {error}") from error
    if once != twice:
        raise InvalidJID(f"{part}: has no stable prepared form")
    return once


def _bounded(prepared: str, part: str) -> str:
    if not prepared:
        raise InvalidJID(f"{part}: empty")
    if len(prepared) > MAX_PART_BYTES or len(prepared.encode()) > MAX_PART_BYTES:
        raise InvalidJID(f"{part}: longer than {MAX_PART_BYTES} bytes")
    return prepared


class JID:
    """A prepared address. Immutable by convention: parsed JIDs are shared by everything that saw the same text.

    `full` and `bare` are the texts with and without the resourcepart; for a bare JID both are the same.
    """

    __slots__ = ("_hash", "bare", "domain", "full", "local", "resource")

    local: str | None
    domain: str
    resource: str | None
    full: str
    bare: str

    def __init__(self, local: str | None, domain: str, resource: str | None = None) -> None:
        """From parts that are prepared already; peers' texts go through `parse`."""
        self.local = local
        self.domain = domain
        self.resource = resource
        self.bare = domain if local is None else f"{local}@{domain}"
        self.full = self.bare if resource is None else f"{self.bare}/{resource}"
        self._hash = hash(self.full)

    @classmethod
    def parse(cls, text: str) -> "JID":
        """The address that `text` spells (RFC 6122 2.1). Raises InvalidJID."""
        return _parse_cached(text) if len(text) <= _CACHED_TEXT else _parse(text)

    @classmethod
    def of(cls, local: str | None, domain: str, resource: str | None = None) -> "JID":
        """From prepared parts."""
        return cls(local, domain, resource)

    @property
    def is_bare(self) -> bool:
        return self.resource is None

    def to_bare(self) -> "JID":
        return self if self.resource is None else _bare(self.local, self.domain)

    def to_domain(self) -> "JID":
        return self if self.local is None and self.resource is None else _bare(None, self.domain)

    def with_resource(self, resource: str) -> "JID":
        """The full JID of a prepared `resource` under this address."""
        return JID(self.local, self.domain, resource)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, JID) and self.full == other.full)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.full

    def __repr__(self) -> str:
        return f"JID({self.full!r})"


def _parse(text: str) -> JID:
    if len(text) > _MAX_TEXT_BYTES:
        raise InvalidJID("address too long")
    rest, slash, resource = text.partition("/")
    local, at, domain = rest.partition("@")
    if not at:
        local, domain = "", rest
    elif not local:
        raise InvalidJID("localpart: empty")
    return JID(
        prepare_local(local) if at else None,
        prepare_domain(domain),
        prepare_resource(resource) if slash else None,
    )


_parse_cached = lru_cache(maxsize=_CACHE_ENTRIES)(_parse)


@lru_cache(maxsize=_CACHE_ENTRIES)
def _bare(local: str | None, domain: str) -> JID:
    return JID(local, domain)
