"""parse_stanza: stored bytes are one stanza, or an error."""

import gc
import weakref

from twisted.trial.unittest import TestCase

from dynxmpp.wire import parse
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stream import StanzaStream
from tests.wire.recording import canonical, one_stanza


class ParseStanza(TestCase):
    def test_what_was_printed(self) -> None:
        for text in (
            "<presence/>",
            "<message to='a>b' xml:lang='en'><body>&lt;\U0001f600</body><x xmlns='urn:a'/></message>",
            "<nonza xmlns='urn:a'><child xmlns=''/></nonza>",
        ):
            stanza = one_stanza(text)
            for data in (stanza.to_bytes(), stanza.to_bytes(embedded=True)):
                again = parse.parse_stanza(data)
                self.assertEqual(canonical(stanza), canonical(again))
                self.assertEqual((stanza.child_keys, stanza.to_bytes()), (again.child_keys, again.to_bytes()))

    def test_something_else(self) -> None:
        for data in (
            b"",
            b" ",
            b"text",
            b"<message",
            b"<message>",
            b"<message/><message/>",
            b"<message/><message",
            b"<message/>text",
            b"<message></presence>",
            b"</stream:stream>",
            b"<!-- a -->",
        ):
            self.assertRaises(StreamError, parse.parse_stanza, data)

    def test_nothing_is_left_to_the_collector(self) -> None:
        """An archive is read by the page: a cycle for each message would wait for the garbage collector."""
        made: list[weakref.ref[StanzaStream]] = []

        class Watched(StanzaStream):
            def __init__(self, *args: object) -> None:
                super().__init__(*args)  # type: ignore[arg-type]
                made.append(weakref.ref(self))

        self.patch(parse, "StanzaStream", Watched)
        gc.disable()
        try:
            parse.parse_stanza(b"<message><body>a</body></message>")
            self.assertEqual([None], [reference() for reference in made])
        finally:
            gc.enable()
