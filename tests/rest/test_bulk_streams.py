"""Bodies of lines that are answered while they come in: pace, bounds, and ends before the end."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from dynxmpp.rest.bulk_domains import BATCH_LINES
from dynxmpp.rest.request import AdminRequest
from dynxmpp.rest.site import AdminSite
from dynxmpp.rest.upload import Upload
from tests.rest.bulk import BulkTestCase, RawClient, body_of, chunk, domain, head

MEGABYTE = 1024 * 1024
LAST = b"0\r\n\r\n"


def content_of(received: bytes) -> bytes:
    """What the chunks of an answer hold, as far as they have come."""
    rest, content = received.partition(b"\r\n\r\n")[2], b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        content, rest = content + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return content


@implementer(IPullProducer)
class Source:
    """Sends pieces as fast as the transport takes them, and counts the bytes that it took."""

    def __init__(self, client: RawClient, pieces: Iterator[bytes]) -> None:
        self._transport: Any = client.transport
        self._pieces = pieces
        self.taken = 0
        self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self._transport.unregisterProducer()
        else:
            self.taken += len(piece)
            self._transport.write(piece)

    def stopProducing(self) -> None: ...


class StreamTestCase(BulkTestCase):
    def results(self, client: RawClient) -> list[Any]:
        return [json.loads(line) for line in content_of(client.received).splitlines()]

    def database_is_locked(self) -> Callable[[], None]:
        """Whoever changes domains waits until what is returned is called."""
        connection = psycopg2.connect(host=self.settings.host, dbname=self.settings.database, user="dynxmpp")
        connection.cursor().execute("LOCK TABLE domain_settings IN EXCLUSIVE MODE")
        self.addCleanup(connection.close)
        return connection.rollback

    def after(self, owner: Any, name: str) -> Deferred[None]:
        """Fires when the next call of a method is over."""
        called: Deferred[None] = Deferred()
        method = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            result = method(*arguments)
            if not called.called:
                called.callback(None)
            return result

        self.patch(owner, name, call)
        return called


class PaceTests(StreamTestCase):
    async def test_a_line_is_answered_before_the_next_is_sent(self) -> None:
        client = await self.connect()
        client.send(head())
        for number in range(3):
            line = body_of([domain(f"d{number}.example")])
            for piece in (line[:7], line[7:]):
                client.send(chunk(piece))
            await client.until(b'{"domain": "d%d.example", "result": "created"}\n' % number)
            self.assertIn(f"d{number}.example", self.node.table)
        self.assertFalse(client.received.endswith(LAST))
        client.send(chunk(b""))
        await client.until(LAST)
        self.assertEqual(3, len(self.results(client)))

    async def test_a_client_that_asks_first(self) -> None:
        client = await self.connect()
        body = body_of([domain("a.example")])
        client.send(head("/api/domains", b"Content-Length: %d" % len(body), b"Expect: 100-continue"))
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertNotIn(b"200", client.received)
        client.send(body)
        await client.until(LAST)
        self.assertIn(b'"created"', client.received)

    async def test_http_1_0(self) -> None:
        client = await self.connect()
        body = body_of([domain("a.example"), domain("b.example")])
        client.send(head("/api/domains", b"Content-Length: %d" % len(body), version=b"1.0") + body)
        self.assertIs(ConnectionDone, await client.ended)
        self.assertEqual(2, client.received.partition(b"\r\n\r\n")[2].count(b'"created"}\n'))

    async def test_the_connection_serves_another_request(self) -> None:
        client = await self.connect()
        for number in range(2):
            body = body_of([domain(f"d{number}.example")])
            client.send(head("/api/domains", b"Content-Length: %d" % len(body)) + body)
            await client.until(b"d%d.example" % number)
            await client.until(LAST)
        self.assertEqual(2, client.received.count(b"HTTP/1.1 200 OK"))

    async def test_100_megabytes_pass_through_a_bounded_memory(self) -> None:
        line = json.dumps({"domain": "x.example", "host_type": "gold", "padding": "p" * 3900}).encode() + b"\n"
        count = 100 * MEGABYTE // len(line)
        peak = await self.peak_of(chunk(line * 16) for _ in range(count // 16))
        self.assertLess(peak, 2 * MEGABYTE)
        self.assertEqual(count // 16 * 16, self.counted)

    async def test_a_line_of_100_megabytes(self) -> None:
        peak = await self.peak_of(chunk(b"x" * 65_536) for _ in range(1600))
        self.assertLess(peak, 2 * MEGABYTE)
        self.assertEqual(1, self.counted)

    async def test_blank_lines_without_end(self) -> None:
        peak = await self.peak_of(chunk(b"\n" * 65_536) for _ in range(320))
        self.assertLess(peak, 2 * MEGABYTE)
        self.assertEqual(0, self.counted)

    async def peak_of(self, chunks: Iterator[bytes]) -> int:
        """Sends a body and reads the answer, whose lines are `counted`; the most memory that both sides have needed."""
        self.counted = 0

        class Counting(RawClient):
            def dataReceived(client, data: bytes) -> None:  # noqa: N805
                self.counted += data.count(b"}")
                super().dataReceived(data)
                client.received = client.received[-100:]

        def pieces() -> Iterator[bytes]:
            yield head()
            yield from chunks
            yield chunk(b"")

        client = await self.connect(Counting())
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        Source(client, pieces())
        await client.until(LAST)
        return tracemalloc.get_traced_memory()[1]

    async def test_who_does_not_read_is_not_read_from(self) -> None:
        """Whatever the client sends: short lines, whose results are much longer, and no end."""

        def pieces() -> Iterator[bytes]:
            yield head()
            while True:
                yield chunk(b"x\n" * 8192)

        sizes: list[int] = []
        received = Upload.received

        def measured(upload: Upload, data: bytes) -> None:
            received(upload, data)
            sizes.append(upload._size)

        self.patch(Upload, "received", measured)
        client = await self.connect()
        transport: Any = client.transport
        transport.pauseProducing()
        await self.until_it_is_not_read(Source(client, pieces()))
        transport.resumeProducing()
        await client.until(b"error")
        seen = 0
        while seen < 10 * MEGABYTE:  # the client reads from time to time
            await deferLater(reactor, 0)  # type: ignore[arg-type]
            seen += len(client.received)
            client.received = client.received[-100:]
        self.assertLess(max(sizes), MEGABYTE // 2)

    async def until_it_is_not_read(self, source: Source) -> None:
        """Returns when nothing moves any more."""
        taken = -1
        while taken < source.taken:
            taken = source.taken
            for _ in range(200):
                await deferLater(reactor, 0)  # type: ignore[arg-type]

    async def test_while_the_database_is_slow_nothing_is_read(self) -> None:
        release = self.database_is_locked()
        sizes: list[int] = []
        received = Upload.received

        def measured(upload: Upload, data: bytes) -> None:
            received(upload, data)
            sizes.append(upload._size)

        self.patch(Upload, "received", measured)
        client = await self.connect()
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            yield head()
            while not released:
                yield chunk(json.dumps(domain(f"d{sent}.example")).encode() + b" " * 4000 + b"\n")
                sent += 1
            yield chunk(b"")

        released = False
        await self.until_it_is_not_read(Source(client, pieces()))
        self.assertLess(max(sizes), MEGABYTE // 2)
        released = True
        release()
        await client.until(LAST)
        self.assertEqual(sent, len(self.results(client)))
        self.assertEqual(sent, len(await self.node.store.browse(limit=100_000)))


class EndsTests(StreamTestCase):
    def sends(self, client: RawClient, first: int, count: int) -> None:
        client.send(chunk(body_of(domain(f"d{number}.example") for number in range(first, first + count))))

    async def test_a_client_that_leaves_ends_the_work_after_the_batch(self) -> None:
        release = self.database_is_locked()
        lost = self.after(AdminRequest, "connectionLost")
        batches: list[Deferred[Any]] = []
        insert_many = self.node.service.insert_many

        def counted(entries: Any) -> Deferred[Any]:
            batches.append(Deferred.fromCoroutine(insert_many(entries)))
            done: Deferred[None] = Deferred()
            batches[-1].chainDeferred(done)
            return done

        self.patch(self.node.service, "insert_many", counted)
        client = await self.connect()
        client.send(head())
        self.sends(client, 0, 3 * BATCH_LINES)
        await self.until_locked()
        transport: Any = client.transport
        transport.abortConnection()
        await lost
        release()
        await batches[0]
        # a next batch would have begun in the meantime
        self.assertEqual(1, len(batches))
        self.assertEqual(BATCH_LINES, len(await self.node.store.browse(limit=10_000)))
        self.assertEqual(BATCH_LINES, len(self.node.table) - 1)

    async def until_locked(self) -> None:
        """Returns when a statement waits for a lock."""
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not await self.db.query(query):
            pass

    async def test_the_database_goes_away_in_the_middle(self) -> None:
        client = await self.connect()
        client.send(head())
        self.sends(client, 0, 3)
        await client.until(b"d2.example")
        await self.db.stop()
        lines = body_of([domain("x.example"), b"nonsense", domain("y.example"), domain("z.example", "gold")])
        client.send(chunk(lines) + chunk(b""))
        await client.ended
        self.assertNotIn(LAST, client.received)
        error, name = "error", "domain"
        self.assertEqual(
            [
                {name: "x.example", "result": error, error: "database error"},
                {name: None, "result": error, error: "failed to parse JSON"},
                {name: "y.example", "result": error, error: "database error"},
                {name: "z.example", "result": error, error: "database error"},
            ],
            self.results(client)[3:],
        )
        self.assertEqual(1, len(self.flushLoggedErrors()))

    async def test_the_database_is_away_from_the_beginning(self) -> None:
        await self.db.stop()
        for path, body in (("/api/domains", b'{"what": "database error"}'), ("/six/domains", b"")):
            status, _, content = await self.exchange(body_of([domain("a.example")]), path, "application/jsonl")
            self.assertEqual((500, body), (status, content))

    async def test_a_body_that_is_broken(self) -> None:
        client = await self.connect()
        client.send(head())
        self.sends(client, 0, 2)
        await client.until(b"d1.example")
        client.send(b"no chunk\r\n")
        await client.ended
        self.assertFalse(client.received.endswith(LAST))
        self.assertEqual(2, len(await self.node.store.browse()))

    async def test_a_refusal_does_not_wait_for_the_body(self) -> None:
        client = await self.connect()
        client.send(head("/api-auth/domains"))
        self.sends(client, 0, 1)
        await client.until(b'{"what": "basic auth is required"}')
        self.assertIn(b"\r\nConnection: close\r\n", client.received)
        self.sends(client, 1, 10)
        client.send(chunk(b""))
        self.assertIs(ConnectionDone, await client.ended)
        self.assertEqual([], await self.node.store.browse())


class IdleTests(StreamTestCase):
    def listen(self, places: Any) -> int:
        """A site whose time stands still."""
        self.idle = Clock()
        site: Any = AdminSite(places, clock=self.idle)
        listening: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    async def test_who_sends_nothing_is_let_go(self) -> None:
        client = await self.connect()
        client.send(head() + chunk(body_of([domain("a.example")])))
        await client.until(b"created")
        self.idle.advance(61)
        await client.ended
        self.assertNotIn(LAST, client.received)

    async def test_our_own_work_takes_what_it_takes(self) -> None:
        release = self.database_is_locked()
        client = await self.connect()
        taken = self.after(Upload, "received")
        client.send(head() + chunk(body_of([domain("a.example")])))
        await taken
        self.idle.advance(3600)
        release()
        await client.until(b"created")
        client.send(chunk(b""))
        await client.until(LAST)

    async def test_and_afterwards_time_counts_again(self) -> None:
        client = await self.connect()
        body = body_of([domain("a.example")])
        client.send(head("/api/domains", b"Content-Length: %d" % len(body)) + body)
        await client.until(LAST)
        self.idle.advance(61)
        await client.ended
