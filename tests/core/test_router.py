"""The way of a stanza: RFC 6120 10, RFC 6121 8, filters, the slow lane."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.core.iq_registry import IQ, DuplicateHandler, Target
from dynxmpp.module import Direction, Filter, Module, Phase, StanzaError, Stop, Unavailable, Wait, iq_get, iq_set
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import Accounts, Host, TestSession


def condition(stanza: domish.Element) -> str:
    """The defined condition of an error stanza."""
    assert stanza["type"] == "error", stanza.toXml()
    return str(next(c.name for c in stanza.error.elements() if c.name != "text"))


class Echo(Module):
    """Answers, later if asked to, or fails."""

    name = "mod_echo"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.later: list[Deferred[None]] = []
        self.order: list[str] = []

    @iq_get("urn:test", "now", at=Target.DOMAIN | Target.ACCOUNT)
    def now(self, iq: IQ) -> domish.Element:
        self.order.append("now")
        answer = domish.Element(("urn:test", "now"))
        answer["who"] = iq.sender.full
        answer["what"] = iq.recipient.full
        return answer

    @iq_set("urn:test", "empty", at=Target.DOMAIN)
    def empty(self, iq: IQ) -> None:
        return None

    @iq_get("urn:test", "later", at=Target.DOMAIN | Target.ACCOUNT)
    async def on_later(self, iq: IQ) -> domish.Element:
        waiting: Deferred[None] = Deferred()
        self.later.append(waiting)
        await waiting
        self.order.append("later")
        return domish.Element(("urn:test", "later"))

    @iq_get("urn:test", "bug", at=Target.DOMAIN)
    def bug(self, iq: IQ) -> None:
        raise ZeroDivisionError

    @iq_get("urn:test", "late-bug", at=Target.DOMAIN)
    async def late_bug(self, iq: IQ) -> None:
        raise ZeroDivisionError

    @iq_get("urn:test", "no", at=Target.DOMAIN)
    def refuses(self, iq: IQ) -> None:
        raise StanzaError("forbidden", text="not you")

    @iq_get("urn:test", "away", at=Target.DOMAIN)
    def away(self, iq: IQ) -> None:
        raise Unavailable


class RouterTestCase(TestCase):
    modules: list[Any] = [Echo]

    async def setUp(self) -> None:
        self.host = await Host(self.modules).start()
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.juliet = self.host.session("juliet@capulet.example/balcony")

    def module(self, name: str) -> Any:
        return self.host.host_types[0].modules[name]

    async def errors(self, xml: str, by: TestSession | None = None) -> str:
        session = by or self.romeo
        session.sends(xml)
        return condition(await session.receives())


class IQs(RouterTestCase):
    async def test_a_domain_answers(self) -> None:
        self.romeo.sends("<iq type='get' id='1' to='capulet.example'><now xmlns='urn:test'/></iq>")
        reply = await self.romeo.receives("iq")
        self.assertEqual(
            ("result", "1", "capulet.example", "romeo@montague.example/orchard", "capulet.example"),
            (reply["type"], reply["id"], reply["from"], reply["to"], reply.now["what"]),
        )

    async def test_without_to_the_own_account_answers(self) -> None:
        self.romeo.sends("<iq type='get' id='1'><now xmlns='urn:test'/></iq>")
        reply = await self.romeo.receives("iq")
        self.assertEqual("romeo@montague.example", reply["from"])

    async def test_an_empty_result(self) -> None:
        self.romeo.sends("<iq type='set' id='1' to='capulet.example'><empty xmlns='urn:test'/></iq>")
        reply = await self.romeo.receives("iq")
        self.assertEqual(("result", []), (reply["type"], reply.children))

    async def test_malformed_requests(self) -> None:
        for xml in [
            "<iq type='get' to='capulet.example'><now xmlns='urn:test'/></iq>",
            "<iq type='foo' id='1' to='capulet.example'><now xmlns='urn:test'/></iq>",
            "<iq id='1' to='capulet.example'><now xmlns='urn:test'/></iq>",
            "<iq type='get' id='1' to='capulet.example'/>",
            "<iq type='set' id='1' to='capulet.example'><now xmlns='urn:test'/><now xmlns='urn:test'/></iq>",
            "<iq type='get' id='1'/>",
            "<presence type='foo'/>",
        ]:
            self.assertEqual("bad-request", await self.errors(xml), xml)

    async def test_answers_are_never_answered(self) -> None:
        for xml in [
            "<iq type='result' id='1' to='nowhere.example'/>",
            "<iq type='result' id='1' to='juliet@capulet.example'/>",
            "<iq type='result' id='1' to='juliet@capulet.example/gone'/>",
            "<iq type='error' id='1' to='capulet.example'/>",
            "<iq type='result' id='1'><a xmlns='b'/><a xmlns='b'/></iq>",
            "<message type='error' to='nowhere.example'/>",
            "<message type='error' to='@'/>",
            "<presence type='error' to='nowhere.example'/>",
        ]:
            self.romeo.sends(xml)
        await self.host.silence(self.romeo, self.juliet)

    async def test_unknown_payloads_and_places(self) -> None:
        for to, expected in [
            ("capulet.example", "service-unavailable"),
            ("juliet@capulet.example", "service-unavailable"),
            ("juliet@capulet.example/gone", "service-unavailable"),
            ("nobody@capulet.example", "service-unavailable"),
            ("capulet.example/x", "service-unavailable"),
            ("nowhere.example", "remote-server-not-found"),
            ("sub.capulet.example", "remote-server-not-found"),
            ("basic", "remote-server-not-found"),
            ("a@b@c", "jid-malformed"),
            ("", "jid-malformed"),
        ]:
            xml = f"<iq type='get' id='1' to='{to}'><unknown xmlns='urn:test'/></iq>"
            self.assertEqual(expected, await self.errors(xml), to)

    async def test_an_account_that_does_not_exist_answers_as_one_that_knows_nothing(self) -> None:
        xml = "<iq type='get' id='1' to='nobody@capulet.example'><now xmlns='urn:test'/></iq>"
        self.assertEqual("service-unavailable", await self.errors(xml))

    async def test_a_cold_account_answers(self) -> None:
        self.host.accounts.cold.add("nurse@capulet.example")
        reply = await self.romeo.asks("<iq type='get' id='1' to='nurse@capulet.example'><now xmlns='urn:test'/></iq>")
        self.assertEqual("result", reply["type"])

    async def test_between_resources(self) -> None:
        self.romeo.sends("<iq type='get' id='9' to='juliet@capulet.example/balcony'><x xmlns='y'/></iq>")
        request = await self.juliet.receives("iq")
        self.assertEqual("romeo@montague.example/orchard", request["from"])
        self.juliet.sends("<iq type='result' id='9' to='romeo@montague.example/orchard'/>")
        self.assertEqual("9", (await self.romeo.receives("iq"))["id"])

    async def test_handlers_that_raise(self) -> None:
        for payload, expected in [("no", "forbidden"), ("away", "resource-constraint")]:
            xml = f"<iq type='get' id='1' to='capulet.example'><{payload} xmlns='urn:test'/></iq>"
            self.assertEqual(expected, await self.errors(xml))
        self.assertEqual([], self.flushLoggedErrors())

    async def test_a_bug_is_logged_and_harms_no_other_stanza(self) -> None:
        for payload in ("bug", "late-bug"):
            xml = f"<iq type='get' id='1' to='capulet.example'><{payload} xmlns='urn:test'/></iq>"
            self.assertEqual("internal-server-error", await self.errors(xml))
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        await self.test_a_domain_answers()

    async def test_what_was_sent_is_in_the_error(self) -> None:
        self.romeo.sends("<iq type='get' id='1' to='capulet.example'><no xmlns='urn:test'><x/></no></iq>")
        reply = await self.romeo.receives("iq")
        self.assertEqual(["no", "error"], [c.name for c in reply.elements()])
        self.assertEqual("not you", str(reply.error.text))
        self.assertEqual("urn:ietf:params:xml:ns:xmpp-stanzas", reply.error.forbidden.uri)


class Order(RouterTestCase):
    async def test_a_pair_waits_for_its_slow_stanza_and_nobody_else_does(self) -> None:
        nurse = self.host.session("nurse@capulet.example/kitchen")
        self.romeo.sends("<iq type='get' id='1' to='capulet.example'><later xmlns='urn:test'/></iq>")
        self.romeo.sends("<iq type='get' id='2' to='capulet.example'><now xmlns='urn:test'/></iq>")
        nurse.sends("<iq type='get' id='3' to='capulet.example'><now xmlns='urn:test'/></iq>")
        self.romeo.sends("<iq type='get' id='4' to='montague.example'><now xmlns='urn:test'/></iq>")
        self.assertEqual("3", (await nurse.receives())["id"])
        self.assertEqual("4", (await self.romeo.receives())["id"])
        self.assertFalse(self.romeo.received)
        self.module("mod_echo").later.pop().callback(None)
        self.assertEqual(["1", "2"], [(await self.romeo.receives())["id"] for _ in "12"])

    async def test_a_full_lane_refuses_and_says_so(self) -> None:
        self.romeo.sends("<iq type='get' id='x' to='capulet.example'><later xmlns='urn:test'/></iq>")
        for number in range(250):
            self.romeo.sends(f"<iq type='get' id='{number}' to='capulet.example'><now xmlns='urn:test'/></iq>")
        self.assertEqual(1, self.romeo.slowed)
        refused = {e["id"] for e in self.romeo.received}
        self.assertEqual({"resource-constraint"}, {condition(e) for e in self.romeo.received})
        self.romeo.received.clear()
        self.module("mod_echo").later.pop().callback(None)
        await self.host.settle()
        self.assertEqual(0, self.romeo.slowed)
        answered = [e["id"] for e in self.romeo.received]
        self.assertEqual(sorted(map(int, answered[1:])), list(map(int, answered[1:])))
        self.assertEqual(251, len(refused | set(answered)))
        self.assertFalse(refused & set(answered))

    async def test_results_overtake(self) -> None:
        self.romeo.sends("<iq type='get' id='1' to='juliet@capulet.example'><later xmlns='urn:test'/></iq>")
        self.romeo.sends("<iq type='result' id='7' to='juliet@capulet.example/balcony'/>")
        self.assertEqual("7", (await self.juliet.receives())["id"])
        self.module("mod_echo").later.pop().callback(None)
        await self.host.settle()


class Recorder(Module):
    """Filters whose answers a test chooses."""

    name = "mod_recorder"
    answers: dict[tuple[Direction, Phase], Any]

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.answers = {}
        self.seen: list[tuple[Direction, Phase]] = []

    def filters(self) -> Iterable[Filter]:
        for direction in (Direction.OUTGOING, Direction.INCOMING):
            for phase in reversed(Phase):
                yield Filter(direction, phase, self._filter(direction, phase), ("message",))

    def _filter(self, direction: Direction, phase: Phase) -> Any:
        def apply(stanza: Stanza, context: Any) -> Any:
            self.seen.append((direction, phase))
            answer = self.answers.get((direction, phase), stanza)
            return answer(stanza) if callable(answer) else answer

        return apply


class Filters(RouterTestCase):
    modules = [Recorder]

    async def setUp(self) -> None:
        await super().setUp()
        self.recorder = self.module("mod_recorder")

    def send(self) -> None:
        self.romeo.sends("<message id='m' to='juliet@capulet.example/balcony'><body>hi</body></message>")

    async def test_order(self) -> None:
        self.send()
        await self.juliet.receives("message")
        expected = [(d, p) for d in (Direction.OUTGOING, Direction.INCOMING) for p in Phase]
        self.assertEqual(expected, self.recorder.seen)

    async def test_stop_ends_the_way_in_silence(self) -> None:
        self.recorder.answers[Direction.INCOMING, Phase.POLICY] = Stop("test")
        self.send()
        await self.host.silence(self.romeo, self.juliet)
        self.assertEqual((Direction.INCOMING, Phase.POLICY), self.recorder.seen[-1])

    async def test_another_stanza_goes_on(self) -> None:
        self.recorder.answers[Direction.OUTGOING, Phase.STATE] = lambda s: s.appended(b"<seen xmlns='t'/>", "t seen")
        self.send()
        message = await self.juliet.receives("message")
        self.assertEqual(["body", "seen"], [c.name for c in message.elements()])

    async def test_a_stanza_that_waits_goes_on_where_it_left(self) -> None:
        waiting: Deferred[Stanza] = Deferred()

        async def answer(stanza: Stanza) -> Stanza:
            await waiting
            return stanza

        self.recorder.answers[Direction.INCOMING, Phase.ARCHIVE] = lambda s: Wait(answer(s))
        self.send()
        self.assertEqual((Direction.INCOMING, Phase.ARCHIVE), self.recorder.seen[-1])
        del self.recorder.answers[Direction.INCOMING, Phase.ARCHIVE]
        self.romeo.sends("<message id='behind' to='juliet@capulet.example/balcony'/>")
        self.assertFalse(self.juliet.received)
        waiting.callback(None)  # type: ignore[arg-type]
        self.assertEqual(["m", "behind"], [(await self.juliet.receives())["id"] for _ in "12"])
        self.assertEqual(2 * len(Phase) * 2, len(self.recorder.seen))

    async def test_a_filter_that_refuses(self) -> None:
        def refuse(stanza: Stanza) -> Stanza:
            raise StanzaError("not-acceptable")

        self.recorder.answers[Direction.INCOMING, Phase.POLICY] = refuse
        self.send()
        self.assertEqual("not-acceptable", condition(await self.romeo.receives()))
        await self.host.silence(self.juliet)

    async def test_a_broken_policy_lets_nothing_through_and_a_broken_copy_harms_nothing(self) -> None:
        def bug(stanza: Stanza) -> Stanza:
            raise ZeroDivisionError

        async def late_bug() -> Stanza:
            raise ZeroDivisionError

        for answer in (bug, lambda s: Wait(late_bug())):
            for phase in Phase:
                self.recorder.answers = {(Direction.INCOMING, phase): answer}
                self.send()
                await self.host.settle()
                self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)), phase)
                if phase is Phase.COPY:
                    await self.juliet.receives("message")
                else:
                    self.assertEqual("internal-server-error", condition(await self.romeo.receives()))
                await self.host.silence(self.romeo, self.juliet)


class Handlers(TestCase):
    async def test_two_handlers_for_one_payload_are_refused(self) -> None:
        class Twice(Echo):
            name = "mod_twice"

        self.assertRaises(DuplicateHandler, Host, [Echo, Twice])

    async def test_a_plain_wokkel_handler_is_a_module(self) -> None:
        from wokkel.generic import VersionHandler
        from wokkel.ping import PingHandler

        from dynxmpp.module import WokkelModule

        class Version(VersionHandler):
            def __init__(self) -> None:
                super().__init__("dynxmpp", "1")

        host = await Host([WokkelModule.wrap("mod_p", PingHandler), WokkelModule.wrap("mod_v", Version)]).start()
        romeo = host.session("romeo@montague.example/orchard")
        reply = await romeo.asks("<iq type='get' id='1' to='capulet.example'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.assertEqual(("result", "capulet.example"), (reply["type"], reply["from"]))
        reply = await romeo.asks("<iq type='get' id='2' to='capulet.example'><query xmlns='jabber:iq:version'/></iq>")
        self.assertEqual("dynxmpp", str(reply.query.elements().__next__()))
        self.assertIn("urn:xmpp:ping", host.host_types[0].features())

    async def test_account_lookup_that_fails(self) -> None:
        class Away(Accounts):
            async def exists(self, domain: str, username: str) -> bool:
                raise Unavailable

        host = await Host([Echo], accounts=Away()).start()
        romeo = host.session("romeo@montague.example/orchard")
        reply = await romeo.asks("<iq type='get' id='1' to='a@capulet.example'><now xmlns='urn:test'/></iq>")
        self.assertEqual("resource-constraint", condition(reply))
