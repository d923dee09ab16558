"""XEP-0388 Extensible SASL Profile."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.sasl2 import Sasl2
from dynxmpp.modules.stream_management import StreamManagement
from dynxmpp.wire.ns import NS_SASL, NS_TLS
from tests.fixtures.c2s import NOTHING, Client, auth, bind, content, header, plain, scram_client
from tests.protocol.sasl2_dialogues import (
    AGENT,
    NS_SASL2,
    Sasl2Dialogues,
    additional_data,
    authenticate,
    bind2,
    child,
    identifier,
    plain2,
    response2,
)

MECHANISMS = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]


def names(element: domish.Element) -> list[str]:
    return [e.name for e in element.elements()]


class Features(Sasl2Dialogues):
    modules = (Sasl2, Bind2, StreamManagement)

    def features(self, client: Client | None = None) -> domish.Element:
        client = client or self.server.connects()
        client.header()
        return client.receives("features")

    def test_beside_the_profile_of_old(self) -> None:
        features = self.features()
        self.assertEqual(["mechanisms", "authentication"], names(features))
        offered = child(features, "authentication")
        self.assertEqual(NS_SASL2, offered.uri)
        self.assertEqual(MECHANISMS, [str(e) for e in offered.elements() if e.name == "mechanism"])
        inline = child(offered, "inline")
        self.assertEqual(
            [("sm", "urn:xmpp:sm:3"), ("bind", "urn:xmpp:bind:0")], [(e.name, e.uri) for e in inline.elements()]
        )

    async def test_without_anything_to_inline(self) -> None:
        type(self).modules, everything = (Sasl2,), type(self).modules
        self.addCleanup(setattr, type(self), "modules", everything)
        await self.serve(tls="tls")
        self.assertEqual({"mechanism"}, set(names(child(self.features(), "authentication"))))

    async def test_without_the_module(self) -> None:
        type(self).modules, everything = (Bind2,), type(self).modules
        self.addCleanup(setattr, type(self), "modules", everything)
        await self.serve(tls="tls")
        client = self.server.connects()
        self.assertEqual(["mechanisms"], names(self.features(client)))
        client.sends(plain2())
        self.assertEqual("unsupported-stanza-type", client.stream_error())

    async def test_without_any_mechanism(self) -> None:
        await self.serve(tls="tls", sasl_mechanisms=("scram_sha256_plus",))
        self.assertEqual([], names(self.features()))

    async def test_after_tls_only(self) -> None:
        for mode in ("starttls", "starttls_required"):
            await self.serve(tls=mode)
            client = self.server.connects()
            self.assertNotIn("authentication", names(self.features(client)))
            await self.fails("encryption-required", client, plain2())
            client.sends(f"<starttls xmlns='{NS_TLS}'/>")
            client.receives("proceed")
            self.assertIn("authentication", names(self.features(client)))
            await self.succeeds(client, plain2())

    async def test_where_the_administrator_wants_no_tls(self) -> None:
        await self.serve()
        client = self.server.connects()
        self.assertIn("authentication", names(self.features(client)))
        await self.succeeds(client, plain2())


class Exchanges(Sasl2Dialogues):
    async def test_plain(self) -> None:
        client = self.client()
        success = await self.succeeds(client, plain2())
        self.assertEqual(["authorization-identifier"], names(success))
        self.assertEqual("ann@a.example", identifier(success))

    async def test_features_follow_and_no_header(self) -> None:
        client = self.client()
        await self.succeeds(client, plain2())
        self.assertEqual(["bind", "session"], names(client.receives("features")))
        self.assertEqual("ann@a.example/phone", str(client.binds("phone").bind.jid))
        self.assertEqual(1, len(client.headers))

    async def test_scram(self) -> None:
        for mechanism in MECHANISMS[:3]:
            client, own = self.client(), scram_client(mechanism)
            challenge = await self.asks(client, authenticate(mechanism, own.get_client_first().encode()))
            self.assertEqual(("challenge", NS_SASL2), (challenge.name, challenge.uri))
            own.set_server_first(content(challenge).decode())
            success = await self.succeeds(client, response2(own.get_client_final().encode()))
            own.set_server_final(additional_data(success).decode())  # checks the server's signature
            self.assertEqual(["additional-data", "authorization-identifier"], names(success))

    async def test_without_an_initial_response(self) -> None:
        client = self.client()
        challenge = await self.asks(client, authenticate("PLAIN", None))
        self.assertEqual(("challenge", ""), (challenge.name, str(challenge)))
        await self.succeeds(client, response2(b"\0ann\0pencil"))

    async def test_an_empty_initial_response_is_one(self) -> None:
        await self.fails("malformed-request", self.client(), authenticate("PLAIN", b""))

    async def test_without_a_user_agent(self) -> None:
        await self.succeeds(self.client(), plain2(agent=None))

    async def test_a_client_that_tells_nothing_of_itself(self) -> None:
        await self.succeeds(self.client(), plain2(inner="<user-agent><device>x</device></user-agent>", agent=None))

    async def test_what_is_not_understood_is_passed_over(self) -> None:
        inner = "<megabind xmlns='urn:example:megabind'><resource>this</resource></megabind><unknown/>"
        self.assertEqual(["authorization-identifier"], names(await self.succeeds(self.client(), plain2(inner=inner))))

    async def test_all_in_one_write(self) -> None:
        """One round trip: what was sent behind <authenticate/> is read by the session."""
        client = self.server.connects()
        ping = "<iq type='get' id='p1' to='ann@a.example'><ping xmlns='urn:xmpp:ping'/></iq>"
        client.sends(header({"to": "a.example", "version": "1.0"}) + plain2(inner=bind2()) + "<presence/>" + ping)
        await self.settle()
        self.assertEqual(["features", "success", "features", "iq"], [e.name for e in client.received()])
        self.assertEqual(["presence", "iq"], [stanza.name for stanza in self.server.observer().seen])

    async def test_what_comes_while_the_database_is_asked_waits(self) -> None:
        self.server.method.answer = Deferred()
        client = self.client()
        client.sends(plain2(inner=bind2()))
        client.sends("<presence/>")
        self.assertEqual([], client.received())
        self.server.method.answer.callback(None)
        await self.settle()
        self.assertEqual(["success", "features"], [e.name for e in client.received()])
        self.assertEqual(["presence"], [stanza.name for stanza in self.server.observer().seen])


class Failures(Sasl2Dialogues):
    async def test_a_wrong_password_can_be_corrected(self) -> None:
        client = self.client()
        answer = await self.fails("not-authorized", client, plain2(password="wrong"))
        self.assertEqual("Wrong user name or password", str(child(answer, "text")))
        await self.succeeds(client, plain2())

    async def test_nothing_is_done_for_who_fails(self) -> None:
        await self.fails("not-authorized", self.client(), plain2(inner=bind2(), password="wrong"))
        self.assertEqual([], self.server.observer().bound)

    async def test_unknown_mechanisms(self) -> None:
        for name in ("MAGIC", "plain", "SCRAM-SHA-256-PLUS", "HT-SHA-256-NONE", ""):
            await self.fails("invalid-mechanism", self.client(), authenticate(name, b"x"))
        await self.fails("invalid-mechanism", self.client(), f"<authenticate xmlns='{NS_SASL2}'/>")

    async def test_broken_base64(self) -> None:
        for text in ("!", "=", "AHVzZXIAcGVuY2ls=", "AHVzZXIAcGVuY2l"):
            inner = f"<initial-response>{text}</initial-response>"
            await self.fails("incorrect-encoding", self.client(), authenticate("PLAIN", None, inner))
        client = self.client()
        await self.asks(client, authenticate("PLAIN", None))
        await self.fails("incorrect-encoding", client, f"<response xmlns='{NS_SASL2}'>=</response>")

    async def test_ids_of_user_agents(self) -> None:
        await self.succeeds(self.client(), plain2(agent=AGENT.upper()))
        for agent in ("", "x", AGENT + "0", AGENT.replace("-", ""), AGENT.replace("-4749", "-1749"), "{" + AGENT + "}"):
            await self.fails("malformed-request", self.client(), plain2(agent=agent))

    async def test_what_may_be_there_once(self) -> None:
        for inner in (
            "<initial-response/>",
            "<user-agent/>",
            bind2() + bind2(),
            "<resume xmlns='urn:xmpp:sm:3' previd='a' h='0'/>" * 2,
        ):
            await self.fails("malformed-request", self.client(), plain2(inner=inner))

    async def test_size(self) -> None:
        for text in ("x" * 32_768, "<x/>" * 9000):
            await self.fails("malformed-request", self.client(), plain2(inner=f"<x xmlns='y'>{text}</x>"))
        client = self.client()
        client.sends(plain2(inner=f"<x>{'y' * 262_144}</x>"))
        self.assertEqual("policy-violation", client.stream_error())

    async def test_abort(self) -> None:
        client = self.client()
        await self.asks(client, authenticate("SCRAM-SHA-1", b"n,,n=ann,r=x"))
        await self.fails("aborted", client, f"<abort xmlns='{NS_SASL2}'><text>changed my mind</text></abort>")
        await self.succeeds(client, plain2())

    async def test_a_response_to_nothing(self) -> None:
        await self.fails("malformed-request", self.client(), response2(b"\0ann\0pencil"))

    async def test_attempts_count_in_both_profiles_together(self) -> None:
        await self.serve(tls="tls", auth_attempts=3)
        client = self.client()
        await self.fails("not-authorized", client, plain2(password="wrong"))
        failure = await self.asks(client, plain("ann", "wrong"))
        self.assertEqual(("failure", NS_SASL), (failure.name, failure.uri))
        self.assertEqual("failure", (await self.asks(client, plain2(password="wrong"))).name)
        self.assertEqual("policy-violation", client.stream_error())

    async def test_the_database_is_away(self) -> None:
        client = self.client()
        self.server.method.problem = DatabaseUnavailable("away")
        await self.fails("temporary-auth-failure", client, plain2())
        self.server.method.problem = None
        await self.succeeds(client, plain2())


class Identities(Sasl2Dialogues):
    async def test_an_authorization_string(self) -> None:
        await self.succeeds(self.client(), authenticate("PLAIN", b"ann@a.example\0ann\0pencil"))
        await self.fails("invalid-authzid", self.client(), authenticate("PLAIN", b"bob@a.example\0ann\0pencil"))

    async def test_from_is_who_authenticates(self) -> None:
        for sender in ("ann@a.example", "ANN@A.example/phone", "a.example", "@"):
            await self.succeeds(self.client(**{"from": sender}), plain2())
        client = self.client(**{"from": "bob@a.example"})
        await self.fails("invalid-authzid", client, plain2(inner=bind2()))
        self.assertEqual([], self.server.observer().bound)
        await self.succeeds(client, plain2("bob"))

    async def test_from_of_another_domain(self) -> None:
        client = self.server.connects()
        client.header("a.example", **{"from": "ann@b.example"})
        self.assertEqual("invalid-from", client.stream_error())

    async def test_the_domain_goes(self) -> None:
        self.server.method.answer = Deferred()
        for inner in ("", bind2()):
            client = self.client("b.example")
            client.sends(plain2(inner=inner))
        self.server.domains.delete("b.example")
        self.server.method.answer.callback(None)
        await self.settle()
        self.assertEqual("host-gone", client.stream_error())
        self.assertEqual([], self.server.observer().bound)


class Order(Sasl2Dialogues):
    """Section 2.4: nothing but the exchange comes while it goes on. Section 4.8: there is one exchange."""

    async def in_exchange(self) -> Client:
        client = self.client()
        challenge = await self.asks(client, authenticate("SCRAM-SHA-1", b"n,,n=ann,r=x"))
        self.assertEqual("challenge", challenge.name)
        return client

    async def test_anything_else_in_an_exchange(self) -> None:
        for sent, expected in (
            (plain2(), "policy-violation"),
            (plain("ann"), "policy-violation"),
            (f"<next xmlns='{NS_SASL2}' task='x'/>", "policy-violation"),
            ("<message/>", "not-authorized"),
            (bind("x"), "not-authorized"),
            ("<x xmlns='y'/>", "unsupported-stanza-type"),
        ):
            client = await self.in_exchange()
            client.sends(sent)
            self.assertEqual(expected, client.stream_error(), sent)
        self.assertEqual(NOTHING, self.server.balance)

    async def test_the_new_profile_in_an_exchange_of_the_old(self) -> None:
        client = self.client()
        await self.asks(client, auth("SCRAM-SHA-1", b"n,,n=ann,r=x"))
        client.sends(plain2())
        self.assertEqual("policy-violation", client.stream_error())

    async def test_a_second_time(self) -> None:
        for inner, expected in (("", "policy-violation"), (bind2(), "unsupported-stanza-type")):
            client = self.client()
            client.sends(plain2(inner=inner) + plain2("bob"))
            await self.settle()
            self.assertEqual(["success", "features"], [client.receives().name for _ in range(2)])
            self.assertEqual(expected, client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)

    async def test_tasks_and_what_only_servers_say(self) -> None:
        for name in ("success", "continue", "next", "task-data", "magic"):
            client = self.client()
            client.sends(f"<{name} xmlns='{NS_SASL2}'/>")
            self.assertEqual("unsupported-stanza-type", client.stream_error())

    async def test_the_client_goes_while_the_database_is_asked(self) -> None:
        for inner in ("", bind2()):
            answer: Any = Deferred()
            self.server.method.answer = answer
            client = self.client()
            client.sends(plain2(inner=inner))
            client.loses()
            answer.callback(None)
            await self.settle()
            self.assertEqual(NOTHING, self.server.balance)
        self.assertEqual([], self.server.observer().bound)

    async def test_it_takes_too_long(self) -> None:
        self.server.method.answer = Deferred()
        client = self.client()
        client.sends(plain2(inner=bind2()))
        self.server.clock.advance(30)
        self.assertEqual("connection-timeout", client.stream_error())
        self.server.method.answer.callback(None)
        await self.settle()
        self.assertEqual(NOTHING, self.server.balance)
