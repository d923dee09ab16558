"""Commit tickets: "these writes are durable", the promise behind an acknowledgement."""

from collections.abc import Callable

from twisted.logger import Logger

log = Logger()


class CommitTicket:
    """Collects the writes that one stanza caused.

    Each writer calls `hold()` before it queues a row and `release()` when the row is committed, or `fail()` when it
    never will be. The ticket is settled once nothing is held any more, from the start when nobody held it.
    Settled and failed means: the stanza must not be acknowledged.
    """

    __slots__ = ("_callbacks", "_held", "failed")

    def __init__(self) -> None:
        self._held = 0
        self._callbacks: list[Callable[[CommitTicket], object]] | None = None
        self.failed = False

    @property
    def settled(self) -> bool:
        return self._held == 0

    @property
    def committed(self) -> bool:
        """Every write is durable."""
        return self._held == 0 and not self.failed

    def hold(self) -> None:
        """One more write is on its way."""
        self._held += 1

    def release(self) -> None:
        """One write is durable."""
        assert self._held > 0, "a commit ticket was released more often than held"
        self._held -= 1
        if not self._held and self._callbacks:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:  # noqa: BLE001 - border: who waits has nothing to do with who writes, nor with others
                    log.failure("after_commit_failed")

    def fail(self) -> None:
        """One write will never be durable."""
        self.failed = True
        self.release()

    def when_settled(self, callback: Callable[["CommitTicket"], object]) -> None:
        """Calls `callback(ticket)` once nothing is held, at once when that is so already."""
        if not self._held:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)
