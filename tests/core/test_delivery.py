"""RFC 6121 8.5.4, table 1: what becomes of a stanza, by its type, its address, and who is there to take it.

In the rows: `D` delivered to the one addressed, `M` to all of the highest priority, `A` to all that are not negative,
`E` an error for the sender, `O` kept offline (without a module that keeps, an error), `S` silence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.core.iq_registry import IQ, Target
from dynxmpp.module import Direction, Filter, Module, Phase, Stanza, StanzaError, Stop, Unavailable, Wait, iq_get
from tests.fixtures.dialogue import Accounts, Host, TestSession

TYPES = ("normal", "chat", "groupchat", "headline", "error", "unknown")
BARE = "juliet@capulet.example"


class Keeper(Module):
    """Keeps messages for accounts that nobody is there for, as an offline module does."""

    name = "mod_keeper"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.kept: list[Stanza] = []

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OFFLINE, Phase.DELIVER, self.keep)

    def keep(self, stanza: Stanza, context: Any) -> Stop:
        self.kept.append(stanza)
        return Stop("kept")


class Passer(Keeper):
    """An offline filter that wants no message."""

    name = "mod_passer"

    def keep(self, stanza: Stanza, context: Any) -> Any:
        self.kept.append(stanza)
        return stanza


class Ping(Module):
    """Answers for domains and accounts."""

    name = "mod_ping"

    @iq_get("urn:test", "ping", at=Target.DOMAIN | Target.ACCOUNT)
    def ping(self, iq: IQ) -> None:
        return None


@dataclass(frozen=True)
class Situation:
    """Juliet's account and the priorities of her resources r0, r1...; None is bound and not available."""

    name: str
    priorities: Sequence[int | None] = ()
    account: bool = True


MISSING = Situation("account missing", account=False)
ABSENT = Situation("no resources")
UNAVAILABLE = Situation("only an unavailable resource", (None,))
NEGATIVE = Situation("only negative resources", (-1, -5))
ONE = Situation("one non-negative resource", (0,))
SEVERAL = Situation("several non-negative resources", (5, -1, 5, 1))

#: The rows of the table: (situation, resource or None for the bare JID) -> what happens, in the order of TYPES.
ROWS: Mapping[tuple[Situation, str | None], str] = {
    #                       normal chat groupchat headline error unknown
    (MISSING, None): "EEESSE",
    (MISSING, "gone"): "EEEESE",
    (ABSENT, None): "OOESSO",
    (ABSENT, "gone"): "EOEESE",
    (UNAVAILABLE, None): "OOESSO",
    (UNAVAILABLE, "r0"): "DDDDDD",
    (UNAVAILABLE, "gone"): "EOEESE",
    (NEGATIVE, None): "OOESSO",
    (NEGATIVE, "r0"): "DDDDDD",
    (NEGATIVE, "gone"): "EOEESE",
    (ONE, None): "MMEASM",
    (ONE, "r0"): "DDDDDD",
    (ONE, "gone"): "EMEESE",
    (SEVERAL, None): "MMEASM",
    (SEVERAL, "r1"): "DDDDDD",
    (SEVERAL, "r3"): "DDDDDD",
    (SEVERAL, "gone"): "EMEESE",
}


class Scene:
    """Romeo, and Juliet as a situation has her."""

    def __init__(self, situation: Situation, modules: Sequence[type[Module]] = (), *, cold: bool = False) -> None:
        self.accounts = Accounts()
        self.host = Host(modules, accounts=self.accounts)
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.sessions: dict[str, TestSession] = {}
        for number, priority in enumerate(situation.priorities):
            session = self.sessions[f"r{number}"] = self.host.session(f"{BARE}/r{number}")
            session.available, session.priority = priority is not None, priority or 0
        if situation.account:
            self.accounts.names.add(BARE)
        if cold:
            self.accounts.names.discard(BARE)
            if situation.account:
                self.accounts.cold.add(BARE)

    def module(self, cls: type[Module]) -> Any:
        return self.host.host_types[0].modules[cls.name]

    async def send(self, xml: str) -> None:
        self.romeo.sends(xml)
        await self.host.settle()

    def got(self) -> set[str]:
        """The resources that have been given the one stanza."""
        for session in self.sessions.values():
            assert len(session.received) <= 1, f"{session.jid} got it more than once"
        return {name for name, session in self.sessions.items() if session.received}

    def errors(self) -> list[tuple[str, str, str]]:
        """(condition, type of the error, sender) of what came back."""
        found = []
        for stanza in self.romeo.received:
            assert stanza["type"] == "error", stanza.toXml()
            names = [child.name for child in stanza.error.elements()]
            found.append((names[0], stanza.error["type"], stanza["from"]))
        return found


def receivers(letter: str, situation: Situation, resource: str | None) -> set[str]:
    """Who is meant by a letter of the table."""
    priorities = {f"r{n}": p for n, p in enumerate(situation.priorities) if p is not None and p >= 0}
    if letter == "D":
        assert resource is not None
        return {resource}
    if letter == "M":
        return {name for name, priority in priorities.items() if priority == max(priorities.values())}
    return set(priorities) if letter == "A" else set()


def address(resource: str | None) -> str:
    return BARE if resource is None else f"{BARE}/{resource}"


def message(type_: str, to: str) -> str:
    return f"<message id='m' type='{type_}' to='{to}'><body>hi</body></message>"


class TableOne(TestCase):
    async def check(self, modules: Sequence[type[Module]] = (), *, cold: bool = False) -> None:
        """Every cell of the table; `cold`: whether the account exists must be asked for first."""
        for (situation, resource), letters in ROWS.items():
            for type_, letter in zip(TYPES, letters, strict=True):
                scene = Scene(situation, modules, cold=cold)
                await scene.host.start()
                await scene.send(message(type_, address(resource)))
                cell = f"{situation.name}, {address(resource)}, {type_}: {letter}"
                self.check_cell(scene, letter, receivers(letter, situation, resource), address(resource), cell)

    def check_cell(self, scene: Scene, letter: str, expected: set[str], to: str, cell: str) -> None:
        keeps = Keeper.name in scene.host.host_types[0].modules
        self.assertEqual(expected, scene.got(), cell)
        refused = letter == "E" or (letter == "O" and not keeps)
        self.assertEqual([("service-unavailable", "cancel", to)] if refused else [], scene.errors(), cell)
        if keeps:
            self.assertEqual(1 if letter == "O" else 0, len(scene.module(Keeper).kept), cell)

    async def test_nobody_keeps_messages(self) -> None:
        await self.check()

    async def test_a_module_keeps_messages(self) -> None:
        await self.check([Keeper])

    async def test_a_module_keeps_messages_and_accounts_must_be_looked_up(self) -> None:
        await self.check([Keeper], cold=True)

    async def test_a_filter_that_keeps_nothing_is_as_none(self) -> None:
        await self.check([Passer])

    async def test_no_type_is_normal(self) -> None:
        for situation in (ABSENT, SEVERAL):
            scene = Scene(situation, [Keeper])
            await scene.send(f"<message to='{BARE}'><body>hi</body></message>")
            expected = receivers("M", situation, None) if situation is SEVERAL else set()
            self.assertEqual((expected, []), (scene.got(), scene.errors()))

    async def test_what_is_delivered_is_what_was_sent(self) -> None:
        scene = Scene(ONE)
        await scene.send(message("chat", BARE))
        [stanza] = scene.sessions["r0"].received
        self.assertEqual(
            ("m", "chat", BARE, "romeo@montague.example/orchard", "hi"),
            (stanza["id"], stanza["type"], stanza["to"], stanza["from"], str(stanza.body)),
        )


class Keeping(TestCase):
    """The way into the offline filters."""

    async def test_whether_the_account_exists_cannot_be_asked(self) -> None:
        class Away(Accounts):
            async def exists(self, domain: str, username: str) -> bool:
                raise Unavailable

        host = Host([Keeper], accounts=Away())
        romeo = host.session("romeo@montague.example/orchard")
        romeo.sends(message("chat", BARE))
        error = (await romeo.receives("message")).error
        self.assertEqual(("wait", "resource-constraint"), (error["type"], next(error.elements()).name))

    async def test_a_look_up_that_fails_is_logged_and_told(self) -> None:
        class Broken(Accounts):
            async def exists(self, domain: str, username: str) -> bool:
                raise ZeroDivisionError

        host = Host([Keeper], accounts=Broken())
        romeo = host.session("romeo@montague.example/orchard")
        romeo.sends(message("chat", BARE))
        error = (await romeo.receives("message")).error
        self.assertEqual("internal-server-error", next(error.elements()).name)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_somebody_comes_online_during_the_look_up(self) -> None:
        asked: Deferred[None] = Deferred()

        class Slow(Accounts):
            async def exists(self, domain: str, username: str) -> bool:
                await asked
                return True

        host = Host([Keeper], accounts=Slow())
        romeo = host.session("romeo@montague.example/orchard")
        romeo.sends(message("chat", BARE))
        juliet = host.session(f"{BARE}/balcony")
        juliet.available = True
        self.assertFalse(juliet.received)
        asked.callback(None)
        await host.settle()
        self.assertEqual(["m"], [stanza["id"] for stanza in juliet.received])
        juliet.received.clear()
        keeper: Any = host.host_types[0].modules[Keeper.name]
        self.assertEqual([], keeper.kept)
        await host.silence(romeo, juliet)

    async def test_a_filter_that_refuses(self) -> None:
        class Full(Keeper):
            def keep(self, stanza: Stanza, context: Any) -> Stop:
                raise StanzaError("resource-constraint", text="full")

        scene = Scene(ABSENT, [Full])
        await scene.send(message("chat", BARE))
        self.assertEqual([("resource-constraint", "wait", BARE)], scene.errors())

    async def test_a_filter_that_waits_and_then_keeps_nothing(self) -> None:
        class Later(Keeper):
            def keep(self, stanza: Stanza, context: Any) -> Any:
                async def answer() -> Stanza:
                    return stanza

                return Wait(answer())

        scene = Scene(ABSENT, [Later])
        await scene.send(message("chat", BARE))
        self.assertEqual([("service-unavailable", "cancel", BARE)], scene.errors())


class Presence(TestCase):
    """RFC 6121 8.5.2.1.2, 8.5.3.1, 8.5.3.2.2, without the modules that deal with subscriptions."""

    async def receivers_of(self, situation: Situation, type_: str | None, resource: str | None) -> set[str]:
        scene = Scene(situation)
        attribute = "" if type_ is None else f"type='{type_}'"
        await scene.send(f"<presence {attribute} to='{address(resource)}'/>")
        self.assertEqual([], scene.errors())
        return scene.got()

    async def test_to_the_bare_jid_all_available_resources_get_it(self) -> None:
        """8.5.2.1.2: whatever their priority."""
        for type_ in (None, "unavailable"):
            for situation, expected in [
                (MISSING, set[str]()),
                (ABSENT, set()),
                (UNAVAILABLE, set()),
                (NEGATIVE, {"r0", "r1"}),
                (ONE, {"r0"}),
                (SEVERAL, {"r0", "r1", "r2", "r3"}),
            ]:
                self.assertEqual(expected, await self.receivers_of(situation, type_, None), (situation.name, type_))

    async def test_other_types_to_the_bare_jid_reach_nobody(self) -> None:
        for type_ in ("subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error"):
            self.assertEqual(set(), await self.receivers_of(SEVERAL, type_, None), type_)

    async def test_a_resource_gets_what_is_for_it(self) -> None:
        for type_ in (None, "unavailable", "error"):
            for situation, resource in [(UNAVAILABLE, "r0"), (NEGATIVE, "r1"), (ONE, "r0"), (SEVERAL, "r3")]:
                found = await self.receivers_of(situation, type_, resource)
                self.assertEqual({resource}, found, (situation.name, type_))

    async def test_for_a_resource_that_is_not_there_it_ends_in_silence(self) -> None:
        """8.5.3.2.2."""
        for type_ in (None, "unavailable", "error"):
            for situation in (MISSING, ABSENT, NEGATIVE, SEVERAL):
                self.assertEqual(set(), await self.receivers_of(situation, type_, "gone"), (situation.name, type_))


class IQs(TestCase):
    """RFC 6121 8.5.1, 8.5.2.1.3, 8.5.2.2.3, 8.5.3.1, 8.5.3.2.3."""

    situations = (MISSING, ABSENT, UNAVAILABLE, NEGATIVE, ONE, SEVERAL)

    async def scene(self, situation: Situation, type_: str, resource: str | None, payload: str) -> Scene:
        scene = Scene(situation, [Ping])
        await scene.send(f"<iq id='1' type='{type_}' to='{address(resource)}'>{payload}</iq>")
        return scene

    async def test_the_server_answers_for_the_account_and_no_resource_is_asked(self) -> None:
        for situation in self.situations:
            scene = await self.scene(situation, "get", None, "<ping xmlns='urn:test'/>")
            self.assertEqual(set(), scene.got(), situation.name)
            if situation is MISSING:
                self.assertEqual([("service-unavailable", "cancel", BARE)], scene.errors())
            else:
                [reply] = scene.romeo.received
                self.assertEqual(("result", BARE), (reply["type"], reply["from"]), situation.name)

    async def test_what_no_module_knows_is_refused_alike_everywhere(self) -> None:
        for situation in self.situations:
            for type_ in ("get", "set"):
                scene = await self.scene(situation, type_, None, "<unknown xmlns='urn:test'/>")
                self.assertEqual([("service-unavailable", "cancel", BARE)], scene.errors(), situation.name)
                self.assertEqual(set(), scene.got(), situation.name)

    async def test_a_resource_gets_what_is_for_it(self) -> None:
        for situation, resource in [(UNAVAILABLE, "r0"), (NEGATIVE, "r0"), (ONE, "r0"), (SEVERAL, "r2")]:
            for type_, payload in [
                ("get", "<ping xmlns='urn:test'/>"),
                ("set", "<unknown xmlns='urn:test'/>"),
                ("result", ""),
                ("error", "<error type='cancel'/>"),
            ]:
                scene = await self.scene(situation, type_, resource, payload)
                self.assertEqual(({resource}, []), (scene.got(), scene.errors()), (situation.name, type_))

    async def test_requests_to_a_resource_that_is_not_there_are_refused(self) -> None:
        for situation in self.situations:
            for type_ in ("get", "set"):
                scene = await self.scene(situation, type_, "gone", "<ping xmlns='urn:test'/>")
                expected = [("service-unavailable", "cancel", f"{BARE}/gone")]
                self.assertEqual((set(), expected), (scene.got(), scene.errors()), (situation.name, type_))

    async def test_answers_nobody_takes_end_in_silence(self) -> None:
        for situation in self.situations:
            for resource in (None, "gone"):
                for type_, payload in [("result", ""), ("error", "<error type='cancel'/>")]:
                    scene = await self.scene(situation, type_, resource, payload)
                    self.assertEqual((set(), []), (scene.got(), scene.errors()), (situation.name, resource, type_))
