"""STARTTLS as negotiated, RFC 6120 5; what really is encrypted is in test_loopback.py."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.modules.register import NS_FEATURE, NS_REGISTER, Register
from dynxmpp.wire.ns import NS_SASL, NS_TLS
from tests.fixtures.c2s import NOTHING, C2SServer, Client, bind, condition, plain

STARTTLS = f"<starttls xmlns='{NS_TLS}'/>"


def offers(client: Client) -> tuple[bool, bool, list[str]]:
    """STARTTLS offered, required, and the SASL mechanisms of the features that just came."""
    features = client.receives("features")
    starttls = next(features.elements(NS_TLS, "starttls"), None)
    mechanisms = next(features.elements(NS_SASL, "mechanisms"), None)
    names = [] if mechanisms is None else [str(m) for m in mechanisms.elements()]
    required = starttls is not None and any(e.name == "required" for e in starttls.elements())
    return starttls is not None, required, names


class StartTLSCase(TestCase):
    def connected(self, mode: str | None) -> Client:
        self.server = C2SServer(tls=mode)
        client = self.server.connects()
        client.header()
        return client

    def secured(self, mode: str = "starttls") -> Client:
        """A client whose connection pretends to be encrypted."""
        client = self.connected(mode)
        client.receives("features")
        client.sends(STARTTLS)
        self.assertEqual(NS_TLS, client.receives("proceed").uri)
        return client


class Offers(StartTLSCase):
    def test_without_tls(self) -> None:
        starttls, _, mechanisms = offers(self.connected(None))
        self.assertFalse(starttls)
        self.assertIn("PLAIN", mechanisms)

    def test_optional(self) -> None:
        starttls, required, mechanisms = offers(self.connected("starttls"))
        self.assertTrue(starttls)
        self.assertFalse(required)
        self.assertIn("SCRAM-SHA-256", mechanisms)
        self.assertNotIn("PLAIN", mechanisms)

    def test_required(self) -> None:
        client = self.connected("starttls_required")
        features = client.receives("features")
        self.assertEqual(["starttls"], [e.name for e in features.elements()])
        self.assertEqual(["required"], [e.name for e in features.starttls.elements()])

    def test_tls_from_the_first_byte(self) -> None:
        starttls, _, mechanisms = offers(self.connected("tls"))
        self.assertFalse(starttls)
        self.assertIn("PLAIN", mechanisms)

    def test_after_tls(self) -> None:
        for mode in ("starttls", "starttls_required"):
            client = self.secured(mode)
            client.header()
            starttls, _, mechanisms = offers(client)
            self.assertFalse(starttls)
            self.assertIn("PLAIN", mechanisms)


class Proceed(StartTLSCase):
    def test_goes_out_before_the_handshake(self) -> None:
        client = self.secured()
        self.assertEqual("a.example", client.transport.tls)
        self.assertTrue(client.transport.sent_in_clear.endswith(f"<proceed xmlns='{NS_TLS}'/>".encode()))
        self.assertTrue(client.is_open)

    async def test_then_all_goes_its_way(self) -> None:
        client = self.secured("starttls_required")
        client.authenticated()
        self.assertEqual("result", client.binds("phone")["type"])
        session = self.server.sessions.of("ann@a.example")[0]
        self.assertTrue(session.encrypted)  # type: ignore[attr-defined]

    def test_a_stanza_instead_of_a_header(self) -> None:
        client = self.secured()
        client._expect_header()
        client.sends("<message/>")
        self.assertEqual("invalid-namespace", client.stream_error())
        self.assertEqual("a.example", client.response["from"])

    def test_another_domain_after_tls(self) -> None:
        client = self.secured()
        client.header("b.example")
        self.assertEqual("not-authorized", client.stream_error())

    def test_a_second_time(self) -> None:
        client = self.secured()
        client.header()
        client.receives("features")
        client.sends(STARTTLS)
        self.assertEqual(NS_TLS, client.receives("failure").uri)
        self.assertTrue(client.closed)
        self.assertFalse(client.transport.connected)
        self.assertEqual(NOTHING, self.server.balance)

    def test_where_there_is_none(self) -> None:
        for mode in (None, "tls"):
            client = self.connected(mode)
            client.receives("features")
            client.sends(STARTTLS)
            self.assertEqual(NS_TLS, client.receives("failure").uri)
            self.assertTrue(client.closed)
            self.assertFalse(client.transport.connected)
            self.assertIsNone(client.transport.tls)

    def test_after_authentication(self) -> None:
        client = self.secured()
        client.authenticated()
        client.sends(STARTTLS)
        self.assertEqual(NS_TLS, client.receives("failure").uri)
        self.assertTrue(client.closed)


class Injections(StartTLSCase):
    """What comes in the clear together with <starttls/> must not be taken for what comes over TLS (CVE-2011-0411)."""

    def refused(self, more: str) -> None:
        client = self.connected("starttls")
        client.receives("features")
        client.sends(STARTTLS + more)
        self.assertEqual("policy-violation", client.stream_error(), more)
        self.assertIsNone(client.transport.tls)
        self.assertEqual(NOTHING, self.server.balance)

    def test_refused(self) -> None:
        for more in (
            plain("ann"),
            "<stream:stream",
            "<a>",
            "<",
            "</stream:stream>",
            "x",
            STARTTLS,
            "\x16\x03\x01",
            " <message/>",
        ):
            self.refused(more)

    def test_white_space_is_nothing(self) -> None:
        client = self.connected("starttls")
        client.receives("features")
        client.sends(STARTTLS + "\n ")
        client.receives("proceed")
        client.header()
        client.receives("features")


class BeforeRequiredTLS(StartTLSCase):
    def test_authentication(self) -> None:
        client = self.connected("starttls_required")
        client.receives("features")
        answer = client.authenticates("ann")
        self.assertEqual(("failure", "encryption-required"), (answer.name, condition(answer)))
        self.assertTrue(client.is_open)
        client.sends(STARTTLS)
        client.receives("proceed")

    def test_a_stanza(self) -> None:
        for stanza in ("<message/>", bind("x")):
            client = self.connected("starttls_required")
            client.receives("features")
            client.sends(stanza)
            self.assertEqual("not-authorized", client.stream_error())

    async def test_registration_where_tls_is_only_offered(self) -> None:
        """A new password is as secret as one that PLAIN would send."""
        self.server = C2SServer(tls="starttls", modules=[Register])
        for host_type in self.server.host.host_types:
            module: Any = host_type.modules[Register.name]
            module.accounts = host_type.accounts
        await self.server.host.start()
        client = self.server.connects()
        client.header()
        self.assertEqual([], list(client.receives("features").elements(NS_FEATURE, "register")))
        request = f"<iq type='get' id='1'><query xmlns='{NS_REGISTER}'/></iq>"
        client.sends(STARTTLS)
        client.receives("proceed")
        client.header()
        self.assertEqual(1, len(list(client.receives("features").elements(NS_FEATURE, "register"))))
        client.sends(request)
        self.assertEqual("result", client.receives("iq")["type"])
        other = self.server.connects()
        other.header()
        other.receives("features")
        other.sends(request)
        self.assertEqual("not-authorized", other.stream_error())

    def test_plain_where_tls_is_only_offered(self) -> None:
        client = self.connected("starttls")
        client.receives("features")
        self.assertEqual("invalid-mechanism", condition(client.authenticates("ann")))
        self.assertTrue(client.is_open)
