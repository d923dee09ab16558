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
from dynxmpp.wire.ns import NS_CLIENT, NS_STREAMS, NS_XML
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StanzaStream, StreamLimits

#: Seconds for a peer to take what was written before the connection is cut.
CLOSE_TIMEOUT_S = 10
#: Bytes handed to a transport at a time: it asks for a pause when it has more than that.
PIECE = 65536
FOOTER = b"</stream:stream>"
LANG = (NS_XML, "lang")

log = Logger()


@implementer(IPushProducer)
class SendQueue:
    """Bounds what waits to be sent. The transport says when the peer no longer keeps up; from then on bytes wait here.

    So they can be counted: a transport takes whatever it is given, and does not tell how much of it is left.
    """

    __slots__ = ("_extra", "_limit", "_overflow", "_paused", "_transport", "_waiting")

    def __init__(self, transport: Any, limit: int, overflow: Callable[[], None]) -> None:
        """`overflow` is called when more than `limit` bytes wait."""
        self._transport = transport
        self._limit = limit
        #: How much more may wait until nothing does.
        self._extra = 0
        self._overflow = overflow
        self._paused = False
        self._waiting = bytearray()
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        # As a new producer: a transport that closes of itself, since its TLS peer has said goodbye, waits for the old
        # one to go, and nobody would tell us.
        self._transport.unregisterProducer()
        self._transport.registerProducer(self, True)
        self._send()

    def stopProducing(self) -> None:
        self._waiting.clear()

    def write(self, data: bytes) -> None:
        if len(data) <= PIECE and not self._paused and not self._waiting:
            self._transport.write(data)
            return
        self._waiting += data
        self._send()
        if len(self._waiting) > self._limit + self._extra:
            self._waiting.clear()
            self._overflow()

    def write_all(self, data: bytes) -> None:
        """As `write`, but `data` may be more than the limit: it was in memory all the while."""
        self._extra += len(data)
        self.write(data)

    def close(self) -> None:
        """Hands the rest to the transport."""
        if self._waiting:
            self._transport.write(bytes(self._waiting))
            self._waiting.clear()
        self._transport.unregisterProducer()

    def _send(self) -> None:
        waiting = self._waiting
        while waiting and not self._paused:
            piece = bytes(waiting[:PIECE])
            del waiting[:PIECE]
            self._transport.write(piece)
        if not waiting:
            self._extra = 0


class C2SStream(xmlstream.XmlStream):
    """One connection. Its authenticator (c2s.negotiation) hears of headers and elements until a session takes over."""

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
        #: Told once when the stream is over. True: the connection is gone, and neither side had closed the stream.
        self.on_end: Callable[[bool], None] | None = None
        #: xml:lang of the client's header: what its stanzas are written in that say nothing else.
        self.peer_language: str | None = None
        self.ended = False
        self._send_queue: SendQueue | None = None
        self._pauses = 0
        self._shaping: Any = None
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
        except Exception:  # noqa: BLE001 - border: a fault of ours ends this stream, in order, and no other
            self._fault()
        finally:
            if outermost:
                self.outbox.end()

    def resume(self) -> None:
        """Goes on with what came while the element stream was suspended."""
        try:
            self.stream.resume()
        except StreamError as error:
            self.fail(error)
        except Exception:  # noqa: BLE001 - border: as in dataReceived
            self._fault()

    def _fault(self) -> None:
        log.failure("stream_failed", peer=str(self.transport.getPeer()))
        self.fail(StreamError("internal-server-error"))

    def onDocumentStart(self, rootElement: domish.Element) -> None:
        self.authenticator.streamStarted(rootElement)

    def onDocumentEnd(self) -> None:
        """The client closes its stream: so do we (RFC 6120 4.4)."""
        self._finish(FOOTER)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's signature
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._closing = None
        self._send_queue = None  # a transport that has gone cannot be asked for anything
        self._end(lost=True)
        self.authenticator.connectionLost()
        self.factory.stream_gone(self)

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
        # After a read, too, while other streams are being flushed: what is held goes before what comes now.
        if self.outbox.gathering or self._held:
            if not self._held:
                self.outbox.add(self)
            self._held.append(data)
        else:
            self._send(data)

    def write_all(self, data: bytes) -> None:
        """As `write`, for what may be more than a client may let wait."""
        self.flush()
        if self._send_queue is not None:
            self._send_queue.write_all(data)

    def flush(self) -> None:
        """Hands to the transport what the outbox has held back."""
        held, self._held = self._held, []
        if held and not self.ended:
            self._send(held[0] if len(held) == 1 else b"".join(held))

    def _send(self, data: bytes) -> None:
        if self._send_queue is not None:
            self._send_queue.write(data)
        else:
            self.transport.write(data)

    def bound_send_queue(self, limit: int) -> None:
        """From now on, a client that lets more than `limit` bytes wait is cut off."""
        self._send_queue = SendQueue(self.transport, limit, self._overflow)

    def start_tls(self, creator: Any, limit: int) -> None:
        """From now on everything is encrypted; what was written before leaves in the clear."""
        self.flush()
        if self._send_queue is not None:
            self._send_queue.close()
        self.restart()
        self.transport.startTLS(creator)
        self.bound_send_queue(limit)

    def _overflow(self) -> None:
        log.warn("send_queue_full", peer=str(self.transport.getPeer()))
        self._end(lost=True)
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
        if not delay:
            return
        if self._shaping is None:
            self.pause()
            self._shaping = self.clock.callLater(delay, self._shaped)
        else:
            self._shaping.reset(delay)

    def _shaped(self) -> None:
        self._shaping = None
        self.unpause()

    # -- the end

    def cut(self, error: StreamError) -> None:
        """As `fail`, because the connection seems to be dead: the client may resume its session on another one."""
        on_end, self.on_end = self.on_end, None
        self.fail(error)
        if on_end is not None:
            on_end(True)

    def fail(self, error: StreamError) -> None:
        """Ends the stream with an error (RFC 6120 4.9); our header goes first if it has not been sent."""
        if self.ended:
            return
        if self._headerSent or self.authenticator.send_default_header():
            self._finish(error.to_bytes() + FOOTER)
        else:
            self._finish(b"")

    def close(self) -> None:
        """Ends the stream in peace."""
        self._finish(FOOTER if self._headerSent else b"")

    def _finish(self, last: bytes) -> None:
        if not self.ended:
            if last:
                self._held.append(last)
            self.flush()
        if self.ended:  # already, or because what was to be sent was too much
            return
        self._end()
        self._closing = self.clock.callLater(CLOSE_TIMEOUT_S, self.transport.abortConnection)
        if self._pauses:
            self.transport.resumeProducing()  # TLS waits for the peer's closing alert
        self.transport.loseConnection()

    def _end(self, *, lost: bool = False) -> None:
        """Nothing is read and written any more; whoever waits for that is told."""
        if self.ended:
            return
        self.ended = True
        self.stream.close()
        if self._shaping is not None:
            self._shaping.cancel()
            self._shaping = None
        if self._send_queue is not None:
            self._send_queue.close()
            self._send_queue = None
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            try:
                on_end(lost)
            except Exception:  # noqa: BLE001 - border: whatever modules make of it, the connection is to be closed
                log.failure("session_end_failed", peer=str(self.transport.getPeer()))
