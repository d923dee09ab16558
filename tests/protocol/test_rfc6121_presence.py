"""RFC 6121 4, Exchanging Presence Information, between two host types."""

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Session
from dynxmpp.modules.blocking import Blocking
from dynxmpp.modules.presence import Presence, PresenceConfig
from dynxmpp.modules.roster import Roster
from dynxmpp.protocol.subscription import State
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import Host, TestSession
from tests.protocol.roster_dialogues import JULIET, ROMEO, RosterDialogues, shown
from tests.protocol.support import condition


class Watcher(Module):
    """Notes which sessions became able to take messages, and what presence reaches the recipients' side."""

    name = "mod_watcher"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.able: list[str] = []
        self.arrived: list[str] = []

    def session_available(self, session: Session) -> None:
        assert session.available
        self.able.append(session.jid.full)

    def filters(self) -> Any:
        yield Filter(Direction.INCOMING, Phase.POLICY, self._see, ("presence",))

    def _see(self, stanza: Stanza, context: RoutingContext) -> Stanza:
        self.arrived.append(stanza.attributes["to"])
        return stanza


class Friends(RosterDialogues):
    """Romeo and Juliet get the presence of each other. Both are connected and have not sent any yet."""

    modules: ClassVar[Sequence[Any]] = (Watcher,)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.store(ROMEO, JULIET, State.BOTH)
        await self.store(JULIET, ROMEO, State.BOTH)
        self.romeo = self.host.session(f"{ROMEO}/orchard")
        self.juliet = self.host.session(f"{JULIET}/balcony")

    def watcher(self, domain: str = "montague.example") -> Watcher:
        found = self.host.type_of(domain).modules["mod_watcher"]
        assert isinstance(found, Watcher)
        return found

    async def appear(self, *sessions: TestSession) -> None:
        for session in sessions:
            session.sends("<presence/>")
        await self.forget(*sessions)


class InitialPresence(Friends):
    async def test_what_everybody_is_told(self) -> None:
        await self.appear(self.romeo)
        self.juliet.sends("<presence id='p'><show>away</show></presence>")
        self.assertEqual(
            [(None, f"{JULIET}/balcony", f"{JULIET}/balcony"), (None, f"{ROMEO}/orchard", f"{JULIET}/balcony")],
            await self.told(self.juliet),
        )
        presence = await self.romeo.receives("presence")
        self.assertEqual((f"{JULIET}/balcony", ROMEO), (presence["from"], presence["to"]))
        self.assertEqual(("p", "away"), (presence["id"], str(presence.show)))
        await self.host.silence(self.romeo)

    async def test_the_session_is_available(self) -> None:
        self.assertFalse(self.romeo.available)
        self.romeo.sends("<presence><priority> -3 </priority></presence>")
        await self.host.settle()
        self.assertEqual((True, -3), (self.romeo.available, self.romeo.priority))
        assert self.romeo.presence is not None
        self.assertEqual(self.romeo.jid.full, self.romeo.presence["from"])

    async def test_resources_of_an_account_see_each_other(self) -> None:
        house = self.host.session(f"{ROMEO}/house")
        away = self.host.session(f"{ROMEO}/away")
        await self.appear(self.romeo)
        house.sends("<presence/>")
        await self.host.settle()
        self.assertEqual([(None, f"{ROMEO}/house", f"{ROMEO}/orchard")], await self.told(self.romeo))
        self.assertEqual(
            [(None, f"{ROMEO}/house", f"{ROMEO}/house"), (None, f"{ROMEO}/orchard", f"{ROMEO}/house")],
            await self.told(house),
        )
        await self.host.silence(away)

    async def test_all_resources_of_a_contact_are_shown_and_see(self) -> None:
        chamber = self.host.session(f"{JULIET}/chamber")
        await self.appear(self.juliet, chamber)
        await self.forget(self.juliet)
        self.romeo.sends("<presence/>")
        told = await self.told(self.romeo)
        self.assertEqual({f"{JULIET}/balcony", f"{JULIET}/chamber"}, {s[1] for s in told} - {self.romeo.jid.full})
        for session in (self.juliet, chamber):
            self.assertEqual([(None, f"{ROMEO}/orchard", JULIET)], await self.told(session))

    async def test_direction_of_a_subscription(self) -> None:
        await self.store(ROMEO, "nurse@capulet.example", State.TO)
        await self.store("nurse@capulet.example", ROMEO, State.FROM)
        nurse = self.host.session("nurse@capulet.example/kitchen")
        await self.appear(nurse)
        self.romeo.sends("<presence/>")
        self.assertIn("nurse@capulet.example/kitchen", [s[1] for s in await self.told(self.romeo)])
        await self.host.silence(nurse)

    async def test_it_costs_nothing_for_contacts_that_are_not_there(self) -> None:
        for number in range(20):
            await self.store(ROMEO, f"friend{number}@capulet.example", State.BOTH)
        await self.store(ROMEO, "friend@elsewhere.example", State.BOTH)
        self.host.session("friend1@capulet.example/unavailable")
        arrived = self.watcher("capulet.example").arrived
        await self.appear(self.romeo)
        self.assertEqual([], arrived)
        self.romeo.leaves()
        await self.appear(self.juliet)
        arrived.clear()
        self.romeo = self.host.session(f"{ROMEO}/orchard")
        await self.appear(self.romeo)
        self.assertEqual([JULIET, JULIET], arrived)  # presence and probe

    async def test_nobody_waits_when_the_roster_is_loaded(self) -> None:
        await self.appear(self.romeo, self.juliet)
        await self.forget(self.romeo)
        self.romeo.sends("<presence><show>dnd</show></presence>")
        self.assertEqual([(None, f"{ROMEO}/orchard", JULIET)], [shown(s) for s in self.juliet.received])

    async def test_a_cold_roster_is_waited_for_in_order(self) -> None:
        await self.appear(self.juliet)
        self.tap.hold()
        self.romeo.sends("<presence><show>dnd</show></presence>")
        self.romeo.sends("<presence type='unavailable'/>")
        self.romeo.sends("<presence><show>away</show></presence>")
        self.assertFalse(self.romeo.available)
        self.assertFalse(self.juliet.received)
        self.tap.let_go()
        await self.host.settle()
        self.assertEqual(["dnd", "None", "away"], [str(s.show) for s in self.juliet.received])
        self.assertTrue(self.romeo.available)

    async def test_a_session_that_has_gone_meanwhile(self) -> None:
        await self.appear(self.juliet)
        self.tap.hold()
        self.romeo.sends("<presence/>")
        self.romeo.leaves()
        self.tap.let_go()
        await self.host.silence(self.juliet)
        self.assertFalse(self.romeo.available)
        self.assertEqual([f"{JULIET}/balcony"], self.watcher("capulet.example").able)
        self.assertEqual([], self.watcher().able)

    async def test_a_roster_that_cannot_be_had(self) -> None:
        self.tap.away = "before"
        self.romeo.sends("<presence/>")
        self.assertEqual("resource-constraint", condition(await self.romeo.receives("presence")))
        self.assertFalse(self.romeo.available)


class Priority(Friends):
    async def test_what_is_none(self) -> None:
        for text in ("128", "-129", "x", "", "1.0", "1e1", "0x1", "\u0663", "1_0", "- 1", "9" * 5000):
            self.romeo.sends(f"<presence><priority>{text}</priority></presence>")
            self.assertEqual("bad-request", condition(await self.romeo.receives("presence")), text)
        self.romeo.sends("<presence><priority>1</priority><priority>2</priority></presence>")
        self.assertEqual("bad-request", condition(await self.romeo.receives("presence")))
        self.romeo.sends(f"<presence to='{JULIET}'><priority>x</priority></presence>")
        self.assertEqual("bad-request", condition(await self.romeo.receives("presence")))
        self.assertFalse(self.romeo.available)
        await self.host.silence(self.juliet)

    async def test_what_is_one(self) -> None:
        for text, expected in (("127", 127), ("-128", -128), ("+5", 5), ("0", 0)):
            self.romeo.sends(f"<presence><priority>{text}</priority></presence>")
            await self.host.settle()
            self.assertEqual(expected, self.romeo.priority)

    async def test_others_hear_when_a_session_begins_to_take_messages(self) -> None:
        able = self.watcher().able
        for presence, expected in [
            ("<presence><priority>-1</priority></presence>", 0),
            ("<presence><priority>0</priority></presence>", 1),
            ("<presence><priority>5</priority></presence>", 1),
            ("<presence><priority>-5</priority></presence>", 1),
            ("<presence/>", 2),
            ("<presence type='unavailable'/>", 2),
            ("<presence/>", 3),
        ]:
            self.romeo.sends(presence)
            await self.host.settle()
            self.assertEqual(expected, len(able), presence)
        self.assertEqual({f"{ROMEO}/orchard"}, set(able))


class Leaving(Friends):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.appear(self.romeo, self.juliet)
        self.house = self.host.session(f"{ROMEO}/house")
        await self.appear(self.house)
        await self.forget(self.romeo, self.juliet)

    async def test_a_client_that_says_so(self) -> None:
        self.romeo.sends("<presence type='unavailable'><status>gone home</status></presence>")
        presence = await self.juliet.receives("presence")
        self.assertEqual(("unavailable", f"{ROMEO}/orchard", JULIET), shown(presence))
        self.assertEqual("gone home", str(presence.status))
        for session in (self.house, self.romeo):
            expected = [("unavailable", f"{ROMEO}/orchard", session.jid.full)]
            self.assertEqual(expected, await self.told(session))
        self.assertEqual((False, 0, None), (self.romeo.available, self.romeo.priority, self.romeo.presence))
        self.romeo.sends("<presence type='unavailable'/>")
        self.romeo.leaves()
        await self.host.silence(self.romeo, self.house, self.juliet)

    async def test_a_client_that_does_not(self) -> None:
        self.romeo.leaves()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", JULIET)], await self.told(self.juliet))
        expected = [("unavailable", f"{ROMEO}/orchard", f"{ROMEO}/house")]
        self.assertEqual(expected, await self.told(self.house))

    async def test_a_roster_that_was_lost_is_read_again(self) -> None:
        await self.roster_module().remove_account(JID.parse(ROMEO))
        self.romeo.leaves()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", JULIET)], await self.told(self.juliet))

    async def test_it_gets_no_presence_any_more(self) -> None:
        self.romeo.sends("<presence type='unavailable'/>")
        await self.forget(self.romeo, self.house)
        self.juliet.sends("<presence><show>dnd</show></presence>")
        await self.host.settle()
        self.assertEqual(1, len(self.house.received))
        await self.host.silence(self.romeo)


class Directed(Friends):
    """To somebody who is no contact."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.nurse = self.host.session("nurse@capulet.example/kitchen")
        await self.appear(self.romeo, self.nurse)

    def show(self, type_: str = "", to: str = "nurse@capulet.example/kitchen") -> None:
        self.romeo.sends(f"<presence to='{to}'{type_}/>")

    async def test_it_is_delivered_and_taken_back_at_the_end(self) -> None:
        self.show()
        self.assertEqual([(None, f"{ROMEO}/orchard", self.nurse.jid.full)], await self.told(self.nurse))
        self.romeo.sends("<presence><show>away</show></presence>")
        await self.host.silence(self.nurse)
        self.romeo.leaves()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", self.nurse.jid.full)], await self.told(self.nurse))

    async def test_it_is_taken_back_when_the_session_is_unavailable(self) -> None:
        self.show(to="nurse@capulet.example")
        await self.forget(self.nurse)
        self.romeo.sends("<presence type='unavailable'><status>bye</status></presence>")
        presence = await self.nurse.receives("presence")
        self.assertEqual(("unavailable", "bye"), (presence["type"], str(presence.status)))
        self.romeo.leaves()
        await self.host.silence(self.nurse)

    async def test_what_the_client_took_back_itself_is_not_taken_back_again(self) -> None:
        self.show()
        self.show(" type='unavailable'")
        self.assertEqual([None, "unavailable"], [s[0] for s in await self.told(self.nurse)])
        self.romeo.leaves()
        await self.host.silence(self.nurse)

    async def test_a_contact_hears_of_the_end_once(self) -> None:
        await self.appear(self.juliet)
        self.show(to=f"{JULIET}/balcony")
        self.show(to=JULIET)
        await self.forget(self.juliet)
        self.romeo.leaves()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", JULIET)], await self.told(self.juliet))

    async def test_without_being_available(self) -> None:
        self.romeo.sends("<presence type='unavailable'/>")
        self.show()
        await self.forget(self.romeo, self.nurse)
        self.romeo.leaves()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", self.nurse.jid.full)], await self.told(self.nurse))

    async def test_who_cannot_be_reached_is_forgotten(self) -> None:
        self.show()
        await self.forget(self.nurse)
        error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        self.nurse.sends(f"<presence type='error' to='{ROMEO}/orchard'>{error}</presence>")
        self.assertEqual("error", (await self.romeo.receives("presence"))["type"])
        self.romeo.leaves()
        await self.host.silence(self.nurse)

    async def test_errors_for_an_account_go_nowhere(self) -> None:
        error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        self.nurse.sends(f"<presence type='error' to='{ROMEO}'>{error}</presence>")
        await self.host.silence(self.romeo, self.nurse)

    async def test_there_is_a_bound(self) -> None:
        module = self.host.type_of("montague.example").modules["mod_presence"]
        assert isinstance(module, Presence)
        module.config = PresenceConfig(max_directed=2)
        for number in range(2):
            self.show(to=f"someone@capulet.example/{number}")
        self.show(to="someone@capulet.example/0")
        await self.host.silence(self.romeo)
        self.show()
        self.assertEqual("policy-violation", condition(await self.romeo.receives("presence")))
        self.show(" type='unavailable'", to="someone@capulet.example/0")
        self.show()
        self.assertEqual(1, len(await self.told(self.nurse)))


class Probes(Friends):
    async def probe(self, prober: TestSession, to: str) -> list[tuple[Any, ...]]:
        prober.sends(f"<presence type='probe' to='{to}'/>")
        return await self.told(prober)

    async def test_a_contact_gets_the_presence_of_all_available_resources(self) -> None:
        chamber = self.host.session(f"{JULIET}/chamber")
        self.host.session(f"{JULIET}/away")
        await self.appear(self.juliet, chamber)
        await self.forget(self.juliet, self.romeo)
        expected: list[tuple[str | None, str, str]] = [
            (None, f"{JULIET}/{resource}", f"{ROMEO}/orchard") for resource in ("balcony", "chamber")
        ]
        self.assertEqual(expected, await self.probe(self.romeo, JULIET))
        self.assertEqual(expected[:1], await self.probe(self.romeo, f"{JULIET}/balcony"))
        expected = [("unavailable", f"{JULIET}/away", f"{ROMEO}/orchard")]
        self.assertEqual(expected, await self.probe(self.romeo, f"{JULIET}/away"))
        await self.host.silence(self.juliet, chamber)

    async def test_of_somebody_who_is_not_there(self) -> None:
        self.juliet.leaves()
        self.assertEqual([("unavailable", JULIET, f"{ROMEO}/orchard")], await self.probe(self.romeo, JULIET))

    async def test_strangers_learn_nothing(self) -> None:
        await self.appear(self.juliet)
        benvolio = self.host.session("benvolio@montague.example/street")
        for to in (JULIET, f"{JULIET}/balcony", "nobody@capulet.example"):
            bare = JID.parse(to).bare
            await self.waits_for_answer(benvolio, bare)
            expected = [("unsubscribed", bare, benvolio.jid.bare), (bare, "none", None)]
            self.assertEqual(expected, await self.probe(benvolio, to))

    async def waits_for_answer(self, user: TestSession, contact: str) -> None:
        """Lets the account await an answer of the contact, for it is not shown one otherwise."""
        await self.db.execute("DELETE FROM rosters WHERE username = %s", (user.jid.local,))
        await self.store(user.jid.bare, contact, State.NONE_PENDING_OUT)
        await self.roster_module().remove_account(user.jid)
        user.wants_roster = True

    async def test_the_own_account(self) -> None:
        await self.appear(self.romeo)
        expected = [(None, f"{ROMEO}/orchard", f"{ROMEO}/orchard")]
        self.assertEqual(expected, await self.probe(self.romeo, ROMEO))

    async def test_who_was_shown_it_may_ask(self) -> None:
        nurse = self.host.session("nurse@capulet.example/kitchen")
        await self.appear(self.romeo)
        for to in ("nurse@capulet.example/kitchen", "nurse@capulet.example"):
            self.romeo.sends(f"<presence to='{to}'/>")
            await self.forget(nurse)
            expected = [(None, f"{ROMEO}/orchard", "nurse@capulet.example/kitchen")]
            self.assertEqual(expected, await self.probe(nurse, ROMEO))
            self.romeo.sends(f"<presence type='unavailable' to='{to}'/>")
            await self.forget(nurse)

    async def test_a_domain_is_asked_in_vain(self) -> None:
        self.assertEqual([], await self.probe(self.romeo, "capulet.example"))


class Blocked(Friends):
    modules = (Watcher, Blocking)
    migrations = (*Roster.migrations, *Blocking.migrations)

    async def test_a_blocked_contact_sees_nothing(self) -> None:
        await self.romeo.asks(
            f"<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{JULIET}'/></block></iq>"
        )
        await self.appear(self.juliet)
        await self.appear(self.romeo)
        self.romeo.sends("<presence><show>dnd</show></presence>")
        self.romeo.leaves()
        await self.host.silence(self.juliet)

    async def test_and_is_no_more_heard_asking(self) -> None:
        benvolio = self.host.session("benvolio@montague.example/street")
        benvolio.sends(f"<presence type='subscribe' to='{JULIET}'/>")
        await self.host.settle()
        item = "<item jid='benvolio@montague.example'/>"
        await self.juliet.asks(f"<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{item}</block></iq>")
        self.juliet.sends("<presence/>")
        self.assertEqual([(None, f"{JULIET}/balcony", f"{JULIET}/balcony")], await self.told(self.juliet))

    async def test_a_list_that_is_not_loaded_is_waited_for(self) -> None:
        await self.appear(self.romeo, self.juliet)
        await self.forget(self.romeo)
        blocking: Any = self.host.type_of("montague.example").modules["mod_blocking"]
        await blocking.remove_account(JID.parse(ROMEO))
        self.tap.hold()
        self.romeo.leaves()
        self.assertFalse(self.juliet.received)
        self.tap.let_go()
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", JULIET)], await self.told(self.juliet))


class WithoutRoster(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.host = await Host([Presence]).start()
        self.romeo = self.host.session(f"{ROMEO}/orchard")
        self.house = self.host.session(f"{ROMEO}/house")
        self.juliet = self.host.session(f"{JULIET}/balcony")

    async def told(self, session: TestSession) -> list[tuple[Any, ...]]:
        await self.host.settle()
        found = [shown(stanza) for stanza in session.received]
        session.received.clear()
        return found

    async def test_own_resources_and_directed_presence(self) -> None:
        self.romeo.sends("<presence/>")
        self.house.sends("<presence/>")
        self.assertEqual([f"{ROMEO}/orchard", f"{ROMEO}/house"], [s[1] for s in await self.told(self.romeo)])
        self.assertEqual([f"{ROMEO}/house", f"{ROMEO}/orchard"], [s[1] for s in await self.told(self.house)])
        self.romeo.sends(f"<presence to='{JULIET}/balcony'/>")
        self.romeo.leaves()
        self.assertEqual([None, "unavailable"], [s[0] for s in await self.told(self.juliet)])
        self.assertEqual([("unavailable", f"{ROMEO}/orchard", f"{ROMEO}/house")], await self.told(self.house))

    async def test_probes_of_strangers_are_ignored(self) -> None:
        self.romeo.sends("<presence/>")
        self.juliet.sends(f"<presence type='probe' to='{ROMEO}'/>")
        await self.host.silence(self.juliet)

    async def test_messages_find_whoever_is_available(self) -> None:
        self.juliet.sends(f"<message to='{ROMEO}'><body>?</body></message>")
        self.assertEqual("service-unavailable", condition(await self.juliet.receives("message")))
        self.house.sends("<presence/>")
        await self.house.receives("presence")
        self.juliet.sends(f"<message to='{ROMEO}'><body>?</body></message>")
        await self.house.receives("message")
        await self.host.silence(self.romeo)


class WithoutPresence(TestCase):
    async def test_nobody_becomes_available(self) -> None:
        host = await Host([]).start()
        romeo = host.session(f"{ROMEO}/orchard")
        romeo.sends("<presence/>")
        await host.silence(romeo)
        self.assertFalse(romeo.available)
