"""Logging in, and coming back, with one write of the client: XEP-0388, XEP-0386, XEP-0198, XEP-0484 together."""

import base64
import hashlib
import hmac

from twisted.words.xish import domish

from tests.interop import slix
from tests.interop.raw_tls import TlsClient
from tests.interop.two_domains import ALICE, BOB, TwoDomains

AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"
MECHANISM = "HT-SHA-256-EXPR"

BIND = (
    "<bind xmlns='urn:xmpp:bind:0'><tag>Test</tag>"
    "<enable xmlns='urn:xmpp:sm:3' resume='true'/><enable xmlns='urn:xmpp:carbons:2'/></bind>"
)
REQUEST_TOKEN = f"<request-token xmlns='urn:xmpp:fast:0' mechanism='{MECHANISM}'/>"
FAST = "<fast xmlns='urn:xmpp:fast:0'/>"


def authenticate(mechanism: str, data: bytes, inner: str) -> str:
    response = base64.b64encode(data).decode()
    return (
        f"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'><initial-response>{response}</initial-response>"
        f"<user-agent id='{AGENT}'><software>Test</software></user-agent>{inner}</authenticate>"
    )


def with_password(inner: str) -> str:
    return authenticate("PLAIN", f"\0alice\0{ALICE}".encode(), inner)


def with_token(client: TlsClient, token: str, inner: str) -> str:
    proof = hmac.digest(token.encode(), b"Initiator" + client.exported(), hashlib.sha256)
    return authenticate(MECHANISM, b"alice\0" + proof, FAST + inner)


def message(to: str, body: str) -> str:
    return f"<message to='{to}' type='chat'><body>{body}</body></message>"


def find(element: domish.Element, *names: str) -> domish.Element | None:
    """The child, its child, and so on."""
    found: domish.Element | None = element
    for name in names:
        assert found is not None
        found = next((child for child in found.elements() if child.name == name), None)
    return found


class OneRoundTrip(TwoDomains):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.bob = await slix.logs_in(self, f"{BOB}/phone", BOB, self.starttls)

    async def reaches(self) -> TlsClient:
        return await TlsClient.reaches(self, self.direct, "example.org")

    async def success(self, client: TlsClient) -> domish.Element:
        """What the server says to one who got in; stanzas count from here."""
        answer = await client.element(lambda element: element.name in ("success", "failure"))
        self.assertEqual("success", answer.name, answer.toXml())
        return answer

    async def logs_in(self) -> tuple[TlsClient, str, str]:
        """A client, its token, and the id of its session."""
        client = await self.reaches()
        client.handled = 0  # no stanza comes before <success/>
        client.begins(with_password(BIND + REQUEST_TOKEN) + "<presence/>" + message(BOB, "hello"))
        success = await self.success(client)
        enabled, token = find(success, "bound", "enabled"), find(success, "token")
        assert enabled is not None and token is not None, success.toXml()
        client.jid = str(find(success, "authorization-identifier"))
        self.assertTrue(client.jid.startswith(f"{ALICE}/Test/"), client.jid)
        heard = await self.bob.event("message")
        self.assertEqual((client.jid, "hello"), (heard["sender"], heard["body"]))
        return client, token["token"], enabled["id"]

    async def test_a_session_is_resumed(self) -> None:
        client, token, session = await self.logs_in()
        self.bob.does("message", to=client.jid, body="message 0")
        self.assertEqual("message 0", await client.body())
        await client.ping()
        handled = client.handled
        client.close()
        for number in range(1, 4):
            self.bob.does("message", to=client.jid, body=f"message {number}")
        self.bob.does("roster")
        await self.bob.event("roster")

        again = await self.reaches()
        resume = f"<resume xmlns='urn:xmpp:sm:3' previd='{session}' h='{handled}'/>"
        again.begins(with_token(again, token, resume + BIND) + message(BOB, "back"))
        success = await self.success(again)
        resumed = find(success, "resumed")
        assert resumed is not None, success.toXml()
        # <presence/>, "hello" and the ping.
        self.assertEqual((session, "3"), (resumed["previd"], resumed["h"]))
        self.assertIsNone(find(success, "bound"))
        self.assertEqual([f"message {number}" for number in range(1, 4)], [await again.body() for _ in range(3)])
        heard = await self.bob.event("message")
        self.assertEqual((client.jid, "back"), (heard["sender"], heard["body"]))
        self.bob.does("message", to=client.jid, body="end")
        self.assertEqual("end", await again.body(), "and nothing twice")

    async def test_a_session_that_is_gone_is_bound_anew(self) -> None:
        client, token, _ = await self.logs_in()
        client.send("</stream:stream>")
        await client.gone()
        again = await self.reaches()
        resume = "<resume xmlns='urn:xmpp:sm:3' previd='unknown' h='7'/>"
        again.begins(with_token(again, token, resume + BIND) + "<presence/>" + message(BOB, "here again"))
        success = await self.success(again)
        self.assertIsNotNone(find(success, "failed", "item-not-found"), success.toXml())
        self.assertIsNotNone(find(success, "bound", "enabled"), success.toXml())
        self.assertEqual(client.jid, str(find(success, "authorization-identifier")), "the same each time")
        self.assertEqual("here again", (await self.bob.event("message"))["body"])

    async def test_a_token_of_another_connection(self) -> None:
        """A proof that was overheard is worth nothing, and what is sent behind it has no effect."""
        client, token, _ = await self.logs_in()
        overheard = with_token(client, token, BIND)
        mallory = await self.reaches()
        mallory.begins(overheard + message(BOB, "from mallory"))
        failure = await mallory.named("failure")
        self.assertIsNotNone(find(failure, "not-authorized"), failure.toXml())
        client.send(message(BOB, "from alice"))
        self.assertEqual("from alice", (await self.bob.event("message"))["body"])

    async def test_an_earlier_session_of_the_same_client_ends(self) -> None:
        client, token, _ = await self.logs_in()
        again = await self.reaches()
        again.begins(with_token(again, token, BIND))
        await self.success(again)
        self.assertEqual("conflict", await client.gone())
