"""Events of a document, and a child of <user/> as it becomes one or several of them."""

from dataclasses import dataclass
from typing import Final

from twisted.words.xish import domish

from dynxmpp.wire.stanza import qualified

__all__ = [
    "MAX_ELEMENT",
    "MAX_ELEMENTS",
    "PART_BYTES",
    "PART_CHILDREN",
    "Child",
    "Event",
    "Foreign",
    "Host",
    "LeftOut",
    "Piece",
    "User",
    "UserEnd",
]

#: Bytes of a child of <user/>, or, where that may come in parts, of one of its own children.
MAX_ELEMENT: Final = 1 << 20
#: The elements in it.
MAX_ELEMENTS: Final = 10_000
#: Bytes of a part from which on the next one begins, and the most children of one.
PART_BYTES: Final = 131_072
PART_CHILDREN: Final = 500


@dataclass(frozen=True, slots=True)
class Host:
    """A <host/> begins. `wanted`: its users follow."""

    jid: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class User:
    """A <user/> begins."""

    name: str
    password: str | None


@dataclass(frozen=True, slots=True)
class UserEnd:
    """The <user/> is complete."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child of <user/>, or a part of one; `size` in bytes of the document."""

    key: str
    element: domish.Element
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A child of <user/>, or a child of that, that is too large."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """What should not be where it is; `key` is its qualified name, or "text"."""

    key: str
    inside: str


Event = Host | User | UserEnd | Child | LeftOut | Foreign


class Piece:
    """A child of <user/> as it comes in, or, where it may come in parts, the part of it that is gathered."""

    def __init__(self, key: str, element: domish.Element, at: int, events: list[Event], *, in_parts: bool) -> None:
        self._key = key
        self._first = element
        self._in_parts = in_parts
        self._events = events
        self._open: list[domish.Element] = []
        self._handed_out = False
        self._begin(at)

    def _begin(self, at: int) -> None:
        """The first part, or the next one: the same tag, no children yet."""
        first = self._first
        self._root = domish.Element(
            (first.uri, first.name), first.defaultUri, dict(first.attributes), dict(first.localPrefixes)
        )
        self._root_at = self._bounded_at = at
        self._children = self._elements = 0
        self._too_large = ""
        self._open = [self._root]

    def start(self, element: domish.Element, at: int) -> None:
        if self._in_parts and len(self._open) == 1:
            self._bounded_at = at
            self._elements = 0
            self._too_large = ""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            self._drop(f"more than {MAX_ELEMENTS} elements")
        self._check(at)
        if not self._too_large:
            parent = self._open[-1]
            parent.children.append(element)
            element.parent = parent
        self._open.append(element)

    def text(self, data: str, at: int) -> None:
        self._check(at)
        if not self._too_large and not (self._in_parts and len(self._open) == 1):
            self._open[-1].addContent(data)

    def end(self, at: int) -> bool:
        """An element ends; True: it is the child of <user/> itself."""
        self._check(at)
        ended = self._open.pop()
        if self._in_parts and len(self._open) == 1:
            self._end_of_child(ended, at)
        if self._open:
            return False
        if self._too_large and not self._in_parts:
            self._events.append(LeftOut(self._key, self._too_large))
        elif self._children or not self._handed_out:
            self._hand_out(at)
        return True

    def _end_of_child(self, child: domish.Element, at: int) -> None:
        if self._too_large:
            self._events.append(LeftOut(qualified(child.uri or "", child.name), self._too_large))
            self._too_large = ""
        else:
            self._children += 1
        self._bounded_at = at
        if at - self._root_at >= PART_BYTES or self._children >= PART_CHILDREN:
            if self._children:
                self._hand_out(at)
            self._begin(at)

    def _hand_out(self, at: int) -> None:
        self._handed_out = True
        self._events.append(Child(self._key, self._root, at - self._root_at))

    def _check(self, at: int) -> None:
        if at - self._bounded_at > MAX_ELEMENT and not self._too_large:
            self._drop(f"larger than {MAX_ELEMENT} bytes")

    def _drop(self, reason: str) -> None:
        """What is too large is forgotten at once; its tags are still followed."""
        if self._too_large:
            return
        self._too_large = reason
        kept = self._open[0]
        if not self._in_parts:
            kept.children = []
        elif len(self._open) > 1:
            kept.children.remove(self._open[1])
            self._open[1].children = []
