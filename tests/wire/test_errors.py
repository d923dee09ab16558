"""Stream errors on the wire (RFC 6120 4.9), and which exception is which stanza error (RFC 6120 8.3.3)."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.wire.errors import StanzaError, StreamError, Unavailable, stanza_error
from dynxmpp.wire.ns import NS_STANZA_ERRORS, NS_STREAM_ERRORS, NS_STREAMS
from tests.wire.recording import canonical, domish_child

#: RFC 6120 4.9.3.
CONDITIONS = [
    "bad-format",
    "bad-namespace-prefix",
    "conflict",
    "connection-timeout",
    "host-gone",
    "host-unknown",
    "improper-addressing",
    "internal-server-error",
    "invalid-from",
    "invalid-namespace",
    "invalid-xml",
    "not-authorized",
    "not-well-formed",
    "policy-violation",
    "remote-connection-failed",
    "reset",
    "resource-constraint",
    "restricted-xml",
    "see-other-host",
    "system-shutdown",
    "undefined-condition",
    "unsupported-encoding",
    "unsupported-feature",
    "unsupported-stanza-type",
    "unsupported-version",
]
LANG = ("http://www.w3.org/XML/1998/namespace", "lang")


class StreamErrors(TestCase):
    def test_without_text(self) -> None:
        for condition in CONDITIONS:
            error = StreamError(condition)
            self.assertEqual((condition, None, condition), (error.condition, error.text, str(error)))
            expected: Any = (NS_STREAMS, "error", {}, [(NS_STREAM_ERRORS, condition, {}, [])])
            self.assertEqual(expected, canonical(domish_child(error.to_bytes())))

    def test_text(self) -> None:
        for text, seen in (
            ("Text outside of a stanza", "Text outside of a stanza"),
            ("<a b='c'>&amp; \"d\"</a>]]>", "<a b='c'>&amp; \"d\"</a>]]>"),
            ("\u043d\u0435\u0442 \U0001f600\r\n\t", "\u043d\u0435\u0442 \U0001f600\r\n\t"),
            ("a\0b\x0bc\ud800\ufffe", "a\ufffdb\ufffdc\ufffd\ufffd"),
        ):
            error = StreamError("policy-violation", text)
            self.assertEqual(f"policy-violation: {text}", str(error))
            expected: Any = (
                NS_STREAMS,
                "error",
                {},
                [(NS_STREAM_ERRORS, "policy-violation", {}, []), (NS_STREAM_ERRORS, "text", {LANG: "en"}, [seen])],
            )
            self.assertEqual(expected, canonical(domish_child(error.to_bytes())))


class StanzaErrors(TestCase):
    def test_a_stanza_error_is_itself(self) -> None:
        error = StanzaError("item-not-found")
        self.assertIs(error, stanza_error(error))

    def test_unavailable(self) -> None:
        class DatabaseAway(Unavailable):
            pass

        for exception in (Unavailable("secret detail"), DatabaseAway()):
            error = stanza_error(exception)
            assert error is not None
            self.assertEqual(("resource-constraint", "wait"), (error.condition, error.type))
            element = error.getElement()
            self.assertEqual(NS_STANZA_ERRORS, element.firstChildElement().uri)
            self.assertNotIn("secret", element.toXml())

    def test_faults_of_ours(self) -> None:
        for exception in (ValueError("x"), StreamError("bad-format"), KeyError("x"), RuntimeError()):
            self.assertIsNone(stanza_error(exception))
