"""How long and how many: state_timeout, half-open connections, connections, and that nothing of them is left."""

import gc
import weakref

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.c2s.stream import CLOSE_TIMEOUT_S, C2SStream
from dynxmpp.wire.ns import NS_TLS
from tests.fixtures import c2s as fixture
from tests.fixtures.c2s import NOTHING, C2SServer, Client, bind, header, plain

STARTTLS = f"<starttls xmlns='{NS_TLS}'/>"


class StateTimeout(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer(state_timeout=5000)
        self.client = self.server.connects()

    def times_out(self, client: Client | None = None) -> None:
        """Just before the timeout the stream goes on, just after it is over."""
        client = client or self.client
        client.received()
        self.server.clock.advance(4.9)
        self.assertTrue(client.is_open)
        self.server.clock.advance(0.2)
        self.assertEqual("connection-timeout", client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)
        self.assertEqual([], self.server.clock.getDelayedCalls())

    def test_without_a_header(self) -> None:
        self.times_out()
        self.assertEqual("main.example", self.client.response["from"])

    def test_with_half_a_header(self) -> None:
        self.client.sends("<stream:stream xmlns='jabber:client'")
        self.times_out()

    def test_white_space_is_no_progress(self) -> None:
        self.server.clock.advance(4)
        self.client.sends(" ")
        self.server.clock.advance(1.1)
        self.assertEqual("connection-timeout", self.client.stream_error())

    def test_after_the_header(self) -> None:
        self.server.clock.advance(4)
        self.client.header()
        self.times_out()

    def test_after_starttls(self) -> None:
        self.server = C2SServer(state_timeout=5000, tls="starttls")
        client = self.server.connects()
        client.header()
        self.server.clock.advance(4)
        client.sends(STARTTLS)
        client.receives("features")
        client.receives("proceed")
        client._expect_header()
        self.times_out(client)

    def test_in_an_exchange(self) -> None:
        self.client.header()
        answer: Deferred[None] = Deferred()
        self.server.method.answer = answer
        self.server.clock.advance(4)
        self.client.sends(plain("ann"))
        self.times_out()
        answer.callback(None)
        self.assertEqual(NOTHING, self.server.balance)

    def test_after_a_failure(self) -> None:
        self.client.header()
        self.server.clock.advance(4)
        self.client.sends(plain("ann", "wrong"))
        self.times_out()

    def test_after_success(self) -> None:
        self.client.header()
        self.client.receives("features")
        self.server.clock.advance(4)
        self.client.authenticates("ann")
        self.client._expect_header()
        self.times_out()
        self.assertEqual("a.example", self.client.response["from"])

    def test_before_binding(self) -> None:
        self.client.authenticated()
        self.times_out()

    def test_a_refused_request_to_bind_is_no_progress(self) -> None:
        self.client.authenticated()
        self.server.clock.advance(4)
        self.client.sends(bind(id_=None))
        self.server.clock.advance(1.1)
        self.client.receives("iq")
        self.assertEqual("connection-timeout", self.client.stream_error())

    async def test_not_after_binding(self) -> None:
        await self.client.logs_in("ann@a.example/phone")
        self.assertEqual([], self.server.clock.getDelayedCalls())

    def test_none(self) -> None:
        for timeout in (0, float("inf")):
            server = C2SServer(state_timeout=timeout)
            server.connects()
            self.assertEqual([], server.clock.getDelayedCalls())

    def test_a_peer_that_does_not_close(self) -> None:
        self.client.transport.peer_reads = False
        self.client.sends("junk")
        self.server.clock.advance(CLOSE_TIMEOUT_S - 0.1)
        self.assertTrue(self.client.transport.connected)
        self.server.clock.advance(0.2)
        self.assertEqual(NOTHING, self.server.balance)
        self.assertEqual([], self.server.clock.getDelayedCalls())


class SlowBeforeTLS(TestCase):
    def test_what_waits_leaves_in_the_clear(self) -> None:
        self.patch(fixture, "TRANSPORT_BUFFER", 10)
        server = C2SServer(tls="starttls")
        client = server.connects()
        transport = client.transport
        transport.peer_reads = False
        clear: list[bytes] = []
        begins = transport.startTLS

        def start_tls(creator: object) -> None:
            clear.append(bytes(transport._buffer))
            begins(creator)

        self.patch(transport, "startTLS", start_tls)
        client.sends(header({"to": "a.example", "version": "1.0"}))
        client.sends(STARTTLS)
        self.assertEqual(1, len(clear))
        self.assertTrue(clear[0].endswith(f"<proceed xmlns='{NS_TLS}'/>".encode()))
        transport.peer_reads = True
        transport.drain()
        self.assertEqual(["features", "proceed"], [e.name for e in client.received()])
        client._expect_header()
        client.sends(header({"to": "a.example", "version": "1.0"}))
        client.receives("features")


class HalfOpen(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer(max_unauthenticated=2)

    def is_refused(self, address: str) -> bool:
        client = self.server.connects(address)
        if client.is_open:
            return False
        self.assertEqual("resource-constraint", client.stream_error())
        return True

    def test_one_address_has_so_many(self) -> None:
        self.assertFalse(self.is_refused("192.0.2.1"))
        self.assertFalse(self.is_refused("192.0.2.1"))
        self.assertTrue(self.is_refused("192.0.2.1"))
        self.assertFalse(self.is_refused("192.0.2.2"))
        self.assertEqual((3, {"192.0.2.1": 2, "192.0.2.2": 1}, 3, 0), self.server.balance)

    def test_authenticated_is_still_half_open(self) -> None:
        for _ in range(2):
            self.server.connects().authenticated()
        self.assertTrue(self.is_refused("192.0.2.1"))

    async def test_bound_is_not(self) -> None:
        for number in range(5):
            await self.server.logged_in(f"ann@a.example/{number}")
        self.assertEqual((5, {}, 5, 5), self.server.balance)

    def test_a_bind_that_is_refused_changes_nothing(self) -> None:
        client = self.server.connects()
        client.authenticated()
        client.sends(bind(id_=None))
        self.assertEqual({"192.0.2.1": 1}, self.server.context.half_open)

    def test_who_goes_makes_room(self) -> None:
        for _ in range(10):
            client = self.server.connects()
            self.assertFalse(self.is_refused("192.0.2.1"))
            client.loses()
            self.assertTrue(any(s.transport.connected for s in self.server.factory.streams))
            for stream in list(self.server.factory.streams):
                stream.close()
            self.server.clock.advance(0)
        self.assertEqual(NOTHING, self.server.balance)


class MaxConnections(TestCase):
    async def test_bound_ones_count(self) -> None:
        server = C2SServer(max_connections=2)
        first = await server.logged_in("ann@a.example/1")
        server.connects("192.0.2.2")
        third = server.connects("192.0.2.3")
        self.assertEqual("resource-constraint", third.stream_error())
        self.assertEqual(2, server.context.connections)
        first.loses()
        self.assertTrue(server.connects("192.0.2.3").is_open)


class Leftovers(TestCase):
    async def test_streams_that_have_come_and_gone(self) -> None:
        server = C2SServer()
        streams: weakref.WeakSet[C2SStream] = weakref.WeakSet()
        for number in range(100):
            client = server.connects(f"192.0.2.{number % 7}")
            streams.add(client.stream)
            if number % 5 == 1:
                client.header()
            elif number % 5 == 2:
                client.header("unknown.example")
            elif number % 5 == 3:
                client.authenticated()
            elif number % 5 == 4:
                await client.logs_in(f"ann@a.example/{number}")
                client.sends("<presence/>")
                if number % 10 == 4:
                    client.sends("</stream:stream>")
            if client.transport.connected:
                client.loses()
            del client
        self.assertEqual(NOTHING, server.balance)
        self.assertEqual([], server.clock.getDelayedCalls())
        gc.collect()
        self.assertEqual([], list(streams))
