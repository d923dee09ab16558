"""Answers that are written while they are made."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed

from dynxmpp.rest.dialect import FIVE
from dynxmpp.rest.operation import JSON_LINES, Call, Reply, operation
from dynxmpp.rest.request import AdminRequest
from dynxmpp.rest.site import Attachment, Mount
from dynxmpp.wire.errors import Unavailable
from tests.rest.server import RestTestCase

Chunks = AsyncGenerator[bytes, None]
CHUNK = b"x" * 65_535 + b"\n"
GET = b"GET /api/lines HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Lines:
    """Answers with what it was given."""

    def __init__(self) -> None:
        self.chunks: Callable[[], Chunks]

    @operation("GET", "/lines", summary="Lines", success=200, answer={"type": "string"}, media_type=JSON_LINES)
    async def lines(self, call: Call) -> Reply:
        return Reply(200, chunks=self.chunks(), headers={"X-Own": "1"})


class Client(Protocol):
    """Sends a request and counts what comes; `ended` has the kind of reason why the connection is gone."""

    def __init__(self, request: bytes, on_data: Callable[["Client"], None] = lambda client: None) -> None:
        self._request = request
        self._on_data = on_data
        self.received = b""
        self.ended: Deferred[type[BaseException]] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._on_data(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(reason.type)


class StreamingTests(RestTestCase):
    def places(self) -> Sequence[Mount | Attachment]:
        self.api = Lines()
        return [Mount(FIVE, host="_", path="/api", apis=[self.api])]

    async def get(self, headers: Any = None) -> tuple[Any, bytes]:
        response = await treq.get(
            f"http://127.0.0.1:{self.port}/api/lines", agent=self.requests, headers=headers, timeout=20
        )
        return response, await response.content()

    async def connect(self, client: Client) -> None:
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), client)

    async def test_all_chunks_come(self) -> None:
        async def three() -> Chunks:
            for chunk in (b"1\n", b"2\n", b"3\n"):
                yield chunk

        self.api.chunks = three
        response, body = await self.get()
        self.assertEqual((200, b"1\n2\n3\n"), (response.code, body))
        self.assertEqual(["application/jsonl"], response.headers.getRawHeaders("Content-Type"))
        self.assertEqual(["1"], response.headers.getRawHeaders("X-Own"))
        self.assertFalse(response.headers.hasHeader("Content-Length"))

    async def test_nothing_to_say(self) -> None:
        async def nothing() -> Chunks:
            for chunk in list[bytes]():
                yield chunk

        self.api.chunks = nothing
        response, body = await self.get()
        self.assertEqual((200, b""), (response.code, body))
        self.assertEqual(["application/jsonl"], response.headers.getRawHeaders("Content-Type"))

    async def test_who_does_not_want_lines(self) -> None:
        response, body = await self.get({"Accept": "application/json"})
        self.assertEqual((406, b""), (response.code, body))

    async def test_an_error_before_the_first_chunk_is_answered_as_any_other(self) -> None:
        async def fails() -> Chunks:
            if self.api:
                raise Unavailable("away")
            yield b""

        self.api.chunks = fails
        response, body = await self.get()
        self.assertEqual((500, b'{"what": "database error"}'), (response.code, body))
        self.assertEqual(["application/json"], response.headers.getRawHeaders("Content-Type"))

    async def test_an_error_in_the_middle_is_no_end(self) -> None:
        async def fails() -> Chunks:
            yield CHUNK
            raise ZeroDivisionError

        self.api.chunks = fails
        with self.assertRaises(ResponseFailed):
            await self.get()
        # With HTTP/1.0 the end of the connection is that of the body, so it must not be an orderly one.
        for version, reason in ((b"1.0", ConnectionLost), (b"1.1", ConnectionDone)):
            client = Client(GET % version)
            await self.connect(client)
            self.assertIs(reason, await client.ended)
            self.assertFalse(client.received.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(3, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_http_1_0(self) -> None:
        async def two() -> Chunks:
            yield b"1\n"
            yield b"2\n"

        self.api.chunks = two
        client = Client(GET % b"1.0")
        await self.connect(client)
        self.assertIs(ConnectionDone, await client.ended)
        self.assertTrue(client.received.endswith(b"\r\n\r\n1\n2\n"), client.received)

    async def test_it_is_made_as_fast_as_it_is_read(self) -> None:
        made = ahead = 0
        chunks = 1000

        async def many() -> Chunks:
            nonlocal made
            for _ in range(chunks):
                made += len(CHUNK)
                yield CHUNK

        def measure(client: Client) -> None:
            nonlocal ahead
            ahead = max(ahead, made - len(client.received))

        self.api.chunks = many
        client = Client(GET % b"1.0", measure)
        await self.connect(client)
        await client.ended
        self.assertEqual(chunks * len(CHUNK), made)
        self.assertEqual(made, len(client.received.partition(b"\r\n\r\n")[2]))
        # What is made and not read stands in the buffers of the sockets.
        self.assertLess(ahead, made // 2)

    async def test_it_ends_when_the_client_is_gone(self) -> None:
        closed: Deferred[None] = Deferred()

        async def endless() -> Chunks:
            try:
                while True:
                    yield CHUNK
            finally:
                closed.callback(None)

        def leave(client: Client) -> None:
            transport: Any = client.transport
            transport.loseConnection()

        chunks = endless()  # and it is not for the garbage collector to close it
        self.api.chunks = lambda: chunks
        client = Client(GET % b"1.1", leave)
        await self.connect(client)
        await client.ended
        await closed

    async def test_a_client_that_is_gone_before_it_begins(self) -> None:
        asked: Deferred[None] = Deferred()
        goes_on: Deferred[None] = Deferred()
        closed: Deferred[None] = Deferred()

        async def late() -> Chunks:
            try:
                asked.callback(None)
                await goes_on
                while True:
                    yield CHUNK
            finally:
                closed.callback(None)

        self.api.chunks = late
        lost = self.lost_requests()
        client = Client(GET % b"1.1")
        await self.connect(client)
        await asked
        transport: Any = client.transport
        transport.abortConnection()
        await lost
        goes_on.callback(None)
        await closed

    def lost_requests(self) -> Deferred[None]:
        """Fires when the server knows that a client is gone."""
        known: Deferred[None] = Deferred()
        connection_lost = AdminRequest.connectionLost

        def lost(request: AdminRequest, reason: Failure) -> None:
            connection_lost(request, reason)
            known.callback(None)

        self.patch(AdminRequest, "connectionLost", lost)
        return known
