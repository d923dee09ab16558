"""Streams on which clients authenticate by XEP-0388, whatever else they ask for in the same breath."""

import base64
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.sasl2 import Sasl2
from tests.fixtures.c2s import PASSWORD, C2SServer, Client, encoded

NS_SASL2 = "urn:xmpp:sasl:2"
AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"
OTHER_AGENT = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"


def authenticate(mechanism: str, data: bytes | None, inner: str = "", agent: str | None = AGENT) -> str:
    """<authenticate/> with an initial response, if there is one, and whatever else is in it."""
    response = "" if data is None else f"<initial-response>{encoded(data)}</initial-response>"
    user_agent = "" if agent is None else f"<user-agent id='{agent}'><software>Awesome</software></user-agent>"
    return f"<authenticate xmlns='{NS_SASL2}' mechanism='{mechanism}'>{response}{user_agent}{inner}</authenticate>"


def plain2(username: str = "ann", inner: str = "", agent: str | None = AGENT, password: str = PASSWORD) -> str:
    return authenticate("PLAIN", f"\0{username}\0{password}".encode(), inner, agent)


def response2(data: bytes) -> str:
    return f"<response xmlns='{NS_SASL2}'>{encoded(data)}</response>"


def bind2(inner: str = "", tag: str | None = "AwesomeXMPP") -> str:
    return f"<bind xmlns='urn:xmpp:bind:0'>{'' if tag is None else f'<tag>{tag}</tag>'}{inner}</bind>"


def child(element: domish.Element, name: str) -> domish.Element:
    """The one child element of this name."""
    found = [e for e in element.elements() if e.name == name]
    assert len(found) == 1, f"not one {name}: {element.toXml()}"
    return found[0]


def identifier(success: domish.Element) -> str:
    """Whom the server takes the client for."""
    return str(child(success, "authorization-identifier"))


def additional_data(success: domish.Element) -> bytes:
    return base64.b64decode(str(child(success, "additional-data")))


class Sasl2Dialogues(TestCase):
    """A listener whose connections are encrypted from the first byte, as far as anybody can tell."""

    modules: ClassVar[Sequence[Any]] = (Sasl2, Bind2)

    server: C2SServer

    async def setUp(self) -> None:  # type: ignore[override]
        self._work: list[Deferred[None]] = []
        await self.serve(tls="tls")

    async def serve(self, **options: Any) -> None:
        """Another listener instead."""
        self.server = C2SServer(modules=self.modules, **options)
        self.server.context.spawn = self._spawn
        await self.server.host.start()

    def _spawn(self, event: str, work: Awaitable[object]) -> None:
        async def run() -> None:
            await work

        self._work.append(Deferred.fromCoroutine(run()))

    async def settle(self) -> None:
        """Until all that the server has begun is done. What it raised is raised."""
        while self._work:
            await self._work.pop()
            self.server.clock.advance(0)

    def client(self, domain: str = "a.example", **attributes: str) -> Client:
        """One that may authenticate."""
        client = self.server.connects()
        client.header(domain, **attributes)
        client.receives("features")
        return client

    async def asks(self, client: Client, xml: str) -> domish.Element:
        """The next element that comes after this was sent."""
        client.sends(xml)
        await self.settle()
        return client.receives()

    async def succeeds(self, client: Client, xml: str) -> domish.Element:
        success = await self.asks(client, xml)
        self.assertEqual(("success", NS_SASL2), (success.name, success.uri), success.toXml())
        return success

    async def fails(self, expected: str, client: Client, xml: str) -> domish.Element:
        """A failure, after which the stream goes on."""
        answer = await self.asks(client, xml)
        self.assertEqual(("failure", NS_SASL2), (answer.name, answer.uri), answer.toXml())
        conditions = [e.name for e in answer.elements() if e.uri == "urn:ietf:params:xml:ns:xmpp-sasl"]
        self.assertEqual([expected], conditions, xml)
        self.assertTrue(client.is_open)
        return answer
