"""Archive ids: key, order, time and stanza-id of a message in one number.

64 bits: microseconds since 1970 above, the number of the node (0 to 255) below. The ids of a node ascend strictly. For
clients they are texts: base 32 with the digits 0-9A-V.
"""

import re
from collections.abc import Callable
from typing import Final

from dynxmpp.module import Clock
from dynxmpp.protocol.timestamps import format_us

MAX_ID: Final = (1 << 63) - 1
#: Bits of the number of the node.
NODE_BITS: Final = 8

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
#: Two digits at a time: half the steps of a division by 32.
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_is_text = re.compile("[0-9A-Va-v]{1,13}").fullmatch


class ArchiveIds:
    """Gives out ids; one a host type. `node` is asked each time, as it may change when a node loses its number."""

    def __init__(self, clock: Clock, node: Callable[[], int]) -> None:
        self._clock = clock
        self._node = node
        self._last_us = 0

    def next(self) -> int:
        """The id of a message that comes in now: greater than all before, however slow the clock, or wrong."""
        self._last_us = max(int(self._clock.seconds() * 1_000_000), self._last_us + 1)
        return self._last_us << NODE_BITS | self._node()


def to_text(id_: int) -> str:
    """The id as clients see it."""
    parts = []
    while id_:
        parts.append(_PAIRS[id_ & 1023])
        id_ >>= 10
    parts.reverse()
    return "".join(parts).lstrip("0") or "0"


def from_text(text: str) -> int:
    """The id that a text of a client's names, in either case. Raises ValueError."""
    id_ = int(text, 32) if _is_text(text) else -1
    if not 0 <= id_ <= MAX_ID:
        raise ValueError(f"not an archive id: {text[:64]!r}")
    return id_


def timestamp(id_: int) -> str:
    """When the message came in, as XEP-0082 writes it, with six digits after the second."""
    return format_us(id_ >> NODE_BITS)


def first_of(microseconds: int) -> int:
    """The least id of a moment, in microseconds since 1970."""
    return min(max(microseconds << NODE_BITS, 0), MAX_ID)


def last_of(microseconds: int) -> int:
    """The greatest id of a moment, -1 before 1970."""
    return min(max(microseconds << NODE_BITS | (1 << NODE_BITS) - 1, -1), MAX_ID)
