"""What a client has sent and the server has not acknowledged: the counting of XEP-0198 4, and its resending of 5.

No input or output: `Outbox` says what is to be sent, somebody else does it.
"""

from collections import deque
from dataclasses import dataclass

from tests.chaos.history import Name

#: `h` begins anew after so many stanzas.
WRAP = 2**32


class BadCount(Exception):
    """The server acknowledged what was never sent, or took an acknowledgement back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stanza on its way; `name` is None for what need not survive a lost session (presence, requests)."""

    data: bytes
    name: Name | None = None


class Outbox:
    """Of one client, over all its sessions."""

    def __init__(self) -> None:
        self._acknowledged = 0  # as the server counts, in this session
        self._waiting: deque[Entry] = deque()

    def __len__(self) -> int:
        """How many stanzas are not acknowledged."""
        return len(self._waiting)

    def put(self, entry: Entry) -> None:
        """A stanza is being sent."""
        self._waiting.append(entry)

    def acknowledge(self, handled: int) -> list[Entry]:
        """The server has handled `handled` stanzas of this session; those that are new to us. Raises BadCount."""
        count = (handled - self._acknowledged) % WRAP
        if count > len(self._waiting):
            unknown = f"h={handled}, but {self._acknowledged} were acknowledged and {len(self._waiting)} are waiting"
            raise BadCount(unknown)
        self._acknowledged = handled
        return [self._waiting.popleft() for _ in range(count)]

    def waiting(self) -> list[Entry]:
        """What has to be sent again on a resumed session: everything that is not acknowledged, in its order."""
        return list(self._waiting)

    def begin(self) -> list[Entry]:
        """A new session, counting from 0: empties the outbox, and gives the messages that have to be sent again."""
        self._acknowledged = 0
        waiting, self._waiting = self._waiting, deque()
        return [entry for entry in waiting if entry.name is not None]
