"""Whatever a client sends, in whatever state, reading or not: nothing raises, nothing is logged as a fault."""

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from dynxmpp.c2s.stream import CLOSE_TIMEOUT_S
from dynxmpp.modules.register import Register
from tests.fixtures.c2s import NOTHING, C2SServer, Client

NAMESPACES = (
    "jabber:client", "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-tls",
    "urn:ietf:params:xml:ns:xmpp-bind", "urn:ietf:params:xml:ns:xmpp-session", "jabber:iq:register", "x", "",
)  # fmt: skip
NAMES = (
    "message", "presence", "iq", "auth", "response", "abort", "starttls", "bind", "session", "query", "username",
    "password", "resource", "error", "a",
)  # fmt: skip
VALUES = (
    "get", "set", "result", "error", "unavailable", "subscribe", "PLAIN", "SCRAM-SHA-1", "1", "", "@", "a.example",
    "ann@a.example", "ann@a.example/phone", "bob@b.example", "AGFubgBwYXNzd29yZA==", "=", "&amp;",
)  # fmt: skip


def _element(parts: tuple[str, str, dict[str, str], list[str]]) -> str:
    name, uri, attributes, children = parts
    shown = "".join(f" {key}='{value}'" for key, value in attributes.items())
    return f"<{name} xmlns='{uri}'{shown}>{''.join(children)}</{name}>"


def _elements(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    attributes = st.dictionaries(
        st.sampled_from(("type", "id", "to", "from", "mechanism")), st.sampled_from(VALUES), max_size=4
    )
    parts = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMESPACES), attributes, st.lists(children, max_size=2))
    return parts.map(_element)


elements = st.recursive(st.sampled_from(VALUES), _elements, max_leaves=6).filter(lambda xml: xml.startswith("<"))
headers = st.builds(
    "<stream:stream xmlns='{}' xmlns:stream='http://etherx.jabber.org/streams' to='{}' version='{}'>".format,
    st.sampled_from(("jabber:client", "jabber:server")),
    st.sampled_from(("a.example", "c.example", "nowhere.example", "@", "")),
    st.sampled_from(("1.0", "0.9", "x")),
)
#: What a client may send at once: elements, headers, ends, and any bytes at all.
pieces = st.one_of(
    elements.map(str.encode),
    headers.map(str.encode),
    st.sampled_from(
        (b"</stream:stream>", b" ", b"\n", b"<!--", b"<?xml version='1.0'?>", b"<!DOCTYPE a>", b"<a", b">")
    ),
    st.binary(max_size=40),
)
STATES = ("connected", "header", "authenticated", "bound")


class Noise(TestCase):
    def setUp(self) -> None:
        self.faults: list[LogEvent] = []
        observer = cast(ILogObserver, self._observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            self.faults.append(event)

    def client_in(self, state: str, server: C2SServer) -> Client:
        client = server.connects()
        if state == "header":
            client.header()
        elif state in ("authenticated", "bound"):
            client.authenticated()
        if state == "bound":
            client.binds("phone")
        return client

    def check_over(self, server: C2SServer, client: Client) -> None:
        """The connection ends, and leaves nothing behind."""
        client.stream.close()
        server.clock.advance(CLOSE_TIMEOUT_S + 1)
        if client.transport.connected:
            client.loses()
        self.assertEqual([], self.faults)
        self.assertEqual(NOTHING, server.balance)
        self.assertEqual([], server.clock.getDelayedCalls())
        self.assertEqual(server.observer().bound, server.observer().ended)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(STATES), st.lists(pieces, max_size=8))
    def test_of_any_kind_in_any_state(self, state: str, sent: list[bytes]) -> None:
        server = C2SServer(modules=[Register])
        client = self.client_in(state, server)
        for piece in sent:
            client.sends(piece)
        self.check_over(server, client)

    @settings(max_examples=100, deadline=None)
    @given(st.booleans(), st.lists(pieces, max_size=8), st.sampled_from((1, 1000, 100_000)))
    def test_from_a_client_that_never_reads(self, bound: bool, sent: list[bytes], max_send_queue: int) -> None:
        server = C2SServer(max_send_queue=max_send_queue)
        client = self.client_in("bound" if bound else "connected", server)
        client.transport.peer_reads = False
        for piece in sent:
            client.sends(piece * 20)
        self.check_over(server, client)
