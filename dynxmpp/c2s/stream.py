"""C2SStream: the XmlStream of Twisted Words on a client's connection, with an element stream of our own.

It knows how to read, write, restart and end a stream (RFC 6120 4), and nothing of what is negotiated on it.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber import xmlstream
from twisted.words.xish import domish
from zope.interface import implementer

from dynxmpp.c2s.outbox import Outbox
from dynxmpp.core.interfaces import Clock
from dynxmpp.core.limits import TokenBucket
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_CLIENT, NS_STREAMS
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StanzaStream, StreamLimits

#: Seconds for a peer to take what was written before the connection is cut.
CLOSE_TIMEOUT_S = 10
FOOTER = b"</stream:stream>"


@implementer(IPushProducer)
class SendQueue:
    """Bounds what waits to be sent. The transport says when the peer no longer keeps up; from then on bytes count."""

    def __init__(self, limit: int, overflow: Callable[[], None]) -> None:
        self._limit = limit
        self._overflow = overflow
        self._waiting = -1  # -1: the peer keeps up

    def pauseProducing(self) -> None:
        self._waiting = max(self._waiting, 0)

    def resumeProducing(self) -> None:
        self._waiting = -1

    def stopProducing(self) -> None:
        self._waiting = -1

    def count(self, size: int) -> None:
        if self._waiting >= 0:
            self._waiting += size
            if self._waiting > self._limit:
                self._waiting = -1
                self._overflow()


class C2SStream(xmlstream.XmlStream):
    """One connection. Its authenticator (c2s.negotiation) hears of headers and elements until a session takes over."""

    log = Logger()
    namespace = NS_CLIENT
    initiating = False
    factory: Any
    transport: Any
    stream: StanzaStream

    def __init__(self, authenticator: Any, limits: StreamLimits, clock: Clock, language: str, outbox: Outbox) -> None:
        self.limits = limits
        self.outbox = outbox
        self._held: list[bytes] = []
        self.clock = clock
        self.language = language
        #: Where elements go: the negotiation first, the session once there is one.
        self.receiver: Callable[[Stanza], None] = authenticator.elementReceived
        self.shaper: TokenBucket | None = None
        #: Told once when the connection is gone, or when the stream has ended from our side.
        self.on_end: Callable[[], None] | None = None
        self.ended = False
        self.send_queue: SendQueue | None = None
        self._pauses = 0
        self._closing: Any = None
        super().__init__(authenticator)

    # -- life

    def _initializeStream(self) -> None:
        stream = StanzaStream(self.limits)
        stream.DocumentStartEvent = self.onDocumentStart
        stream.ElementEvent = self.receiver
        stream.DocumentEndEvent = self.onDocumentEnd
        self.stream = stream

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.factory.streams.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        if self.shaper is not None:
            self._shape(len(data))
        outermost = self.outbox.begin()
        try:
            self.stream.parse(data)
        except StreamError as error:
            self.fail(error)
        finally:
            if outermost:
                self.outbox.end()

    def resume(self) -> None:
        """Goes on with what came while the element stream was suspended."""
        try:
            self.stream.resume()
        except StreamError as error:
            self.fail(error)

    def onDocumentStart(self, rootElement: domish.Element) -> None:
        self.authenticator.streamStarted(rootElement)

    def onDocumentEnd(self) -> None:
        """The client closes its stream: so do we (RFC 6120 4.4)."""
        self._finish(FOOTER)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's signature
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._closing = None
        self.factory.streams.discard(self)
        self._end()
        self.authenticator.connectionLost()

    def restart(self) -> None:
        """A new header is expected after TLS or SASL (RFC 6120 4.3.3); what came before counts no more."""
        self.stream.close()
        self._headerSent = False
        self._initializeStream()

    def take_over(self, receiver: Callable[[Stanza], None]) -> None:
        """From now on elements go to `receiver`."""
        self.receiver = self.stream.ElementEvent = receiver

    # -- writing

    def send_header(self, sender: str, recipient: str | None, stream_id: str) -> None:
        """Our stream header (RFC 6120 4.7)."""
        attributes: dict[escape.AttributeName, str] = {"from": sender, "id": stream_id, "version": "1.0"}
        if recipient is not None:
            attributes["to"] = recipient
        tag = escape.open_tag("stream:stream", attributes, {"stream": NS_STREAMS}, NS_CLIENT)
        tag = f"{tag[:-1]} xml:lang='{escape.attribute(self.language)}'>"
        self._headerSent = True
        self.write(f"<?xml version='1.0'?>{tag}".encode())

    def write(self, data: bytes) -> None:
        """Sends bytes of this stream; after its end they go nowhere."""
        if self.ended:
            return
        if self.outbox.gathering:
            if not self._held:
                self.outbox.add(self)
            self._held.append(data)
        else:
            self._send(data)

    def flush(self) -> None:
        """Hands to the transport what the outbox has held back."""
        held, self._held = self._held, []
        if held and not self.ended:
            self._send(held[0] if len(held) == 1 else b"".join(held))

    def _send(self, data: bytes) -> None:
        if self.send_queue is not None:
            self.send_queue.count(len(data))
        self.transport.write(data)

    def bound_send_queue(self, limit: int) -> None:
        """From now on, a client that lets more than `limit` bytes wait is cut off."""
        self.send_queue = SendQueue(limit, self._overflow)
        self.transport.registerProducer(self.send_queue, True)

    def _overflow(self) -> None:
        self.log.warn("send_queue_full", peer=str(self.transport.getPeer()))
        self._end()
        self.transport.abortConnection()

    # -- reading slower

    def pause(self) -> None:
        """Reads no more until `unpause()` was called as often."""
        self._pauses += 1
        if self._pauses == 1 and not self.ended:
            self.transport.pauseProducing()

    def unpause(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and not self.ended:
            self.transport.resumeProducing()

    def _shape(self, size: int) -> None:
        assert self.shaper is not None
        delay = self.shaper.take(size)
        if delay:
            self.pause()
            self.clock.callLater(delay, self.unpause)

    # -- the end

    def fail(self, error: StreamError) -> None:
        """Ends the stream with an error (RFC 6120 4.9); our header goes first if it has not been sent."""
        if self.ended:
            return
        if not self._headerSent:
            self.authenticator.send_default_header()
        self._finish(error.to_bytes() + FOOTER)

    def close(self) -> None:
        """Ends the stream in peace."""
        self._finish(FOOTER if self._headerSent else b"")

    def _finish(self, last: bytes) -> None:
        if not self.ended:
            self.flush()
        if self.ended:  # already, or because what was to be sent before was too much
            return
        if last:
            self.transport.write(last)
        self._end()
        self._closing = self.clock.callLater(CLOSE_TIMEOUT_S, self.transport.abortConnection)
        self.transport.loseConnection()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.stream.close()
        if self.send_queue is not None:
            self.transport.unregisterProducer()
            self.send_queue = None
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end()
