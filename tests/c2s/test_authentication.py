"""SASL over a stream: RFC 6120 6."""

import gc
import weakref

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.wire.ns import NS_SASL
from tests.fixtures.c2s import (
    NOTHING,
    C2SServer,
    Client,
    auth,
    bind,
    condition,
    content,
    encoded,
    plain,
    response,
    scram_client,
)

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")


class AuthenticationCase(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer()

    def client(self, domain: str = "a.example") -> Client:
        client = self.server.connects()
        client.header(domain)
        client.receives("features")
        return client

    def fails(self, expected: str, sent: str, client: Client | None = None) -> Client:
        """A SASL failure, after which the stream goes on."""
        client = client or self.client()
        client.sends(sent)
        answer = client.receives("failure")
        self.assertEqual((NS_SASL, expected), (answer.uri, condition(answer)), sent)
        self.assertTrue(client.is_open)
        return client


class Mechanisms(AuthenticationCase):
    def test_offered(self) -> None:
        client = self.server.connects()
        client.header()
        offered = [str(m) for m in client.receives("features").mechanisms.elements()]
        self.assertEqual([*MECHANISMS, "PLAIN"], offered)

    def test_only_what_is_configured(self) -> None:
        self.server = C2SServer(sasl_mechanisms=("scram_sha256", "scram_sha256_plus"))
        client = self.server.connects()
        client.header()
        self.assertEqual(["SCRAM-SHA-256"], [str(m) for m in client.receives("features").mechanisms.elements()])
        self.fails("invalid-mechanism", plain("ann"))

    def test_plain(self) -> None:
        client = self.client()
        answer = client.authenticates("ann")
        self.assertEqual(("success", NS_SASL, ""), (answer.name, answer.uri, str(answer)))

    def test_plain_in_two_steps(self) -> None:
        client = self.client()
        client.sends(auth("PLAIN"))
        self.assertEqual("=", str(client.receives("challenge")))
        client.sends(response(b"\0ann\0pencil"))
        client.receives("success")

    def test_scram(self) -> None:
        for mechanism in MECHANISMS:
            client, own = self.client(), scram_client(mechanism)
            client.sends(auth(mechanism, own.get_client_first().encode()))
            own.set_server_first(content(client.receives("challenge")).decode())
            client.sends(response(own.get_client_final().encode()))
            own.set_server_final(content(client.receives("success")).decode())  # checks the server's signature
            client.header()
            client.receives("features")
            self.assertEqual("ann@a.example/x", str(client.binds("x").bind.jid))

    def test_scram_with_a_wrong_password(self) -> None:
        for username in ("ann", "nobody"):
            client, own = self.client(), scram_client("SCRAM-SHA-256", username, "wrong")
            client.sends(auth("SCRAM-SHA-256", own.get_client_first().encode()))
            own.set_server_first(content(client.receives("challenge")).decode())
            self.fails("not-authorized", response(own.get_client_final().encode()), client)
            client.authenticates("ann")

    def test_an_account_is_one_of_its_domain(self) -> None:
        self.server.method.passwords["b.example", "carl"] = "pencil"
        self.fails("not-authorized", plain("carl"), self.client("a.example"))
        self.assertEqual("success", self.client("b.example").authenticates("carl").name)


class Restart(AuthenticationCase):
    def test_features_after_success(self) -> None:
        client = self.client()
        client.authenticates("ann")
        client.header()
        names = [e.name for e in client.receives("features").elements()]
        self.assertEqual(["bind", "session"], names)

    def test_without_the_session_of_old(self) -> None:
        self.server = C2SServer(backwards_compatible_session=False)
        client = self.client()
        client.authenticates("ann")
        client.header()
        self.assertEqual(["bind"], [e.name for e in client.receives("features").elements()])

    def test_success_is_followed_by_a_header(self) -> None:
        for stanza in (bind("x"), "<message/>"):
            client = self.client()
            client.authenticates("ann")
            client._expect_header()
            client.sends(stanza)
            self.assertEqual("invalid-namespace", client.stream_error())
            self.assertEqual("a.example", client.response["from"])

    def test_another_domain(self) -> None:
        for domain in ("b.example", "c.example"):
            client = self.client()
            client.authenticates("ann")
            client.header(domain)
            self.assertEqual("not-authorized", client.stream_error())

    def test_the_same_domain_in_another_spelling(self) -> None:
        client = self.client()
        client.authenticates("ann")
        client.header("A.EXAMPLE")
        client.receives("features")

    def test_an_unknown_domain(self) -> None:
        client = self.client()
        client.authenticates("ann")
        client.header("nowhere.example")
        self.assertEqual("host-unknown", client.stream_error())

    def test_a_domain_that_has_gone_meanwhile(self) -> None:
        client = self.client("b.example")
        client.authenticates("ann")
        self.server.domains.delete("b.example")
        client.header("b.example")
        self.assertEqual("host-gone", client.stream_error())
        self.assertEqual("b.example", client.response["from"])

    def test_from_is_who_has_authenticated(self) -> None:
        for sender in ("ann@a.example", "ann@a.example/phone", "ANN@A.example"):
            client = self.client()
            client.authenticates("ann")
            client.header(**{"from": sender})
            client.receives("features")
            self.assertEqual("ann@a.example", client.response["to"])
        for sender in ("bob@a.example", "ann@b.example", "a.example", "@", ""):
            client = self.client()
            client.authenticates("ann")
            client.header(**{"from": sender})
            self.assertEqual("invalid-from", client.stream_error(), sender)

    def test_a_second_time(self) -> None:
        client = self.server.connects()
        client.authenticated()
        for _ in range(2):
            client.sends(plain("ann"))
            break
        self.assertEqual("policy-violation", client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)


class Failures(AuthenticationCase):
    def test_a_wrong_password_can_be_corrected(self) -> None:
        client = self.fails("not-authorized", plain("ann", "wrong"))
        self.assertEqual("success", client.authenticates("ann").name)

    def test_an_unknown_account_looks_the_same(self) -> None:
        answers = []
        for username in ("ann", "nobody"):
            client = self.client()
            client.sends(plain(username, "wrong"))
            answers.append(client.receives("failure").toXml())
        self.assertEqual(answers[0], answers[1])

    def test_too_many(self) -> None:
        self.server = C2SServer(auth_attempts=3)
        client, bystander = self.client(), self.client()
        self.fails("not-authorized", plain("ann", "wrong"), client)
        self.fails("not-authorized", plain("ann", "wrong"), client)
        client.sends(plain("ann", "wrong") + plain("ann"))
        self.assertEqual("not-authorized", condition(client.receives("failure")))
        self.assertEqual("policy-violation", client.stream_error())
        self.assertTrue(bystander.is_open)

    def test_abort(self) -> None:
        client = self.client()
        client.sends(auth("SCRAM-SHA-1", b"n,,n=ann,r=x"))
        client.receives("challenge")
        self.fails("aborted", f"<abort xmlns='{NS_SASL}'/>", client)
        self.assertEqual("success", client.authenticates("ann").name)

    def test_abort_of_nothing(self) -> None:
        self.fails("aborted", f"<abort xmlns='{NS_SASL}'/>")

    def test_unknown_mechanisms(self) -> None:
        for name in ("MAGIC", "plain", "SCRAM-SHA-256-PLUS", "EXTERNAL", ""):
            self.fails("invalid-mechanism", auth(name, b"x"))
        self.fails("invalid-mechanism", f"<auth xmlns='{NS_SASL}'/>")

    def test_broken_base64(self) -> None:
        for text in ("!", "AHVzZXIAcGVuY2ls=", " AHVzZXIAcGVuY2ls", "AHVzZXIAcGVuY2l", "\N{SNOWMAN}"):
            self.fails("incorrect-encoding", f"<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{text}</auth>")

    def test_malformed(self) -> None:
        for data in (b"", b"ann", b"\0ann", b"\0\0", b"\0ann\0x\0y", b"\0\xff\0x"):
            self.fails("malformed-request", f"<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{encoded(data) or '='}</auth>")

    def test_somebody_elses_identity(self) -> None:
        self.fails("invalid-authzid", auth("PLAIN", b"bob@a.example\0ann\0pencil"))

    def test_a_response_to_nothing(self) -> None:
        self.fails("malformed-request", response(b"\0ann\0pencil"))

    def test_a_second_auth_in_an_exchange(self) -> None:
        client = self.client()
        client.sends(auth("SCRAM-SHA-1", b"n,,n=ann,r=x"))
        client.receives("challenge")
        self.fails("malformed-request", auth("SCRAM-SHA-1", b"n,,n=ann,r=x"), client)
        self.assertEqual("success", client.authenticates("ann").name)

    def test_what_only_servers_say(self) -> None:
        for name in ("success", "challenge", "failure", "magic"):
            client = self.client()
            client.sends(f"<{name} xmlns='{NS_SASL}'/>")
            self.assertEqual("unsupported-stanza-type", client.stream_error())

    def test_the_database_is_away(self) -> None:
        client = self.client()
        for sent in (plain("ann"), auth("SCRAM-SHA-256", b"n,,n=ann,r=x")):
            self.server.method.problem = DatabaseUnavailable("away")
            self.fails("temporary-auth-failure", sent, client)
        self.server.method.problem = None
        self.assertEqual("success", client.authenticates("ann").name)

    def test_a_bug(self) -> None:
        bystander = self.client()
        for waits in (False, True):
            client = self.client()
            self.server.method.problem = ZeroDivisionError()
            answer = self.server.method.answer = Deferred() if waits else None
            client.sends(plain("ann"))
            if answer is not None:
                answer.callback(None)
            self.assertEqual("internal-server-error", client.stream_error())
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertTrue(bystander.is_open)


class WhileItWaits(AuthenticationCase):
    def setUp(self) -> None:
        super().setUp()
        self.answer: Deferred[None] = Deferred()
        self.server.method.answer = self.answer

    def goes_on(self) -> None:
        self.server.method.answer = None
        self.answer.callback(None)
        self.server.clock.advance(0)

    def test_others_go_on(self) -> None:
        client = self.client()
        client.sends(plain("ann"))
        self.assertEqual([], client.received())
        self.server.method.answer = None
        other = self.server.connects()
        other.authenticated("bob")
        self.answer.callback(None)
        client.receives("success")

    def test_nothing_is_read_meanwhile(self) -> None:
        client = self.client()
        client.sends(plain("ann"))
        self.assertFalse(client.transport.reading)
        self.goes_on()
        self.assertTrue(client.transport.reading)
        client.receives("success")
        client.header()
        client.receives("features")

    def test_what_comes_meanwhile_is_dealt_with_in_order(self) -> None:
        client = self.client()
        client.sends(plain("ann", "wrong") + f"<abort xmlns='{NS_SASL}'/>" + auth("MAGIC"))
        self.assertEqual([], client.received())
        self.goes_on()
        self.assertEqual(
            ["not-authorized", "aborted", "invalid-mechanism"], [condition(f) for f in client.received()[:3]]
        )
        self.assertFalse(client.is_open)

    def test_an_error_behind_it_comes_after_the_answer(self) -> None:
        client = self.client()
        client.sends(plain("ann", "wrong") + "<a></b>")
        self.assertEqual([], client.received())
        self.assertTrue(client.is_open)
        self.goes_on()
        client.receives("failure")
        self.assertEqual("not-well-formed", client.stream_error())

    def test_the_end_of_the_stream_behind_it(self) -> None:
        client = self.client()
        client.sends(plain("ann", "wrong") + "</stream:stream>")
        self.goes_on()
        client.receives("failure")
        self.assertTrue(client.closed)
        self.assertEqual(NOTHING, self.server.balance)

    def test_what_came_before_success_counts_no_more(self) -> None:
        """RFC 6120 6.4.6: a new stream begins."""
        client = self.client()
        client.sends(plain("ann") + "<message to='bob@a.example'/>")
        self.goes_on()
        client.receives("success")
        client.header()
        client.receives("features")
        self.assertTrue(client.is_open)

    def test_the_connection_breaks(self) -> None:
        for problem in (None, DatabaseUnavailable("away")):
            self.server.method.problem = problem
            answer: Deferred[None] = Deferred()
            self.server.method.answer = answer
            client = self.client()
            client.sends(plain("ann") + auth("MAGIC"))
            client.loses()
            self.assertEqual(NOTHING, self.server.balance)
            sent = len(client.transport.sent)
            answer.callback(None)
            self.server.clock.advance(60)
            self.assertEqual(NOTHING, self.server.balance)
            self.assertEqual(sent, len(client.transport.sent))
            if problem is None:  # else what has been logged still knows the stream
                gone = weakref.ref(client.stream)
                del client, answer
                self.server.method.answer = None
                gc.collect()
                self.assertIsNone(gone())

    def test_it_takes_too_long(self) -> None:
        client = self.client()
        client.sends(plain("ann"))
        self.server.clock.advance(30)
        self.assertEqual("connection-timeout", client.stream_error())
        self.goes_on()
        self.assertEqual([], client.received())
        self.assertEqual(NOTHING, self.server.balance)

    def test_the_domain_goes(self) -> None:
        client = self.client("b.example")
        client.sends(plain("ann"))
        self.server.domains.delete("b.example")
        self.goes_on()
        client.receives("success")
        client.header("b.example")
        self.assertEqual("host-gone", client.stream_error())


class TooEarly(AuthenticationCase):
    def test_stanzas_before_authentication(self) -> None:
        for stanza in ("<message/>", "<presence/>", "<iq type='get' id='1'><x xmlns='y'/></iq>", bind("x")):
            client, bystander = self.client(), self.client()
            client.sends(stanza)
            self.assertEqual("not-authorized", client.stream_error(), stanza)
            self.assertTrue(bystander.is_open)

    def test_stanzas_before_binding(self) -> None:
        for stanza in (
            "<message/>",
            "<presence/>",
            "<iq type='get' id='1'><x xmlns='y'/></iq>",
            bind("x").replace("set", "get"),
            "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        ):
            client = self.server.connects()
            client.authenticated()
            client.sends(stanza)
            self.assertEqual("not-authorized", client.stream_error(), stanza)

    def test_unknown_elements(self) -> None:
        for element in ("<x xmlns='y'/>", "<message xmlns='y'/>", "<stream:features/>", "<enable/>", "<stream:error/>"):
            for authenticated in (False, True):
                client = self.server.connects()
                if authenticated:
                    client.authenticated()
                else:
                    client.header()
                    client.receives("features")
                client.sends(element)
                self.assertEqual("unsupported-stanza-type", client.stream_error(), element)
