"""EagerPort: what is written arrives, whole and in order, whatever the socket takes at a time."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dynxmpp.c2s.eager_port import EagerPort, EagerServer

_reactor: Any = reactor


class Speaker(Protocol):
    """The server's end; tells the test when it is connected and when it has lost."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.factory.connected.callback(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self.lost.callback(None)


class Listener(Protocol):
    """The client's end: collects, slowly if wanted."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.received = bytearray()
        self.complete: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= self.expected and not self.complete.called:
            self.complete.callback(bytes(self.received))

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - Twisted's signature
        self.gone.callback(None)


class Producer:
    """Counts what the transport asks of it."""

    def __init__(self) -> None:
        self.paused = 0
        self.resumed: Deferred[None] = Deferred()

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        if not self.resumed.called:
            self.resumed.callback(None)

    def stopProducing(self) -> None: ...


class Eager(TestCase):
    async def setUp(self) -> None:
        factory: Any = ServerFactory.forProtocol(Speaker)
        factory.noisy = False
        factory.connected = Deferred()
        port: Any = EagerPort(0, factory, 5, "127.0.0.1", _reactor)
        port.startListening()
        self.addCleanup(port.stopListening)
        self.factory, self.port = factory, port

    async def connect(self, expected: int) -> tuple[Any, Listener]:
        endpoint = HostnameEndpoint(_reactor, "127.0.0.1", self.port.getHost().port)
        listener = await connectProtocol(endpoint, Listener(expected))

        async def close() -> None:
            listener.transport.loseConnection()  # type: ignore[union-attr]
            if not listener.gone.called:
                await listener.gone
            if not speaker.lost.called:
                await speaker.lost

        speaker = await self.factory.connected
        self.addCleanup(close)
        return speaker, listener

    async def test_a_small_write_needs_no_turn_of_the_reactor(self) -> None:
        speaker, listener = await self.connect(5)
        self.assertIsInstance(speaker.transport, EagerServer)
        asked = []
        self.patch(speaker.transport, "startWriting", lambda: asked.append(True))
        speaker.transport.write(b"hello")
        self.assertEqual([], asked)
        self.assertEqual(b"hello", await listener.complete)

    async def test_more_than_the_socket_takes_arrives_whole_and_in_order(self) -> None:
        pieces = [bytes([number % 251]) * (number * 977 % 70_000) for number in range(300)]
        whole = b"".join(pieces)
        speaker, listener = await self.connect(len(whole))
        listener.transport.pauseProducing()  # type: ignore[union-attr]
        for piece in pieces:
            speaker.transport.write(piece)
        listener.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(whole, await listener.complete)

    async def test_what_is_queued_goes_before_the_last_words(self) -> None:
        speaker, listener = await self.connect(3_000_007)
        speaker.transport.write(b"x" * 3_000_000)
        speaker.transport.write(b"the end")
        speaker.transport.loseConnection()
        self.assertTrue((await listener.complete).endswith(b"xthe end"))

    async def test_a_producer_is_asked_to_pause_and_to_go_on(self) -> None:
        speaker, listener = await self.connect(20_000_000)
        listener.transport.pauseProducing()  # type: ignore[union-attr]
        producer = Producer()
        speaker.transport.registerProducer(producer, True)
        speaker.transport.write(b"x" * 20_000_000)
        self.assertEqual(1, producer.paused)
        listener.transport.resumeProducing()  # type: ignore[union-attr]
        await listener.complete
        await producer.resumed
        speaker.transport.unregisterProducer()

    async def test_writing_to_a_peer_that_has_gone_is_a_lost_connection(self) -> None:
        speaker, listener = await self.connect(1)
        listener.transport.abortConnection()  # type: ignore[union-attr]
        await listener.gone
        while not speaker.lost.called:
            speaker.transport.write(b"x" * 65536)
            speaker.transport.write(b"")
            turn: Deferred[None] = Deferred()
            _reactor.callLater(0, turn.callback, None)
            await turn
        speaker.transport.write(b"after the end")

    async def test_only_bytes(self) -> None:
        speaker, _ = await self.connect(1)
        self.assertRaises(TypeError, speaker.transport.write, "text")
