"""XMPP clients of the test's own process: plain sockets, PLAIN in the clear. Cheap, and they see every byte's meaning.

client = await RawClient.connect(case, port, "example.org")
await client.logs_in("alice", "secret", "phone")
reply = await client.asks(roster_item("bob@example.org"), type="set")
condition = await client.gone()
"""

import base64
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.words.xish import domish

from dynxmpp.wire.ns import NS_ROSTER, NS_STREAM_ERRORS

#: Seconds after which a test gives up on an answer.
PATIENCE_S = 15
NS_STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

Wanted = Callable[[domish.Element], bool]


class Gone(Exception):
    """The connection ended while something was waited for; the argument is the stream error, if there was one."""


class Refused(Exception):
    """The server did not let us in; the argument says with which condition."""


class RawClient(Protocol):
    """One connection. What arrives is kept until somebody asks for it."""

    def __init__(self) -> None:
        self.header: domish.Element | None = None
        self.stream_error: str | None = None
        self.resource = ""
        #: Called with each message's body, instead of keeping the message.
        self.on_body: Callable[[str], None] | None = None
        self._ids = itertools.count(1)
        self._unread: deque[domish.Element] = deque()
        self._waiting: list[tuple[Wanted, Deferred[domish.Element]]] = []
        self._closed = False
        self._when_closed: list[Deferred[None]] = []

    @classmethod
    async def connect(cls, case: Any, port: int, domain: str) -> "RawClient":
        """Connected, with a stream header sent; closed with the test. Raises ConnectError."""
        client: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(cls))
        assert isinstance(client, RawClient)
        case.addCleanup(client.close)
        client.open_stream(domain)
        return client

    # -- the wire

    def open_stream(self, domain: str) -> None:
        self._stream = domish.elementStream()
        self._stream.DocumentStartEvent = self._started
        self._stream.ElementEvent = self._arrived
        self._stream.DocumentEndEvent = lambda: None
        self.domain = domain
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )

    def send(self, xml: str) -> None:
        self.transport.write(xml.encode())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._stream.parse(data)

    def _started(self, header: domish.Element) -> None:
        self.header = header

    def _arrived(self, element: domish.Element) -> None:
        if element.name == "error" and element.uri == "http://etherx.jabber.org/streams":
            self.stream_error = condition_of(element, NS_STREAM_ERRORS)
            return
        if self.on_body is not None and element.name == "message" and element.body is not None:
            self.on_body(str(element.body))
            return
        for entry in self._waiting:
            wanted, deferred = entry
            if wanted(element):
                self._waiting.remove(entry)
                deferred.callback(element)
                return
        self._unread.append(element)

    def connectionLost(self, reason: Failure = Failure(Gone())) -> None:  # noqa: B008 - Twisted's signature
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for _, deferred in waiting:
            deferred.errback(Gone(self.stream_error))
        for closed in self._when_closed:
            closed.callback(None)

    def close(self) -> None:
        if not self._closed:
            self.transport.abortConnection()  # type: ignore[union-attr]

    # -- what a test asks for

    async def element(self, wanted: Wanted) -> domish.Element:
        """The next unread element that `wanted` accepts. Raises Gone, TimeoutError."""
        for element in self._unread:
            if wanted(element):
                self._unread.remove(element)
                return element
        if self._closed:
            raise Gone(self.stream_error)
        deferred: Deferred[domish.Element] = Deferred()
        entry = (wanted, deferred)
        self._waiting.append(entry)
        deferred.addTimeout(PATIENCE_S, reactor)
        try:
            return await deferred
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def named(self, name: str) -> domish.Element:
        return await self.element(lambda element: element.name == name)

    async def body(self) -> str:
        """The body of the next message that has one."""
        message = await self.element(lambda e: e.name == "message" and e.body is not None and e["type"] != "error")
        return str(message.body)

    async def asks(self, payload: str, *, type: str = "get", to: str | None = None) -> domish.Element:  # noqa: A002
        """Sends an IQ; the result or error that answers it."""
        number = f"q{next(self._ids)}"
        address = "" if to is None else f" to='{to}'"
        self.send(f"<iq id='{number}' type='{type}'{address}>{payload}</iq>")
        return await self.element(lambda element: element.name == "iq" and element.getAttribute("id") == number)

    async def ping(self) -> None:
        """Everything that was sent before has been dealt with, or waits."""
        await self.asks("<ping xmlns='urn:xmpp:ping'/>", to=self.domain)

    async def gone(self) -> str | None:
        """Waits for the end of the connection; the condition of the stream error."""
        if not self._closed:
            closed: Deferred[None] = Deferred()
            self._when_closed.append(closed)
            await closed.addTimeout(PATIENCE_S, reactor)
        return self.stream_error

    # -- logging in

    async def authenticates(self, username: str, password: str) -> None:
        """Raises Refused, Gone."""
        await self.named("features")
        data = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{data}</auth>")
        answer = await self.element(lambda element: element.name in ("success", "failure"))
        if answer.name == "failure":
            raise Refused(next(answer.elements()).name)
        self.open_stream(self.domain)
        await self.named("features")

    async def logs_in(self, username: str, password: str, resource: str) -> "RawClient":
        """Authenticates, binds, fetches the roster, sends presence. Raises Refused, Gone."""
        await self.authenticates(username, password)
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
        reply = await self.asks(bind, type="set")
        if reply["type"] != "result":
            raise Refused(error_of(reply)[0])
        self.jid = str(next(next(reply.elements()).elements()))
        await self.asks(f"<query xmlns='{NS_ROSTER}'/>")
        self.send("<presence/>")
        await self.ping()
        return self

    def says(self, to: str, body: str) -> None:
        self.send(f"<message to='{to}' type='chat' id='m{next(self._ids)}'><body>{body}</body></message>")

    async def roster(self) -> dict[str, str]:
        """Names by address."""
        reply = await self.asks(f"<query xmlns='{NS_ROSTER}'/>")
        return {item["jid"]: item.getAttribute("name", "") for item in next(reply.elements()).elements()}


def roster_item(jid: str, name: str) -> str:
    return f"<query xmlns='{NS_ROSTER}'><item jid='{jid}' name='{name}'/></query>"


def condition_of(error: domish.Element, namespace: str) -> str:
    return next((child.name for child in error.elements() if child.uri == namespace and child.name != "text"), "")


def error_of(stanza: domish.Element) -> tuple[str, str, str]:
    """Condition, type and text of a stanza error."""
    error = next(child for child in stanza.elements() if child.name == "error")
    text = next((str(c) for c in error.elements() if c.name == "text" and c.uri == NS_STANZA_ERRORS), "")
    return condition_of(error, NS_STANZA_ERRORS), error["type"], text


async def logs_in(case: Any, port: int, jid: str, password: str, resource: str = "raw") -> RawClient:
    """A client that has fetched its roster and sent presence. Raises ConnectError, Refused, Gone."""
    username, _, domain = jid.partition("@")
    client = await RawClient.connect(case, port, domain)
    return await client.logs_in(username, password, resource)
