"""A connection of HTTP/1, where a request can be answered while its body comes in."""

from typing import Any

from twisted.web.http import HTTPChannel

__all__ = ["AdminChannel"]


class AdminChannel(HTTPChannel):
    """Reads no further while a body is held back (`Upload.paused`), whatever becomes of the answer.

    Twisted's own reads on whenever the client has taken what it was sent: an answer that is written while the body
    comes in would let in more of it each time.
    """

    def resumeProducing(self) -> None:
        requests: list[Any] = self.requests
        upload = requests[-1].upload if requests else None
        if upload is None or not upload.paused:
            super().resumeProducing()
            return
        self._waitingForTransport = False
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
