"""How fast a stream is read and written: slow readers, shapers, pauses, the outbox."""

from twisted.trial.unittest import TestCase

from dynxmpp.c2s.outbox import Outbox
from dynxmpp.config.acl import AccessClause, AclPattern
from dynxmpp.config.shaper import Shaper
from dynxmpp.wire.errors import StreamError
from tests.fixtures.c2s import NOTHING, TRANSPORT_BUFFER, C2SServer, Client, bind, plain

LIMIT = 200_000
BODY = "x" * 10_000
BIG = f"<message to='ann@a.example/phone'><body>{BODY}</body></message>"


class SlowReader(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.server = C2SServer(max_send_queue=LIMIT)
        self.ann = await self.server.logged_in("ann@a.example/phone")
        self.bob = await self.server.logged_in("bob@a.example/x")
        self.ann.received()

    async def test_is_cut(self) -> None:
        self.ann.transport.peer_reads = False
        for _ in range((LIMIT + TRANSPORT_BUFFER) // len(BIG) - 2):
            self.bob.sends(BIG)
        self.assertTrue(self.ann.transport.connected)
        for _ in range(4):
            self.bob.sends(BIG)
        self.assertFalse(self.ann.transport.connected)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.assertTrue(self.bob.is_open)
        self.assertEqual((1, {}, 1, 1), self.server.balance)

    async def test_what_one_read_brings_counts_as_a_whole(self) -> None:
        self.ann.transport.peer_reads = False
        self.bob.sends(BIG * 7)
        self.assertTrue(self.ann.transport.connected)
        self.bob.sends(BIG * 40)
        self.assertFalse(self.ann.transport.connected)
        self.assertEqual((1, {}, 1, 1), self.server.balance)

    async def test_who_catches_up_loses_nothing(self) -> None:
        sent = 0
        for _ in range(5):
            self.ann.transport.peer_reads = False
            for _ in range(15):
                self.bob.sends(BIG.replace("<message", f"<message id='{sent}'"))
                sent += 1
            self.ann.transport.peer_reads = True
            self.ann.transport.drain()
        self.assertEqual([str(n) for n in range(sent)], [m["id"] for m in self.ann.received()])
        self.assertTrue(self.ann.is_open)

    async def test_who_is_always_a_little_behind_is_not_cut(self) -> None:
        """Only what waits counts, not what has been taken since the client fell behind."""
        self.ann.transport.peer_reads = False
        for _ in range(12):
            self.bob.sends(BIG)
        for _ in range(100):
            self.bob.sends(BIG)
            self.ann.transport.drain(len(BIG) + 40)
        self.assertTrue(self.ann.is_open)
        self.ann.transport.peer_reads = True
        self.ann.transport.drain()
        self.assertEqual(112, len(self.ann.received()))

    async def test_what_waits_is_bounded(self) -> None:
        self.ann.transport.peer_reads = False
        while self.ann.transport.connected and not self.ann.stream.ended:
            self.assertLess(self.ann.transport.waiting, TRANSPORT_BUFFER + LIMIT)
            self.bob.sends(BIG)

    async def test_its_end_comes_after_all_that_waits(self) -> None:
        self.ann.transport.peer_reads = False
        for _ in range(15):
            self.bob.sends(BIG)
        self.ann.sends("</stream:stream>")
        self.ann.transport.peer_reads = True
        self.ann.transport.drain()
        self.assertEqual(15, len(self.ann.received()))
        self.assertTrue(self.ann.closed)
        self.server.clock.advance(0)
        self.assertFalse(self.ann.transport.connected)

    async def test_before_binding_too(self) -> None:
        """Nobody can make the server keep answers without end, whoever they are."""
        client = self.server.connects()
        client.authenticated()
        client.transport.peer_reads = False
        for _ in range(40):
            client.sends(bind("x" * 10_000))
        self.assertFalse(client.transport.connected)
        self.assertEqual((2, {}, 2, 2), self.server.balance)


class SlowedDown(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.server = C2SServer()
        self.ann = await self.server.logged_in("ann@a.example/phone")
        self.session = self.server.sessions.of("ann@a.example")[0]

    async def test_counts(self) -> None:
        before = self.ann.transport.pauses
        self.session.slow_down(True)
        self.session.slow_down(True)
        self.assertFalse(self.ann.transport.reading)
        self.session.slow_down(False)
        self.assertFalse(self.ann.transport.reading)
        self.session.slow_down(False)
        self.assertTrue(self.ann.transport.reading)
        self.assertEqual(1, self.ann.transport.pauses - before)

    async def test_what_is_sent_meanwhile_waits(self) -> None:
        self.session.slow_down(True)
        self.ann.sends("<message to='ann@a.example/phone' id='1'/>")
        self.assertEqual([], self.ann.received())
        self.session.slow_down(False)
        self.server.clock.advance(0)
        self.assertEqual("1", self.ann.receives("message")["id"])

    async def test_after_the_end(self) -> None:
        self.session.slow_down(True)
        self.ann.loses()
        self.session.slow_down(False)
        self.session.slow_down(True)
        self.session.slow_down(False)
        self.assertEqual(NOTHING, self.server.balance)

    async def test_the_end_of_a_stream_that_is_not_read_from(self) -> None:
        """Over TLS the peer's half of the goodbye must be read, or the connection stays open."""
        resumed = []
        self.patch(self.ann.transport, "resumeProducing", lambda: resumed.append(self.ann.transport.disconnecting))
        self.session.slow_down(True)
        self.server.factory.end_all(StreamError("system-shutdown"))
        self.assertEqual([False], resumed)
        self.assertEqual("system-shutdown", self.ann.stream_error())


class Shaped(TestCase):
    """1000 bytes a second for all but admins; the bucket holds 1000."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = C2SServer(
            shaper="c2s_shaper",
            shapers={"normal": Shaper(max_rate=1000)},
            acl={"admin": (AclPattern(user="bob"),)},
            rules={"c2s_shaper": (AccessClause(acl="admin", value="none"), AccessClause(acl="all", value="normal"))},
        )
        self.ann = await self.server.logged_in("ann@a.example/phone")
        self.bob = await self.server.logged_in("bob@a.example/x")

    def message(self, id_: int, size: int) -> str:
        frame = f"<message to='bob@a.example/x' id='{id_}'><body></body></message>"
        return frame.replace("<body>", "<body>" + "x" * (size - len(frame)))

    async def test_reading_stops_for_as_long_as_it_takes(self) -> None:
        self.ann.sends(self.message(1, 3000))
        self.assertEqual("1", self.bob.receives("message")["id"])
        self.assertFalse(self.ann.transport.reading)
        self.server.clock.advance(1.99)
        self.assertFalse(self.ann.transport.reading)
        self.server.clock.advance(0.02)
        self.assertTrue(self.ann.transport.reading)

    async def test_what_fits_is_not_slowed(self) -> None:
        for number in range(10):
            self.ann.sends(self.message(number, 900))
            self.assertTrue(self.ann.transport.reading)
            self.server.clock.advance(0.9)

    async def test_nothing_is_lost(self) -> None:
        for number in range(20):
            self.ann.sends(self.message(number, 700))
        early = self.bob.received()
        self.assertLess(len(early), 5)
        self.server.clock.pump([0.1] * 200)
        self.assertEqual([str(n) for n in range(20)], [m["id"] for m in early + self.bob.received()])

    async def test_more_that_comes_while_it_does_not_read(self) -> None:
        """A TLS layer hands on all that it has decrypted, paused or not."""
        for number in range(3):
            self.ann.stream.dataReceived(self.message(number, 2000).encode())
        self.assertEqual(3, len(self.bob.received()))
        self.server.clock.advance(4.9)
        self.assertFalse(self.ann.transport.reading)
        self.server.clock.advance(0.2)
        self.assertTrue(self.ann.transport.reading)
        self.assertEqual([], self.server.clock.getDelayedCalls())

    async def test_not_before_binding(self) -> None:
        client = self.server.connects()
        client.sends(" " * 5000)
        self.assertTrue(client.transport.reading)

    async def test_some_are_not_shaped(self) -> None:
        self.bob.sends(f"<message to='ann@a.example/phone'><body>{BODY}</body></message>")
        self.assertTrue(self.bob.transport.reading)

    async def test_two_reasons_to_pause(self) -> None:
        session = self.server.sessions.of("ann@a.example")[0]
        session.slow_down(True)
        self.ann.stream.dataReceived(self.message(1, 2000).encode())
        self.server.clock.advance(5)
        self.assertFalse(self.ann.transport.reading)
        session.slow_down(False)
        self.assertTrue(self.ann.transport.reading)

    async def test_an_end_meanwhile_leaves_nothing_on_the_clock(self) -> None:
        self.ann.sends(self.message(1, 100_000))
        self.ann.loses()
        self.bob.loses()
        self.assertEqual([], self.server.clock.getDelayedCalls())
        self.assertEqual(NOTHING, self.server.balance)


class GatheredWrites(TestCase):
    """What one read makes the server write goes out once a stream."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = C2SServer(max_send_queue=LIMIT)
        self.ann = await self.server.logged_in("ann@a.example/phone")
        self.bob = await self.server.logged_in("bob@a.example/x")

    def written(self, client: Client) -> list[bytes]:
        """What is handed to the transport from now on."""
        pieces: list[bytes] = []
        write = client.transport.write

        def wrapped(data: bytes) -> None:
            pieces.append(data)
            write(data)

        client.transport.write = wrapped  # type: ignore[method-assign]
        return pieces

    async def test_one_piece_a_stream(self) -> None:
        to_ann, to_bob = self.written(self.ann), self.written(self.bob)
        self.bob.sends("<message to='ann@a.example/phone'/><message to='bob@a.example/x'/>" * 3)
        self.assertEqual((1, 1), (len(to_ann), len(to_bob)))
        self.assertEqual((3, 3), (len(self.ann.received()), len(self.bob.received())))

    async def test_what_is_written_while_it_goes_out_comes_behind(self) -> None:
        """Somebody who is cut at that moment makes the server write to others, who have not got their part yet."""
        for client in (self.bob, self.ann):
            client.received()
        carl = await self.server.logged_in("ann@a.example/cut")
        carl.transport.peer_reads = False
        observer = self.server.observer()

        def tell(session: object) -> None:
            target = self.server.sessions.of("bob@a.example")[0]
            target.stream.write(b"<presence type='unavailable'/>")  # type: ignore[attr-defined]

        self.patch(observer, "session_ended", tell)
        cut = BIG.replace("/phone", "/cut")
        self.bob.sends(cut * 7)
        self.bob.sends(f"{cut * 40}<message to='bob@a.example/x' id='before'/>")
        self.assertEqual(["message", "presence"], [e.name for e in self.bob.received()])

    async def test_after_the_read_it_is_over(self) -> None:
        self.bob.sends("<x/>")
        self.assertFalse(self.server.context.outbox.gathering)
        pieces = self.written(self.ann)
        self.server.sessions.of("ann@a.example")[0].stream.write(b" ")  # type: ignore[attr-defined]
        self.assertEqual([b" "], pieces)

    async def test_a_bug_does_not_keep_it_gathering(self) -> None:
        def bug(stanza: object) -> None:
            raise ZeroDivisionError

        self.bob.stream.take_over(bug)
        self.bob.sends("<message/>")
        self.assertEqual("internal-server-error", self.bob.stream_error())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(self.server.context.outbox.gathering)
        self.assertTrue(self.ann.is_open)

    def test_reads_within_reads(self) -> None:
        outbox = Outbox()
        self.assertTrue(outbox.begin())
        self.assertFalse(outbox.begin())
        outbox.end()
        self.assertTrue(outbox.begin())


class Transport(TestCase):
    def test_small_stanzas_leave_at_once(self) -> None:
        client = C2SServer().connects()
        self.assertEqual({"nodelay", "keepalive"}, set(client.transport.options))

    def test_pauses_survive_a_restart(self) -> None:
        server = C2SServer()
        client = server.connects()
        client.header()
        client.receives("features")
        client.stream.pause()
        client.stream.dataReceived(plain("ann").encode())
        self.assertFalse(client.transport.reading)
        client.stream.unpause()
        self.assertTrue(client.transport.reading)
