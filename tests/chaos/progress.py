"""What a run waits for, instead of sleeping: that the server is there, and that so much more was acknowledged."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred

#: Seconds without enough acknowledgements after which the run is given up.
STALLED_S = 90.0


class Gate:
    """Open while the server takes connections."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[Deferred[None]] = []

    def open(self) -> None:
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def close(self) -> None:
        self.is_open = False

    async def when_open(self) -> None:
        if not self.is_open:
            deferred: Deferred[None] = Deferred()
            self._waiting.append(deferred)
            await deferred


class Progress:
    """Counts acknowledged messages."""

    def __init__(self) -> None:
        self.count = 0
        self._goal: tuple[int, Deferred[None]] | None = None

    def add(self, count: int) -> None:
        self.count += count
        if self._goal is not None and self.count >= self._goal[0]:
            (_, deferred), self._goal = self._goal, None
            deferred.callback(None)

    async def more(self, count: int, patience_s: float = STALLED_S) -> None:
        """Returns when `count` further messages have been acknowledged. Raises defer.TimeoutError."""
        deferred: Deferred[None] = Deferred()
        self._goal = (self.count + count, deferred)
        await deferred.addTimeout(patience_s, reactor)
