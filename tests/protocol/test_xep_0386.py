"""XEP-0386 Bind 2, and what XEP-0198 says of stream management with it."""

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.config.acl import AccessClause, AclPattern
from dynxmpp.core.interfaces import Session
from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.module import Module, ModuleContext, Stanza, bind_inline
from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.sasl2 import Sasl2
from dynxmpp.modules.stream_management import StreamManagement
from tests.fixtures.c2s import NOTHING, Client, bind, condition, header
from tests.fixtures.dialogue import parse
from tests.protocol.sasl2_dialogues import AGENT, OTHER_AGENT, Sasl2Dialogues, bind2, child, identifier, plain2

NS_BIND2 = "urn:xmpp:bind:0"
ENABLE = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
METADATA = "<metadata xmlns='urn:xmpp:mam:2'/>"


class Lamp(Module):
    """Can be lit while binding; while it is, it keeps what is sent to the session."""

    name = "mod_lamp"
    bind_features = ("urn:example:lamp", "urn:example:lamp#dim")

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.lit: list[str] = []
        self.kept: list[Stanza] = []

    @bind_inline("urn:example:lamp", "light")
    def light(self, session: Session, element: domish.Element) -> bytes | None:
        self.lit.append(f"{session.jid.full} {element.getAttribute('colour')}")
        return b"<lit xmlns='urn:example:lamp'/>" if element.hasAttribute("answer") else None

    @bind_inline("urn:example:lamp", "keep")
    def keep(self, session: Session, element: domish.Element) -> None:
        def gate(stanza: Stanza, data: bytes) -> bool:
            self.kept.append(stanza)
            return True

        session.gate = gate

    @bind_inline("urn:example:lamp", "break")
    def fuse(self, session: Session, element: domish.Element) -> None:
        raise ZeroDivisionError


class Archive(Module):
    """Knows something of the account that has to be looked up."""

    name = "mod_archive"

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.answer: Deferred[None] | None = None
        self.asked: list[str] = []

    async def bound(self, session: Session) -> bytes:
        self.asked.append(session.jid.full)
        if self.answer is not None:
            await self.answer
        return METADATA.encode()


class Greeter(Module):
    """Sends something to each session at once."""

    name = "mod_greeter"

    def session_bound(self, session: Session) -> None:
        stanza = parse("<message><body>Hello</body></message>")
        session.deliver(stanza, stanza.to_bytes())


class BindCase(Sasl2Dialogues):
    modules = (Sasl2, Bind2, Lamp)

    def module(self, name: str) -> Any:
        return self.server.type_of("a.example").modules[name]

    async def binds(self, inner: str = "", tag: str | None = "AwesomeXMPP", **options: Any) -> domish.Element:
        return await self.succeeds(self.client(), plain2(inner=bind2(inner, tag), **options))

    def addresses(self, account: str = "ann@a.example") -> list[str]:
        return [session.jid.full for session in self.server.sessions.of(account)]


class Features(BindCase):
    modules = (Sasl2, Bind2, Lamp, StreamManagement)

    async def test_inline_features(self) -> None:
        client = self.server.connects()
        client.header()
        inline = child(child(client.receives("features"), "authentication"), "inline")
        offered = child(child(inline, "bind"), "inline")
        self.assertEqual(
            ["urn:example:lamp", "urn:example:lamp#dim", "urn:xmpp:sm:3"], [e["var"] for e in offered.elements()]
        )

    async def test_features_of_a_bound_stream(self) -> None:
        client = self.client()
        await self.succeeds(client, plain2(inner=bind2()))
        self.assertEqual(["sm"], [e.name for e in client.receives("features").elements()])


class Resources(BindCase):
    async def test_bound(self) -> None:
        client = self.client()
        success = await self.succeeds(client, plain2(inner=bind2()))
        self.assertRegex(identifier(success), "^ann@a.example/AwesomeXMPP/[0-9a-f]{24}$")
        self.assertEqual(NS_BIND2, child(success, "bound").uri)
        self.assertEqual([identifier(success)], self.addresses())
        self.assertEqual([identifier(success)], self.server.observer().bound)
        client.receives("features")
        self.assertEqual([], client.received())

    async def test_the_same_for_a_client_with_an_id(self) -> None:
        first = identifier(await self.binds())
        self.assertEqual(first, identifier(await self.binds(agent=AGENT.upper())))
        for other in (
            identifier(await self.binds(agent=OTHER_AGENT)),
            identifier(await self.binds(tag="Other")),
            identifier(await self.binds(username="bob")),
        ):
            self.assertNotEqual(first.rpartition("/")[2], other.rpartition("/")[2])

    async def test_another_one_each_time_for_a_client_without(self) -> None:
        first, second = identifier(await self.binds(agent=None)), identifier(await self.binds(agent=None))
        self.assertNotEqual(first, second)
        self.assertEqual([first, second], self.addresses())

    async def test_the_id_is_not_shown(self) -> None:
        shown = re.sub("[^0-9a-f]", "", identifier(await self.binds(tag=None)).partition("/")[2])
        self.assertNotIn(shown[:8], AGENT.replace("-", ""))

    async def test_without_a_tag(self) -> None:
        for tag in (None, ""):
            self.assertRegex(identifier(await self.binds(tag=tag)), "^ann@a.example/[0-9a-f]{24}$")

    async def test_a_tag_is_prepared_and_escaped(self) -> None:
        self.assertRegex(identifier(await self.binds(tag="a\u00a0&lt;b/c")), "^ann@a.example/a <b/c/[0-9a-f]{24}$")

    async def test_tags_that_cannot_be(self) -> None:
        for tag in ("a\u0085b", "\u200e", "x" * 999, "ä" * 500):
            await self.fails("malformed-request", self.client(), plain2(inner=bind2(tag=tag)))
        await self.binds(tag="x" * 998)

    async def test_who_may_not_bind(self) -> None:
        allowed = AclPattern(user="ann", resource_glob="good/*")
        rules = {"c2s": (AccessClause(acl="good", value="allow"),)}
        await self.serve(tls="tls", access="c2s", rules=rules, acl={"good": (allowed,)})
        await self.fails("not-authorized", self.client(), plain2(inner=bind2()))
        self.assertEqual([], self.addresses())
        await self.binds(tag="good")

    async def test_earlier_sessions_of_the_same_client_end(self) -> None:
        """Also under another tag; those of other clients and accounts stay."""
        old, other, neighbour = self.client(), self.client(), self.client()
        await self.succeeds(old, plain2(inner=bind2(tag="old")))
        await self.succeeds(other, plain2(inner=bind2(), agent=OTHER_AGENT))
        await self.succeeds(neighbour, plain2("bob", inner=bind2()))
        await self.binds(tag="new")
        old.receives("features")
        self.assertEqual("conflict", old.stream_error())
        self.assertTrue(other.is_open and neighbour.is_open)
        self.assertEqual(2, len(self.addresses()))

    async def test_the_session_cannot_bind_again(self) -> None:
        client = self.client()
        await self.succeeds(client, plain2(inner=bind2()))
        client.receives("features")
        self.assertEqual("not-allowed", condition(client.binds("x")))

    async def test_without_the_module_it_is_passed_over(self) -> None:
        type(self).modules, everything = (Sasl2,), type(self).modules
        self.addCleanup(setattr, type(self), "modules", everything)
        await self.serve(tls="tls")
        client = self.client()
        success = await self.succeeds(client, plain2(inner=bind2()))
        self.assertEqual(["authorization-identifier"], [e.name for e in success.elements()])
        client.receives("features")
        self.assertEqual("result", client.binds("x")["type"])

    async def test_the_end_of_the_session(self) -> None:
        client = self.client()
        bound = identifier(await self.succeeds(client, plain2(inner=bind2())))
        client.loses()
        self.assertEqual([bound], self.server.observer().ended)
        self.assertEqual(NOTHING, self.server.balance)


class Inlines(BindCase):
    async def test_asked_for(self) -> None:
        success = await self.binds("<light xmlns='urn:example:lamp' colour='red'/>")
        self.assertEqual([f"{identifier(success)} red"], self.module("mod_lamp").lit)
        self.assertEqual([], list(child(success, "bound").elements()))

    async def test_with_an_answer(self) -> None:
        success = await self.binds("<light xmlns='urn:example:lamp' answer='1'/>")
        self.assertEqual(["lit"], [e.name for e in child(success, "bound").elements()])

    async def test_unknown_ones_are_passed_over(self) -> None:
        success = await self.binds("<light xmlns='urn:example:other'/><light/>")
        self.assertEqual([], list(child(success, "bound").elements()))
        self.assertEqual([], self.module("mod_lamp").lit)

    async def test_twice(self) -> None:
        inner = bind2("<light xmlns='urn:example:lamp'/>" * 2)
        await self.fails("malformed-request", self.client(), plain2(inner=inner))
        self.assertEqual([], self.module("mod_lamp").lit)

    async def test_one_that_breaks(self) -> None:
        client = self.client()
        client.sends(plain2(inner=bind2("<break xmlns='urn:example:lamp'/>")))
        with self.assertRaises(ZeroDivisionError):
            await self.settle()
        self.assertEqual("internal-server-error", client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)


class Metadata(BindCase):
    """The session is there while the archive is asked: what it is sent meanwhile comes after <success/>."""

    modules = (Sasl2, Bind2, Lamp, Archive, Greeter)

    async def begin(self, inner: str = "") -> Client:
        self.module("mod_archive").answer = Deferred()
        client = self.client()
        client.sends(plain2(inner=bind2(inner)))
        (session,) = self.server.sessions.of("ann@a.example")
        stanza = parse("<message><body>meanwhile</body></message>")
        session.deliver(stanza, stanza.to_bytes())
        return client

    async def go_on(self, problem: Exception | None = None) -> None:
        answer = self.module("mod_archive").answer
        answer.callback(None) if problem is None else answer.errback(problem)
        await self.settle()

    async def test_what_is_known_of_the_account(self) -> None:
        success = await self.binds()
        self.assertEqual(
            [("metadata", "urn:xmpp:mam:2")], [(e.name, e.uri) for e in child(success, "bound").elements()]
        )
        self.assertEqual([identifier(success)], self.module("mod_archive").asked)

    async def test_nothing_overtakes_success(self) -> None:
        client = await self.begin()
        self.assertEqual([], client.received())
        await self.go_on()
        elements = client.received()
        self.assertEqual(["success", "features", "message", "message"], [e.name for e in elements])
        self.assertEqual(["Hello", "meanwhile"], [str(e.body) for e in elements[2:]])
        (session,) = self.server.sessions.of("ann@a.example")
        self.assertIsNone(session.gate)

    async def test_a_gate_of_a_feature_comes_second(self) -> None:
        client = await self.begin("<keep xmlns='urn:example:lamp'/>")
        self.assertEqual([], self.module("mod_lamp").kept)
        await self.go_on()
        self.assertEqual(["success", "features"], [e.name for e in client.received()])
        self.assertEqual(["message", "message"], [stanza.name for stanza in self.module("mod_lamp").kept])

    async def test_a_database_that_is_away_keeps_nobody_out(self) -> None:
        client = await self.begin()
        await self.go_on(DatabaseUnavailable("away"))
        elements = client.received()
        self.assertEqual([], list(child(elements[0], "bound").elements()))
        self.assertEqual(4, len(elements))

    async def test_a_fault(self) -> None:
        client = await self.begin()
        with self.assertRaises(ZeroDivisionError):
            await self.go_on(ZeroDivisionError())
        self.assertEqual(["message", "message"], [client.receives().name for _ in range(2)])
        self.assertEqual("internal-server-error", client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)

    async def test_the_client_goes_meanwhile(self) -> None:
        client = await self.begin()
        client.loses()
        await self.go_on()
        self.assertEqual([], client.received())
        self.assertEqual(NOTHING, self.server.balance)


class StreamManagementInline(BindCase):
    """XEP-0198 9."""

    modules = (Sasl2, Bind2, Archive, StreamManagement)

    async def enabled(self, client: Client, inner: str = "") -> str:
        """The id of the session."""
        success = await self.succeeds(client, plain2(inner=inner + bind2(ENABLE)))
        client.receives("features")
        return str(child(child(success, "bound"), "enabled")["id"])

    def resume(self, previous: str, h: int = 0) -> str:
        return f"<resume xmlns='urn:xmpp:sm:3' previd='{previous}' h='{h}'/>"

    def send(self, text: str) -> None:
        (session,) = self.server.sessions.of("ann@a.example")
        stanza = parse(f"<message><body>{text}</body></message>")
        session.deliver(stanza, stanza.to_bytes())

    async def test_enabled(self) -> None:
        client = self.client()
        await self.enabled(client)
        self.send("1")
        self.assertEqual("1", str(client.receives("message").body))
        client.receives("r")
        client.sends("<presence/><r xmlns='urn:xmpp:sm:3'/>")
        self.assertEqual("1", client.receives("a")["h"])

    async def test_what_was_held_counts(self) -> None:
        client = self.client()
        self.module("mod_archive").answer = Deferred()
        client.sends(plain2(inner=bind2(ENABLE)))
        self.send("1")
        self.module("mod_archive").answer.callback(None)
        await self.settle()
        previous = child(child(client.receives("success"), "bound"), "enabled")["id"]
        client.loses()
        again = self.client()
        await self.succeeds(again, plain2(inner=self.resume(previous)))
        self.assertEqual("1", str(again.receives("message").body))

    async def test_resumed(self) -> None:
        client = self.client()
        previous = await self.enabled(client)
        (address,) = self.addresses()
        client.sends("<presence/>")
        client.loses()
        self.send("1")
        again = self.server.connects()
        # All in one write, as a client does that knows what is offered.
        begin = header({"to": "a.example", "version": "1.0"})
        again.sends(
            begin + plain2(inner=self.resume(previous) + bind2(ENABLE)) + "<presence><show>away</show></presence>"
        )
        await self.settle()
        again.receives("features")
        success = again.receives("success")
        self.assertEqual(["authorization-identifier", "resumed"], [e.name for e in success.elements()])
        self.assertEqual((previous, "1"), (child(success, "resumed")["previd"], child(success, "resumed")["h"]))
        self.assertEqual("1", str(again.receives("message").body))  # and no features
        self.assertEqual([address], self.addresses())
        self.assertEqual([address], self.server.observer().bound)
        self.assertEqual(2, len(self.server.observer().seen))
        again.loses()
        self.assertEqual(0, sum(self.server.context.half_open.values()))

    async def test_a_session_that_is_not_there(self) -> None:
        success = await self.succeeds(self.client(), plain2(inner=self.resume("unknown") + bind2(ENABLE)))
        self.assertEqual(["authorization-identifier", "failed", "bound"], [e.name for e in success.elements()])
        self.assertEqual("item-not-found", next(child(success, "failed").elements()).name)
        child(child(success, "bound"), "enabled")
        self.assertEqual([identifier(success)], self.addresses())

    async def test_a_session_of_somebody_else(self) -> None:
        client = self.client()
        previous = await self.enabled(client)
        thief = self.client()
        success = await self.succeeds(thief, plain2("bob", inner=self.resume(previous)))
        self.assertEqual("item-not-found", next(child(success, "failed").elements()).name)
        self.assertEqual("bob@a.example", identifier(success))
        self.assertEqual("bind", next(thief.receives("features").elements()).name)
        self.assertTrue(client.is_open)

    async def test_a_failed_authentication_resumes_nothing(self) -> None:
        client = self.client()
        previous = await self.enabled(client)
        await self.fails("not-authorized", self.client(), plain2(inner=self.resume(previous), password="wrong"))
        self.assertTrue(client.is_open)

    async def test_an_impossible_h(self) -> None:
        client = self.client()
        previous = await self.enabled(client)
        client.loses()
        again = self.client()
        again.sends(plain2(inner=self.resume(previous, 7)))
        await self.settle()
        self.assertEqual("undefined-condition", again.stream_error())

    async def test_enabled_twice(self) -> None:
        client = self.client()
        await self.enabled(client)
        client.sends(ENABLE)
        client.receives("failed")

    async def test_after_authentication_alone(self) -> None:
        """As of old: bind, then enable."""
        client = self.client()
        await self.succeeds(client, plain2())
        client.receives("features")
        client.sends(bind("x") + ENABLE)
        self.assertEqual(["iq", "enabled"], [e.name for e in client.received()])
