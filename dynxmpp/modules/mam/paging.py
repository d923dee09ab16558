"""Where a page lies in its result set, and when it is the last one (XEP-0059, XEP-0313 4.3).

Messages are in their order whichever way pages are turned; `index` is the place of the page's first message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynxmpp.modules.mam.query import Page, unknown_id

#: (id, source, stanza) of a message.
Row = tuple[int, str, str]

#: What a page may have in bytes of stored stanzas; the first message is sent whatever its size.
PAGE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Found:
    """A page: its messages oldest first, its place and the size of the whole set, None where they were not counted."""

    rows: Sequence[Row]
    index: int | None
    count: int | None
    complete: bool


NOTHING = Found((), 0, 0, True)


def is_complete(page: Page, index: int, returned: int, count: int) -> bool:
    """Is there nothing more in the direction in which pages are turned? For a page of what was asked."""
    if page.backward:
        return index == 0
    return returned < page.size or index + page.size >= count


def place(page: Page, items: Sequence[Any]) -> tuple[int, int]:
    """(start, stop) of a page in a set that is there as a whole. Raises item-not-found for an edge not in it."""
    edge: int | None = None
    if page.edge is not None:
        if page.edge not in items:
            raise unknown_id()
        edge = items.index(page.edge)
    if page.backward:
        stop = len(items) if edge is None else edge
        return max(0, stop - page.size), stop
    start = min(len(items), page.skip if edge is None else edge + 1)
    return start, min(len(items), start + page.size)


def within_bytes(rows: Sequence[Row], *, backward: bool) -> Sequence[Row]:
    """As many of these rows, oldest first, as a page may have in bytes: from the side where the page begins."""
    total = 0
    for number, row in enumerate(reversed(rows) if backward else rows):
        size = len(row[2]) if row[2].isascii() else len(row[2].encode())
        if number and total + size > PAGE_BYTES:
            return rows[len(rows) - number :] if backward else rows[:number]
        total += size
    return rows
