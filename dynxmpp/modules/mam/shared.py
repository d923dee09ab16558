"""Work that several callers want at the same moment and that is done once."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[K, T]):
    """Runs what has a key once at a time; who asks meanwhile gets the same outcome."""

    log = Logger()

    def __init__(self) -> None:
        self._running: dict[K, list[Deferred[T]]] = {}

    async def run(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """What `work()` gives or raises, or that of the same key which runs already. It outlives a cancelled caller."""
        asker: Deferred[T] = Deferred()
        askers = self._running.get(key)
        if askers is not None:
            askers.append(asker)
        else:
            self._running[key] = [asker]
            Deferred.fromCoroutine(self._do(key, work))
        return await asker

    async def _do(self, key: K, work: Callable[[], Awaitable[T]]) -> None:
        try:
            outcome: T | Failure = await work()
        except Exception:  # noqa: BLE001 - border: it goes to everybody who asked
            outcome = Failure()
        askers = [asker for asker in self._running.pop(key) if not asker.called]
        if isinstance(outcome, Failure) and not askers:
            self.log.failure("shared_work_failed", outcome)
        for asker in askers:
            if isinstance(outcome, Failure):
                asker.errback(outcome.value)
            else:
                asker.callback(outcome)
