"""One connection of a client: from the TCP connection to a stream on which a resource may be bound.

The server's own parser reads, because it builds no trees: what these clients spend is not to slow the server down.
"""

import base64
import struct
from collections import deque
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_BIND, NS_SASL, NS_STREAM_ERRORS, NS_STREAMS
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StanzaStream, StreamLimits

#: Seconds for each answer until the stream is there. A server whose database is away may need five.
PATIENCE_S = 10.0
_RESET = struct.pack("ii", 1, 0)


class Gone(Exception):
    """The connection ended while an answer was waited for; the argument is the stream error, if there was one."""


class Refused(Exception):
    """The server did not let us in."""


class Connection(Protocol):
    """Keeps elements until somebody `listen()`s; before that, `next()` asks for one at a time."""

    def __init__(self) -> None:
        self.stream_error: str | None = None
        self.closed = False
        self._early: deque[Stanza] = deque()
        self._next: Deferred[Stanza] | None = None
        self._on_element: Callable[[Stanza], object] | None = None
        self._on_read: Callable[[], object] | None = None
        self._on_closed: Callable[[Connection], object] | None = None

    @classmethod
    async def open(cls, port: int, domain: str, username: str) -> "Connection":
        """Authenticated, on a new stream. Raises ConnectError, Gone, Refused, defer.TimeoutError."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        connection: Any = await endpoint.connect(Factory.forProtocol(cls))
        assert isinstance(connection, Connection)
        try:
            await connection._authenticate(domain, username)
        except BaseException:
            connection.reset()
            raise
        return connection

    async def _authenticate(self, domain: str, username: str) -> None:
        await self._header(domain)
        token = base64.b64encode(f"\0{username}\0secret".encode()).decode()
        self.write(f"<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{token}</auth>".encode())
        answer = await self.next()
        if answer.name != "success":
            raise Refused(answer.to_bytes().decode())
        await self._header(domain)

    async def _header(self, domain: str) -> None:
        """A new stream, up to its features."""
        self._stream = StanzaStream(StreamLimits(max_stanza_size=2**20))
        self._stream.DocumentStartEvent = lambda header: None
        self._stream.DocumentEndEvent = lambda: None
        self._stream.ElementEvent = self._arrived
        self.write(
            f"<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' "
            f"xmlns:stream='{NS_STREAMS}'>".encode()
        )
        features = await self.next()
        if features.name != "features":
            raise Refused(features.to_bytes().decode())

    async def bind(self, resource: str) -> None:
        """RFC 6120 7. Raises Gone, Refused, defer.TimeoutError."""
        bind = f"<bind xmlns='{NS_BIND}'><resource>{resource}</resource></bind>"
        self.write(f"<iq id='bind' type='set'>{bind}</iq>".encode())
        reply = await self.next()
        if reply.attributes.get("id") != "bind" or reply.attributes.get("type") != "result":
            raise Refused(reply.to_bytes().decode())

    # -- elements

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.transport.write(data)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        try:
            self._stream.parse(data)
        except StreamError as problem:
            self.stream_error = f"the server's stream is broken: {problem}"
            self.reset()
        if self._on_read is not None:
            self._on_read()

    def _arrived(self, element: Stanza) -> None:
        if element.name == "error" and element.uri == NS_STREAMS:
            conditions = (child.name for child in element.child_elements() if child.uri == NS_STREAM_ERRORS)
            self.stream_error = next(conditions, "")
        elif self._on_element is not None:
            self._on_element(element)
        elif self._next is not None:
            waiting, self._next = self._next, None
            waiting.callback(element)
        else:
            self._early.append(element)

    async def next(self) -> Stanza:
        """The next element at depth 1. Raises Gone, defer.TimeoutError."""
        if self._early:
            return self._early.popleft()
        if self.closed:
            raise Gone(self.stream_error)
        self._next = Deferred()
        return await self._next.addTimeout(PATIENCE_S, reactor)

    def listen(
        self,
        on_element: Callable[[Stanza], object],
        on_read: Callable[[], object],
        on_closed: Callable[["Connection"], object],
    ) -> None:
        """From now on `on_element` is given each element, `on_read` called after each read, `on_closed` at the end."""
        self._on_element, self._on_read, self._on_closed = on_element, on_read, on_closed
        while self._early:
            on_element(self._early.popleft())
        on_read()
        if self.closed:
            on_closed(self)

    def ignore(self) -> None:
        """The connection stays as it is, and what comes over it is not heard: the client has gone elsewhere."""
        self._on_element = lambda element: None
        self._on_read = None
        self._on_closed = None

    # -- the end

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's signature
        self.closed = True
        waiting, self._next = self._next, None
        if waiting is not None:
            waiting.errback(Gone(self.stream_error))
        if self._on_closed is not None:
            self._on_closed(self)

    def reset(self) -> None:
        """Cuts the connection at once: what is in the buffers of either side is lost."""
        if not self.closed:
            transport: Any = self.transport
            transport.socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            transport.abortConnection()

    def close(self) -> None:
        """Ends the stream in order (XEP-0198 6: the session is over)."""
        self.write(b"</stream:stream>")
