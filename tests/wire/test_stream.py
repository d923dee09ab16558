"""The order of things: one by one, suspended, closed, with handlers that fail, and under a new parser."""

import tracemalloc
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from twisted.trial.unittest import TestCase

from dynxmpp.wire import stream as stream_module
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StreamLimits
from tests.wire.recording import HEADER, Recorder, canonical, domish_child, each_byte, pieces_of


class HandlerFailed(Exception):
    """What a handler raises here."""


class Acting(Recorder):
    """Does what `on` says when a stanza of that name comes, after writing it down."""

    def __init__(self, **on: Callable[["Acting"], object]) -> None:
        super().__init__()
        self.on = on

    def element(self, stanza: Stanza) -> None:
        super().element(stanza)
        if stanza.name in self.on:
            self.on[stanza.name](self)


def fail(acting: Acting) -> None:
    raise HandlerFailed


class Splits(TestCase):
    def test_a_start_tag_in_two_pieces(self) -> None:
        """No waiting for what comes next, although newer expat would like to."""
        for stanza in (
            b"<presence to='%b'/>" % (b"a" * 200),
            b"<presence to='a>b' id=\"'>\"/>",
            b"<iq><q a='>'/></iq>",
        ):
            for cut in range(1, len(stanza)):
                recorder = Recorder()
                recorder.feed(HEADER, stanza[:cut])
                self.assertEqual(["start"], recorder.events)
                recorder.feed(stanza[cut:])
                self.assertEqual(2, len(recorder.events), stanza[:cut])
                expected = canonical(domish_child(stanza))
                self.assertEqual(expected, canonical(recorder.events[1]))

    def test_a_long_start_tag_in_small_pieces(self) -> None:
        recorder = Recorder()
        recorder.feed(HEADER)
        recorder.feed(*pieces_of(b"<presence to='%b'/>" % (b"a>" * 5000), 7))
        self.assertEqual(["a>" * 5000], [stanza["to"] for stanza in recorder.stanzas])

    def test_the_header(self) -> None:
        recorder = Recorder()
        for byte in each_byte(b"<?xml version='1.0'?>\n<stream xml:lang='>' xmlns='urn:a'"):
            recorder.feed(byte)
            self.assertEqual([], recorder.events)
        recorder.feed(b">")
        self.assertEqual(["start"], recorder.events)
        self.assertEqual(("urn:a", "stream"), (recorder.root.uri, recorder.root.name))

    def test_empty_stream(self) -> None:
        for data in (b"<stream/>", b"<stream></stream>", b"<stream \n/> \n"):
            for pieces in ([data], each_byte(data)):
                recorder = Recorder()
                self.assertIsNone(recorder.feed(*pieces))
                self.assertEqual(["start", "end"], recorder.events)


class Waiting(TestCase):
    """suspend(), resume(), close(), has_unread."""

    def test_suspended_in_a_handler(self) -> None:
        acting = Acting(a=lambda acting: acting.stream.suspend())
        acting.feed(HEADER + b"<a/><b/><a/><c/>")
        self.assertEqual(["start", "a"], acting.names)
        acting.feed(b"<d/>")
        self.assertEqual(["start", "a"], acting.names)
        self.assertTrue(acting.stream.has_unread)
        acting.stream.resume()
        self.assertEqual(["start", "a", "b", "a"], acting.names)
        acting.stream.resume()
        self.assertEqual(["start", "a", "b", "a", "c", "d"], acting.names)
        self.assertFalse(acting.stream.has_unread)
        acting.feed(b"<e/>")
        self.assertEqual("e", acting.names[-1])

    def test_suspended_from_the_start(self) -> None:
        recorder = Recorder()
        recorder.stream.suspend()
        recorder.feed(*each_byte(HEADER + b"<a/><b/></stream:stream>"))
        self.assertEqual([], recorder.events)
        recorder.stream.resume()
        self.assertEqual(["start", "a", "b", "end"], recorder.names)

    def test_suspended_in_the_handler_of_the_header(self) -> None:
        recorder = Recorder()
        recorder.stream.DocumentStartEvent = lambda root: recorder.stream.suspend()
        recorder.feed(HEADER + b"<a/>")
        self.assertEqual([], recorder.events)
        recorder.stream.resume()
        self.assertEqual(["a"], recorder.names)

    def test_resumed_in_a_handler(self) -> None:
        """The loop that called the handler goes on: no handler is called inside of another one."""
        depths = []

        def a(acting: Acting) -> None:
            acting.stream.suspend()
            acting.stream.resume()
            depths.append(len(acting.events))

        acting = Acting(a=a)
        acting.feed(HEADER + b"<a/><b/><a/><c/>")
        self.assertEqual(["start", "a", "b", "a", "c"], acting.names)
        self.assertEqual([2, 4], depths)

    def test_more_bytes_in_a_handler(self) -> None:
        acting = Acting(a=lambda acting: acting.stream.parse(b"<c/>"))
        acting.feed(HEADER + b"<a/><b/>")
        self.assertEqual(["start", "a", "b", "c"], acting.names)

    def test_an_error_waits_its_turn(self) -> None:
        for bad, condition in ((b"<c></d>", "not-well-formed"), (b"hello", "bad-format")):
            for pieces in ([b"<a/><b/>" + bad], [b"<a/><b/>", bad], each_byte(b"<a/><b/>" + bad)):
                acting = Acting(a=lambda acting: acting.stream.suspend())
                self.assertIsNone(acting.feed(HEADER, *pieces, b"<d/>"))
                self.assertTrue(acting.stream.has_unread)
                error = self.assertRaises(StreamError, acting.stream.resume)
                self.assertEqual((condition, ["start", "a", "b"]), (error.condition, acting.names))
                acting.stream.resume()
                self.assertEqual(["start", "a", "b"], acting.names)

    def test_closed_in_a_handler(self) -> None:
        for rest in (b"<c/>", b"</stream:stream>", b"<c></d>", b"hello", b"<c"):
            acting = Acting(a=lambda acting: acting.stream.close())
            self.assertIsNone(acting.feed(HEADER + b"<a/><b/>" + rest, b"<e/>"))
            acting.stream.resume()
            self.assertEqual(["start", "a"], acting.names)

    def test_closed_while_suspended(self) -> None:
        acting = Acting(a=lambda acting: acting.stream.suspend())
        acting.feed(HEADER + b"<a/><b/>")
        acting.stream.close()
        acting.stream.resume()
        self.assertIsNone(acting.feed(b"<c/>"))
        self.assertEqual(["start", "a"], acting.names)

    def test_closed_twice(self) -> None:
        recorder = Recorder()
        recorder.feed(HEADER)
        recorder.stream.close()
        recorder.stream.close()
        self.assertEqual(["start"], recorder.events)

    def test_unread(self) -> None:
        """As the handler of <starttls/> asks: anything that came along with it, complete or not, right or wrong."""
        for rest, unread in (
            (b"", False),
            (b" \r\n", False),
            (b"<", True),
            (b"<auth", True),
            (b"<auth/>", True),
            (b"<auth>", True),
            (b"<auth>x", True),
            (b"<?xml version='1.0'?>", True),
            (b"<!-- > ", True),
            (b"x", True),
            (b"</stream:stream>", True),
            (b"</auth>", True),
        ):
            seen: list[bool] = []
            acting = Acting(starttls=lambda acting, seen=seen: seen.append(acting.stream.has_unread))  # type: ignore[misc]
            acting.feed(HEADER + b"<starttls/>" + rest)
            self.assertEqual([unread], seen, rest)


class FailingHandlers(TestCase):
    """A handler's exception comes out at once; the stream is what it was, and nothing is lost."""

    def test_the_rest_follows_on_resume(self) -> None:
        acting = Acting(a=fail)
        with self.assertRaises(HandlerFailed):
            acting.stream.parse(HEADER + b"<a/><b/><a/><c/>")
        self.assertEqual(["start", "a"], acting.names)
        self.assertTrue(acting.stream.has_unread)
        self.assertRaises(HandlerFailed, acting.stream.resume)
        self.assertEqual(["start", "a", "b", "a"], acting.names)
        acting.stream.resume()
        self.assertEqual(["start", "a", "b", "a", "c"], acting.names)

    def test_the_rest_follows_with_the_next_bytes(self) -> None:
        for cut in range(1, len(b"<a/><b/><message>x</message><c/>")):
            acting = Acting(a=fail)
            data = b"<a/><b/><message>x</message><c/>"
            caught = 0
            for piece in (HEADER, data[:cut], data[cut:], b"\n"):
                try:
                    acting.stream.parse(piece)
                except HandlerFailed:
                    caught += 1
            self.assertEqual(1, caught)
            self.assertEqual(["start", "a", "b", "message", "c"], acting.names)
            self.assertEqual(b"<message>x</message>", acting.stanzas[2].to_bytes())

    def test_an_error_of_the_stream_is_not_lost(self) -> None:
        for bad in (b"<c></d>", b"hello", b"<!-- > "):
            acting = Acting(a=fail)
            with self.assertRaises(HandlerFailed):
                acting.stream.parse(HEADER + b"<a/><b/>" + bad)
            self.assertRaises(StreamError, acting.stream.parse, b"<e/>")
            self.assertEqual(["start", "a", "b"], acting.names)

    def test_the_end_is_not_lost(self) -> None:
        acting = Acting(a=fail)
        with self.assertRaises(HandlerFailed):
            acting.stream.parse(HEADER + b"<a/></stream:stream>")
        acting.stream.resume()
        self.assertEqual(["start", "a", "end"], acting.names)

    def test_bounds_hold(self) -> None:
        acting = Acting(a=fail)
        with self.assertRaises(HandlerFailed):
            acting.stream.parse(HEADER + b"<a/><b>" + b"x" * acting.stream.limits.max_stanza_size)
        error = self.assertRaises(StreamError, acting.stream.resume)
        self.assertEqual("policy-violation", error.condition)


class CountingParser:
    """expat's parser, with the bytes counted that parsers were fed."""

    fed = 0
    made = 0

    def __init__(self, parser: Any) -> None:
        self.__dict__["parser"] = parser
        CountingParser.made += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.parser, name, value)

    def Parse(self, data: bytes, final: bool) -> None:
        CountingParser.fed += len(data)
        self.parser.Parse(data, final)


class Renewal(TestCase):
    """A parser is replaced after RENEW_AFTER bytes, and nobody notices."""

    header = (
        b"<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:x='urn:x'"
        b" to='a>b'\txml:lang='de'>"
    )

    def setUp(self) -> None:
        create = expat.ParserCreate
        CountingParser.fed = CountingParser.made = 0
        self.patch(expat, "ParserCreate", lambda *args: CountingParser(create(*args)))

    def test_sequence(self) -> None:
        self.patch(stream_module, "RENEW_AFTER", 1000)
        stanza = "<message id='%d' x:y='>'><x:z xmlns:y='urn:y'><y:b/></x:z><body>%d</body></message>"
        texts = [stanza % (n, n) for n in range(300)]
        data = "\n".join(texts).encode()
        for size in (1, 13, 50, 85, 86, 1000, len(data)):
            CountingParser.made = 0
            recorder = Recorder()
            self.assertIsNone(recorder.feed(self.header, *pieces_of(data, size)))
            self.assertEqual([str(n) for n in range(300)], [s["id"] for s in recorder.stanzas])
            for text, received in zip(texts, recorder.stanzas, strict=True):
                expected = canonical(domish_child(text.encode(), self.header))
                self.assertEqual(expected, canonical(domish_child(received.to_bytes())))
            if size <= 1000:
                self.assertGreater(CountingParser.made, len(data) // 2500)
            self.assertIsNone(recorder.feed(b"</s:stream>"))
            self.assertEqual("end", recorder.events[-1])

    def test_default_amount(self) -> None:
        recorder = Recorder()
        recorder.feed(self.header)
        first = recorder.stream._parser
        recorder.feed(*[b"<message>%b</message>" % (b"x" * 1000)] * 400)
        self.assertIs(first, recorder.stream._parser)
        recorder.feed(*[b"<message>%b</message>" % (b"x" * 1000)] * 200)
        self.assertIsNot(first, recorder.stream._parser)
        self.assertEqual(600, len(recorder.stanzas))

    def test_never_between_two_stanzas(self) -> None:
        """Each read ends inside of a stanza; still no parser lives for ever, and little is read twice."""
        self.patch(stream_module, "RENEW_AFTER", 10_000)
        recorder = Recorder()
        recorder.feed(self.header, b"<message><x:a>")
        recorder.feed(*[b"1</x:a></message><message><x:a>"] * 10_000)
        sent = 10_000 * 31
        self.assertEqual(10_000, len(recorder.stanzas))
        self.assertEqual({b"<x:a>1</x:a>"}, {stanza.inner() for stanza in recorder.stanzas})
        self.assertTrue(sent // 10_500 <= CountingParser.made <= sent // 10_000 + 1, CountingParser.made)
        self.assertLess(CountingParser.fed, 1.05 * sent)

    def test_one_stanza_longer_than_that(self) -> None:
        """It is read again when it has doubled, not with each piece."""
        self.patch(stream_module, "RENEW_AFTER", 1000)
        recorder = Recorder(StreamLimits(max_stanza_size=1_000_000))
        recorder.feed(self.header, b"<message>", *[b"<x:a b='1'/>"] * 5000, b"</message><b/>")
        self.assertEqual(["start", "message", "b"], recorder.names)
        self.assertEqual(b"<x:a b='1'/>" * 5000, recorder.stanzas[0].inner())
        self.assertLess(CountingParser.fed, 4 * 12 * 5000)

    def test_a_long_declaration(self) -> None:
        """Before the header there is nothing to begin with again."""
        self.patch(stream_module, "RENEW_AFTER", 10)
        recorder = Recorder()
        self.assertIsNone(
            recorder.feed(*each_byte(b"<?xml version='1.0' encoding='utf-8' ?>\n" + self.header + b"<a/>"))
        )
        self.assertEqual(["start", "a"], recorder.names)


class Memory(TestCase):
    def test_names_are_forgotten(self) -> None:
        """200,000 element names that were never seen before: expat would keep each of them."""
        recorder = Recorder()
        recorder.stream.ElementEvent = lambda stanza: None

        recorder.feed(HEADER)
        tracemalloc.start()
        try:
            for number in range(0, 200_000, 20):
                names = b"".join(b"<n%d/>" % n for n in range(number, number + 20))
                recorder.feed(b"<message>%b</message>" % names)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # It is 4 MB, and would be 14.
        self.assertLess(most, 7_000_000)

    def test_an_ended_stream_keeps_nothing(self) -> None:
        for end in (b"</stream:stream>", b"hello"):
            recorder = Recorder()
            recorder.feed(HEADER + b"<message>", b"x" * 1000, b"</message>", end)
            self.assertIsNone(recorder.stream._parser)
            self.assertEqual((b"", b""), (recorder.stream._buffer, bytes(recorder.stream._gate.held)))
