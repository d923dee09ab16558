"""In-band registration on a stream that has not authenticated: XEP-0077 3.1, RFC 6120 4.3."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.c2s.registration import MAX_REQUESTS
from dynxmpp.modules.register import NS_FEATURE, NS_REGISTER, Register
from dynxmpp.wire.errors import Unavailable
from dynxmpp.wire.ns import NS_TLS
from tests.fixtures.c2s import NOTHING, PASSWORD, C2SServer, Client, condition, plain

SECRET = "correct-horse"
GET = f"<iq type='get' id='g'><query xmlns='{NS_REGISTER}'/></iq>"


def register(username: str, password: str = SECRET, id_: str = "s") -> str:
    inner = f"<username>{username}</username><password>{password}</password>"
    return f"<iq type='set' id='{id_}'><query xmlns='{NS_REGISTER}'>{inner}</query></iq>"


class RegistrationTest(TestCase):
    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        return Deferred.fromCoroutine(self.serve())

    async def serve(self) -> None:
        self.server = C2SServer(modules=[Register])
        # As built by the composition root: accounts first, then modules.
        for host_type in self.server.host.host_types:
            module: Any = host_type.modules[Register.name]
            module.accounts = host_type.accounts
        await self.server.host.start()

    def client(self, address: str = "192.0.2.1") -> Client:
        client = self.server.connects(address)
        client.header()
        client.receives("features")
        return client

    def refused(self, expected: str, sent: str, client: Client | None = None) -> Client:
        client = client or self.client()
        client.sends(sent)
        answer = client.receives("iq")
        self.assertEqual(("error", expected), (answer["type"], condition(answer)))
        self.assertEqual(["error"], [e.name for e in answer.elements()], "the request must not come back")
        self.assertNotIn(SECRET.encode(), bytes(client.transport.sent))
        self.assertTrue(client.is_open)
        return client

    def test_feature(self) -> None:
        client = self.server.connects()
        client.header()
        features = client.receives("features")
        self.assertEqual(1, len(list(features.elements(NS_FEATURE, "register"))))
        client.sends(plain("ann"))
        client.receives("success")
        client.header()
        self.assertEqual([], list(client.receives("features").elements(NS_FEATURE, "register")))

    def test_form(self) -> None:
        client = self.client()
        client.sends(GET)
        answer = client.receives("iq")
        self.assertEqual(("result", "g", "a.example"), (answer["type"], answer["id"], answer["from"]))
        self.assertIsNotNone(answer.query.username)
        self.assertIsNotNone(answer.query.password)

    def test_then_login_in_one_breath(self) -> None:
        client = self.client()
        client.sends(register("carol") + plain("carol", SECRET))
        answer = client.receives("iq")
        self.assertEqual(("result", "s"), (answer["type"], answer["id"]))
        client.receives("success")
        client.header()
        client.receives("features")
        self.assertEqual("carol@a.example/phone", str(client.binds("phone").bind.jid))

    def test_an_account_is_one_of_its_domain(self) -> None:
        self.client().sends(register("carol"))
        other = self.server.connects()
        other.header("b.example")
        other.receives("features")
        self.assertEqual("failure", other.authenticates("carol", SECRET).name)

    def test_errors(self) -> None:
        self.refused("conflict", register("ann"))
        self.refused("not-acceptable", register(""))
        self.refused("jid-malformed", register("a@b"))
        self.refused("bad-request", register("carol").replace(" id='s'", ""))

    def test_an_error_and_another_try(self) -> None:
        client = self.refused("conflict", register("ann"))
        client.sends(register("carol"))
        self.assertEqual("result", client.receives("iq")["type"])

    def test_one_account_a_stream(self) -> None:
        client = self.client()
        client.sends(register("carol"))
        self.assertEqual("result", client.receives("iq")["type"])
        self.refused("not-acceptable", register("dave"), client)

    def test_the_database_is_away(self) -> None:
        async def away(domain: str, username: str, password: str) -> None:
            raise Unavailable("away")

        self.patch(self.server.method, "create", away)
        self.refused("resource-constraint", register("carol"))

    def test_a_fault(self) -> None:
        async def fault(domain: str, username: str, password: str) -> None:
            raise ZeroDivisionError

        self.patch(self.server.method, "create", fault)
        client = self.client()
        client.sends(register("carol"))
        self.assertEqual("internal-server-error", client.stream_error())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(NOTHING, self.server.balance)

    def test_the_connection_breaks(self) -> None:
        answer: Deferred[None] = Deferred()

        async def slow(domain: str, username: str, password: str) -> None:
            await answer

        self.patch(self.server.method, "create", slow)
        client = self.client()
        client.sends(register("carol") + GET)
        self.assertEqual([], client.received())
        self.assertFalse(client.transport.reading)
        client.loses()
        answer.callback(None)
        self.assertEqual(NOTHING, self.server.balance)
        self.assertEqual([], self.server.clock.getDelayedCalls())

    def test_not_before_tls_where_it_is_required(self) -> None:
        server = C2SServer(modules=[Register], tls="starttls_required")
        client = server.connects()
        client.header()
        self.assertEqual([(NS_TLS, "starttls")], [(e.uri, e.name) for e in client.receives("features").elements()])
        client.sends(register("carol"))
        self.assertEqual("not-authorized", client.stream_error())

    def test_not_after_authentication(self) -> None:
        client = self.client()
        self.assertEqual("success", client.authenticates("ann", PASSWORD).name)
        client.header()
        client.receives("features")
        client.sends(register("carol"))
        self.assertEqual("not-authorized", client.stream_error())

    def test_not_where_there_is_no_module(self) -> None:
        client = C2SServer().connects()
        client.header()
        self.assertEqual(["mechanisms"], [e.name for e in client.receives("features").elements()])
        client.sends(GET)
        self.assertEqual("not-authorized", client.stream_error())

    def test_too_many_requests_end_the_stream(self) -> None:
        client = self.client()
        for _ in range(MAX_REQUESTS):
            client.sends(GET)
            client.receives("iq")
        client.sends(GET)
        self.assertEqual("policy-violation", client.stream_error())
