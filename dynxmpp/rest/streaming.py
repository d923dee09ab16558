"""An answer that is written while it is made: as fast as the client reads, and never taken for whole when it is not."""

from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dynxmpp.rest.request import AdminRequest

__all__ = ["send"]

log = Logger()


@implementer(IPushProducer)
class _Flow:
    """Whether the client takes what it is sent: what the transport says of it."""

    def __init__(self) -> None:
        self.gone = False
        self._paused = False
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        self.gone = True
        self.resumeProducing()

    def lost(self, reason: object) -> None:
        """The connection is gone."""
        self.stopProducing()

    async def wait(self) -> None:
        """Returns when the client wants more, or is gone."""
        if self._paused and not self.gone:
            self._waiting = Deferred()
            await self._waiting


async def send(request: AdminRequest, first: bytes | None, chunks: AsyncGenerator[bytes, None]) -> None:
    """Writes the body of an answer, `first` and what comes after it; None for an empty one.

    Ends early when the client is gone, and `chunks` is closed in any case. What `chunks` raises is logged and cuts the
    connection: the client sees that this is not all, because the body lacks its end (RFC 9112 8), or, with HTTP/1.0,
    because the connection is reset.
    """
    flow = _Flow()
    request.notifyFinish().addErrback(flow.lost)
    if request.is_gone:
        flow.stopProducing()
    else:
        request.registerProducer(flow, True)
    chunk = first
    try:
        while chunk is not None and not flow.gone:
            request.write(chunk)
            await flow.wait()
            if not flow.gone:
                chunk = await anext(chunks, None)
    except Exception:  # noqa: BLE001 - border: the status has been sent, so nothing but the end can tell
        log.failure("rest_answer_broken_off", failure=Failure(), path=request.path.decode("ascii", "replace"))
        _cut(request)
        return
    finally:
        await chunks.aclose()
    if not flow.gone:
        request.unregisterProducer()
        request.finish()


def _cut(request: AdminRequest) -> None:
    """Closes the connection behind what was written, or resets it where a close would be taken for the body's end."""
    channel: Any = request.channel
    if channel is None:
        return
    if request.chunked:
        channel.loseConnection()
    else:
        channel.transport.abortConnection()
