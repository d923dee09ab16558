"""Who works on a thing, one after the other: on a room, on a roster."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Line:
    """Those who want to work on one thing.

    A DeferredLock would do, but those who need not wait, because one before them has read what they need, would end
    inside each other: when a hundred are in line, the limit of recursion is reached.
    """

    def __init__(self) -> None:
        self._busy = False
        self._waiting: deque[Deferred[None]] = deque()
        self._calling = False

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    async def begin(self) -> None:
        if self.idle:
            self._busy = True
            return
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        await turn

    def end(self) -> None:
        self._busy = False
        if self._calling:
            return  # somebody further out calls the next one
        self._calling = True
        while self._waiting and not self._busy:
            self._busy = True
            self._waiting.popleft().callback(None)
        self._calling = False


class Turns(Generic[K]):
    """One line for each thing that anybody works on; none is kept of others."""

    def __init__(self) -> None:
        self._lines: dict[K, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    async def take(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Does `work` when all is done, or has failed, that was to be done before with what `key` names."""
        line = self._lines.setdefault(key, _Line())
        await line.begin()
        try:
            return await work()
        finally:
            line.end()
            if line.idle and self._lines.get(key) is line:
                del self._lines[key]
