"""Stream errors (RFC 6120 4.9), stanza errors (RFC 6120 8.3), and which exception becomes which error.

Nothing else in the server builds an <error/> element. A handler raises; the border that called it asks this file.
"""

from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_STREAM_ERRORS

__all__ = ["StanzaError", "StreamError", "Unavailable", "stanza_error"]


class Unavailable(Exception):
    """Something this stanza needs cannot be had now (database away, queue full); the peer may try again later.

    Answered with resource-constraint, type wait: nothing was lost, nothing was done.
    """


class StreamError(Exception):
    """A condition that ends the stream (RFC 6120 4.9.3). `condition` is the element's name, `text` is for people.

    `application` is the element of an application-specific condition (4.9.4).
    """

    def __init__(self, condition: str, text: str | None = None, application: bytes = b"") -> None:
        super().__init__(condition if text is None else f"{condition}: {text}")
        self.condition = condition
        self.text = text
        self.application = application

    def to_bytes(self) -> bytes:
        """The <stream:error/> element, for a stream whose header bound the prefix `stream`."""
        text = ""
        if self.text is not None:
            text = f"<text xmlns='{NS_STREAM_ERRORS}' xml:lang='en'>{escape.text(self.text)}</text>"
        condition = f"<{self.condition} xmlns='{NS_STREAM_ERRORS}'/>"
        return b"<stream:error>%b%b</stream:error>" % ((condition + text).encode(), self.application)


def stanza_error(exception: BaseException) -> StanzaError | None:
    """The stanza error that `exception` means to a peer, or None when it is a fault of ours.

    A fault of ours is answered with internal-server-error by the caller, who logs the traceback.
    """
    if isinstance(exception, StanzaError):
        return exception
    if isinstance(exception, Unavailable):
        return StanzaError("resource-constraint", type="wait", text="Please try again later")
    return None
