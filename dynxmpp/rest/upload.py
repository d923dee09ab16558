"""A request's body that is read while it comes in: as fast as its handler takes it, with a bounded part in memory."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from dynxmpp.rest.errors import BodyBroken

__all__ = ["Upload"]

#: Bytes that wait for the handler; with more of them the client is read from no longer.
HIGH_WATER: Final = 131_072
#: Bytes that are still read once the request is answered: most clients look at an answer only when they have sent all.
MAX_DISCARDED: Final = 16 * 1024 * 1024


class Upload:
    """The body of one request: `async for data in upload`. Raises BodyBroken when the client goes before its end."""

    def __init__(self, channel: Any = None) -> None:
        """`channel` is the connection's HTTPChannel; without one, the body is empty and complete."""
        self._channel = channel
        self._idle_timeout_s = None if channel is None else channel.timeOut
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._discarded = 0
        #: Is the client not read from?
        self.paused = False
        self._reader: Deferred[None] | None = None
        self._answered: Callable[[], None] | None = None
        self._lost = False
        #: Has all of the body come in?
        self.complete = channel is None
        if channel is not None:
            channel.setTimeout(None)  # the client has time while it is us who work

    # -- for the handler

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self._waiting:
                data = b"".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                self._resume()
                yield data
            elif self._lost:
                raise BodyBroken("the client has gone before the end of the body")
            elif self.complete:
                return
            else:
                self._reader = Deferred()
                self._channel.setTimeout(self._idle_timeout_s)
                await self._reader
                self._channel.setTimeout(None)

    # -- for the request

    def received(self, data: bytes) -> None:
        """A piece of the body."""
        if self._answered is not None:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED:
                self._channel.loseConnection()
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self.paused:
            self.paused = True
            self._channel.transport.pauseProducing()
        self._wake()

    def ended(self) -> None:
        """All of the body is there."""
        self.complete = True
        self._resume()
        answered, self._answered = self._answered, None
        if answered is not None:
            answered()
        self._wake()

    def lost(self) -> None:
        """The connection is gone."""
        if not self.complete:
            self._lost = True
            self._answered = None
            self._wake()

    def discard(self, then: Callable[[], None]) -> None:
        """The request is answered: nobody wants the rest of the body. `then` is called once it is there."""
        self._waiting.clear()
        self._size = 0
        self._answered = then
        self._channel.setTimeout(self._idle_timeout_s)
        self._resume()

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            if not self._lost:
                self._channel.transport.resumeProducing()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)
