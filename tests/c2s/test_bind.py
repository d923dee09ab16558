"""Binding a resource: RFC 6120 7, and the session of RFC 3921 3."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.config.acl import AccessClause, AclPattern
from dynxmpp.core.interfaces import Session
from dynxmpp.wire.ns import NS_BIND, NS_SESSION
from tests.fixtures.c2s import NOTHING, C2SServer, Client, Observer, bind, condition

SESSION = f"<iq type='set' id='s1'><session xmlns='{NS_SESSION}'/></iq>"


class BindCase(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer()

    def client(self, username: str = "ann", domain: str = "a.example") -> Client:
        client = self.server.connects()
        client.authenticated(username, domain)
        return client

    def bound(self, resource: str | None) -> str:
        reply = self.client().binds(resource)
        self.assertEqual(("result", "b1"), (reply["type"], reply["id"]))
        return str(reply.bind.jid)

    def refused(self, expected: str, sent: str, client: Client | None = None) -> Client:
        """An error, after which the client may try again."""
        client = client or self.client()
        client.sends(sent)
        reply = client.receives("iq")
        self.assertEqual(("error", expected), (reply["type"], condition(reply)))
        self.assertTrue(client.is_open)
        self.assertEqual([], self.server.sessions.of("ann@a.example"))
        self.assertEqual("result", client.binds("again")["type"])
        client.loses()
        return client


class Resources(BindCase):
    def test_of_the_clients_choice(self) -> None:
        self.assertEqual("ann@a.example/phone", self.bound("phone"))

    def test_prepared(self) -> None:
        self.assertEqual("ann@a.example/a b", self.bound("a\u00a0b"))
        self.assertEqual("ann@a.example/<&>", self.bound("&lt;&amp;&gt;"))

    def test_of_our_choice(self) -> None:
        first, second = self.bound(None), self.bound(None)
        self.assertNotEqual(first, second)
        self.assertRegex(first, "^ann@a.example/[0-9a-f]{24}$")

    def test_an_empty_one_is_none(self) -> None:
        self.assertRegex(self.bound(""), "^ann@a.example/[0-9a-f]{24}$")

    def test_forbidden_characters(self) -> None:
        for resource in ("a\u0085b", "\ue000", "\u200e"):
            self.refused("bad-request", bind(resource))

    def test_length(self) -> None:
        client = self.client()
        self.assertEqual("ann@a.example/" + "x" * 1023, str(client.binds("x" * 1023).bind.jid))
        client.loses()
        self.refused("bad-request", bind("x" * 1024))
        self.refused("bad-request", bind("ä" * 512))

    def test_a_request_without_id(self) -> None:
        self.refused("bad-request", bind("phone", id_=None))

    def test_the_user_name_is_the_authenticated_one(self) -> None:
        reply = self.client("Bob").binds("x")
        self.assertEqual("bob@a.example/x", str(reply.bind.jid))

    def test_in_the_table_from_now_on(self) -> None:
        client = self.client()
        client.binds("phone")
        session = self.server.sessions.of("ann@a.example")[0]
        self.assertEqual("ann@a.example/phone", session.jid.full)
        self.assertFalse(session.available)
        self.assertEqual((1, {}, 1, 1), self.server.balance)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().bound)
        client.loses()
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.assertEqual(NOTHING, self.server.balance)


class AfterBinding(BindCase):
    def test_once_more(self) -> None:
        """RFC 6120 7 has one resource a stream; another one is refused as 7.6.2.2 says."""
        client = self.client()
        client.binds("phone")
        reply = client.binds("tablet")
        self.assertEqual(("error", "not-allowed"), (reply["type"], condition(reply)))
        self.assertEqual("ann@a.example/phone", reply["to"])
        self.assertTrue(client.is_open)
        self.assertEqual(["ann@a.example/phone"], [s.jid.full for s in self.server.sessions])

    def test_both_at_once(self) -> None:
        client = self.client()
        client.sends(bind("phone") + bind("tablet", "b2"))
        first, second = client.receives("iq"), client.receives("iq")
        self.assertEqual(("result", "error"), (first["type"], second["type"]))

    def test_the_session_that_old_clients_ask_for(self) -> None:
        client = self.client()
        client.sends(bind("phone") + SESSION)
        client.receives("iq")
        reply = client.receives("iq")
        self.assertEqual(("result", "s1", []), (reply["type"], reply["id"], list(reply.elements())))

    def test_a_stanza_right_behind(self) -> None:
        client = self.client()
        client.sends(bind("phone") + "<message to='ann@a.example/phone' id='m'/>")
        client.receives("iq")
        self.assertEqual("m", client.receives("message")["id"])


class Conflict(BindCase):
    async def test_the_newer_one_stays(self) -> None:
        old = await self.server.logged_in("ann@a.example/phone")
        other = await self.server.logged_in("ann@a.example/tablet")
        await self.server.logged_in("ann@a.example/phone")
        self.assertEqual("conflict", old.stream_error())
        self.assertTrue(other.is_open)
        observer = self.server.observer()
        self.assertEqual(["ann@a.example/phone"], observer.ended)
        self.assertEqual(3, len(observer.bound))
        jids = [s.jid.full for s in self.server.sessions.of("ann@a.example")]
        self.assertEqual(["ann@a.example/tablet", "ann@a.example/phone"], jids)

    async def test_messages_go_to_the_newer_one(self) -> None:
        old = await self.server.logged_in("ann@a.example/phone")
        new = await self.server.logged_in("ann@a.example/phone")
        old.received()
        new.sends("<message to='ann@a.example/phone' id='m'/>")
        self.assertEqual("m", new.receives("message")["id"])
        self.assertEqual([], old.received())

    async def test_the_old_connection_is_long_dead(self) -> None:
        old = await self.server.logged_in("ann@a.example/phone")
        old.transport.peer_reads = False
        await self.server.logged_in("ann@a.example/phone")
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.server.clock.advance(10)
        self.assertFalse(old.transport.connected)
        self.assertEqual((1, {}, 1, 1), self.server.balance)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)

    async def test_in_another_spelling(self) -> None:
        old = await self.server.logged_in("ann@a.example/a b")
        self.client().binds("a\u00a0b")
        self.assertEqual("conflict", old.stream_error())


class MaxUserSessions(BindCase):
    async def sessions(self, *users: str) -> list[Client]:
        return [await self.server.logged_in(user) for user in users]

    async def test_the_oldest_ends(self) -> None:
        self.server = C2SServer(rules={"max_user_sessions": (AccessClause(acl="all", value=2),)})
        first, bob, second, third = await self.sessions(
            "ann@a.example/1", "bob@a.example/1", "ann@a.example/2", "ann@a.example/3"
        )
        self.assertEqual("policy-violation", first.stream_error())
        self.assertTrue(bob.is_open and second.is_open and third.is_open)
        self.assertEqual(["ann@a.example/1"], self.server.observer().ended)

    async def test_who_replaces_a_session_makes_room(self) -> None:
        self.server = C2SServer(rules={"max_user_sessions": (AccessClause(acl="all", value=2),)})
        first, second, third = await self.sessions("ann@a.example/1", "ann@a.example/2", "ann@a.example/2")
        self.assertTrue(first.is_open and third.is_open)
        self.assertEqual("conflict", second.stream_error())

    async def test_without_limit(self) -> None:
        self.server = C2SServer(rules={"max_user_sessions": (AccessClause(acl="all", value="infinity"),)})
        await self.sessions(*(f"ann@a.example/{n}" for n in range(105)))
        self.assertEqual(105, len(self.server.sessions))

    async def test_without_rule(self) -> None:
        await self.sessions(*(f"ann@a.example/{n}" for n in range(105)))
        self.assertEqual(100, len(self.server.sessions))


class Access(BindCase):
    def setUp(self) -> None:
        self.server = C2SServer(
            access="c2s",
            acl={"blocked": (AclPattern(match="current_domain", user="bob"),)},
            rules={
                "c2s": (AccessClause(acl="blocked", value="deny"), AccessClause(acl="all", value="allow")),
            },
        )

    def test_denied(self) -> None:
        client = self.client("bob")
        reply = client.binds("phone")
        self.assertEqual(("error", "not-allowed"), (reply["type"], condition(reply)))
        self.assertTrue(client.is_open)
        self.assertEqual(0, len(self.server.sessions))

    def test_allowed(self) -> None:
        self.assertEqual("result", self.client("ann").binds("phone")["type"])

    def test_a_rule_that_there_is_not(self) -> None:
        self.server = C2SServer(access="nothing")
        self.assertEqual("not-allowed", condition(self.client("ann").binds("phone")))


class TheDomainGoes(BindCase):
    def test_before_binding(self) -> None:
        client, bystander = self.client("ann", "b.example"), self.client()
        self.server.domains.delete("b.example")
        client.sends(bind("phone"))
        self.assertEqual("host-gone", client.stream_error())
        self.assertTrue(bystander.is_open)
        self.assertEqual([], self.server.observer().bound)

    def test_and_comes_back_as_somebody_elses(self) -> None:
        """Who has authenticated with the accounts of one host type is nobody in another."""
        client = self.client("ann", "b.example")
        self.server.domains.delete("b.example")
        self.server.domains.insert("b.example", "other")
        client.sends(bind("phone"))
        self.assertEqual("host-gone", client.stream_error())
        self.assertEqual(0, len(self.server.sessions))


class Broken(Observer):
    """A module whose ideas about sessions are wrong."""

    name = "mod_broken"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.breaks_at = ""

    def session_bound(self, session: Session) -> None:
        if self.breaks_at == "bound":
            raise ZeroDivisionError

    def session_ended(self, session: Session) -> None:
        if self.breaks_at == "ended":
            raise ZeroDivisionError


class BrokenModules(BindCase):
    def setUp(self) -> None:
        self.server = C2SServer(modules=[Broken])

    def breaks_at(self, what: str) -> None:
        module: Any = self.server.type_of("a.example").modules["mod_broken"]
        module.breaks_at = what

    async def test_when_a_session_begins(self) -> None:
        bystander = await self.server.logged_in("bob@a.example/x")
        client = self.client()
        self.breaks_at("bound")
        client.sends(bind("phone"))
        self.assertEqual(NS_BIND, client.receives("iq").bind.uri)
        self.assertEqual("internal-server-error", client.stream_error())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertTrue(bystander.is_open)
        self.assertEqual((1, {}, 1, 1), self.server.balance)

    async def test_when_a_session_ends(self) -> None:
        bystander = await self.server.logged_in("bob@a.example/x")
        self.breaks_at("ended")
        for end in (
            lambda client: client.loses(),
            lambda client: client.sends("</stream:stream>"),
            lambda client: client.sends("<x/>"),
        ):
            client = await self.server.logged_in("ann@a.example/phone")
            end(client)
            self.assertFalse(client.transport.connected)
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
            self.assertTrue(bystander.is_open)
            self.assertEqual((1, {}, 1, 1), self.server.balance)
