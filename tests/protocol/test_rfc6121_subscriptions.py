"""RFC 6121 3, Managing Presence Subscriptions, between two host types; and the tables of its Appendix A on the wire."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext
from dynxmpp.modules.roster import RosterConfig
from dynxmpp.modules.roster.subscriptions import MAX_REQUEST
from dynxmpp.protocol.subscription import SUBSCRIPTION_TYPES, State, inbound, outbound
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import TestSession, parse
from tests.protocol.roster_dialogues import JULIET, ROMEO, RosterDialogues, shown
from tests.protocol.support import condition
from tests.protocol.test_subscription_table import INBOUND, OUTBOUND

NURSE = "nurse@capulet.example"


class TwoPeople(RosterDialogues):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.romeo = await self.online(f"{ROMEO}/orchard")
        self.juliet = await self.online(f"{JULIET}/balcony")

    def ask(self, inner: str = "") -> None:
        self.romeo.sends(f"<presence type='subscribe' id='xk3h1v69' to='{JULIET}'>{inner}</presence>")

    async def both_see(self, romeo: list[tuple[Any, ...]], juliet: list[tuple[Any, ...]]) -> None:
        """What each has been told since the last look, order included."""
        self.assertEqual(romeo, await self.told(self.romeo))
        self.assertEqual(juliet, await self.told(self.juliet))

    async def states(self, romeo: State | None, juliet: State | None) -> None:
        self.assertEqual((romeo, juliet), (await self.stored(ROMEO, JULIET), await self.stored(JULIET, ROMEO)))


class Requests(TwoPeople):
    async def test_a_request_and_its_approval(self) -> None:
        self.ask()
        await self.both_see([(JULIET, "none", "subscribe")], [("subscribe", ROMEO, JULIET)])
        await self.states(State.NONE_PENDING_OUT, State.NONE_PENDING_IN)
        self.assertEqual({}, await self.items(self.juliet))
        self.juliet.sends(f"<presence type='subscribed' id='h4v1c4kj' to='{ROMEO}'/>")
        await self.both_see(
            [("subscribed", JULIET, ROMEO), (JULIET, "to", None), (None, f"{JULIET}/balcony", ROMEO)],
            [(ROMEO, "from", None)],
        )
        await self.states(State.TO, State.FROM)

    async def test_what_was_written_arrives_and_the_resource_is_taken_off(self) -> None:
        self.romeo.sends(f"<presence type='subscribe' id='1' to='{JULIET}/balcony'><status>Hi!</status></presence>")
        request = await self.juliet.receives("presence")
        self.assertEqual(
            ("subscribe", ROMEO, JULIET, "1", "Hi!"),
            (request["type"], request["from"], request["to"], request["id"], str(request.status)),
        )

    async def test_both_ways(self) -> None:
        await self.become_friends(self.romeo, self.juliet)
        await self.states(State.BOTH, State.BOTH)
        self.assertEqual({JULIET: ("both", None)}, await self.items(self.romeo))
        self.assertEqual({ROMEO: ("both", None)}, await self.items(self.juliet))

    async def test_a_denial(self) -> None:
        self.ask()
        await self.forget(self.romeo, self.juliet)
        self.juliet.sends(f"<presence type='unsubscribed' to='{ROMEO}'/>")
        await self.both_see([("unsubscribed", JULIET, ROMEO), (JULIET, "none", None)], [])
        await self.states(State.NONE, None)

    async def test_all_available_resources_are_asked_and_all_interested_ones_answered(self) -> None:
        chamber = await self.online(f"{JULIET}/chamber", priority=-1)
        away = self.host.session(f"{JULIET}/away")
        house = await self.online(f"{ROMEO}/house")
        indifferent = self.host.session(f"{ROMEO}/indifferent")
        await self.forget(self.romeo, self.juliet)
        self.ask()
        self.assertEqual([("subscribe", ROMEO, JULIET)], await self.told(chamber))
        self.assertEqual([(JULIET, "none", "subscribe")], await self.told(house))
        chamber.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
        await self.forget(self.romeo, self.juliet)
        self.assertEqual([("subscribed", JULIET, ROMEO), (JULIET, "to", None)], (await self.told(house))[:2])
        await self.host.silence(away, indifferent)

    async def test_a_repeated_request_is_seen_once(self) -> None:
        self.ask()
        await self.forget(self.romeo, self.juliet)
        self.ask()
        await self.both_see([], [])
        await self.states(State.NONE_PENDING_OUT, State.NONE_PENDING_IN)

    async def test_what_was_approved_before_is_approved_by_the_server(self) -> None:
        await self.subscribe(self.romeo, self.juliet)
        self.ask()
        await self.both_see([(None, f"{JULIET}/balcony", ROMEO)], [])
        await self.states(State.TO, State.FROM)

    async def test_a_subscription_that_one_side_has_lost_is_made_whole(self) -> None:
        await self.subscribe(self.romeo, self.juliet)
        await self.romeo.asks(_remove(JULIET))
        await self.forget(self.romeo, self.juliet)
        await self.subscribe(self.romeo, self.juliet)
        await self.states(State.TO, State.FROM)

    async def test_an_account_that_does_not_exist(self) -> None:
        self.romeo.sends("<presence type='subscribe' to='nobody@capulet.example'/>")
        self.assertEqual([("nobody@capulet.example", "none", "subscribe")], await self.told(self.romeo))
        self.assertIsNone(await self.stored("nobody@capulet.example", ROMEO))

    async def test_an_account_that_must_be_looked_up(self) -> None:
        self.host.accounts.cold.add(NURSE)
        self.romeo.sends(f"<presence type='subscribe' to='{NURSE}'/>")
        await self.host.settle()
        self.assertEqual(State.NONE_PENDING_IN, await self.stored(NURSE, ROMEO))

    async def test_nobody_subscribes_to_himself(self) -> None:
        for type_ in sorted(SUBSCRIPTION_TYPES):
            self.romeo.sends(f"<presence type='{type_}'/>")
            self.romeo.sends(f"<presence type='{type_}' to='{ROMEO}'/>")
        await self.host.silence(self.romeo)
        self.assertIsNone(await self.stored(ROMEO, ROMEO))

    async def test_a_domain_that_is_not_here(self) -> None:
        self.romeo.sends("<presence type='subscribe' id='1' to='a@nowhere.example'/>")
        errors = [stanza for stanza in self.romeo.received if stanza.name == "presence"]
        await self.host.settle()
        errors = [stanza for stanza in self.romeo.received if stanza.name == "presence"]
        self.assertEqual(["remote-server-not-found"], [condition(error) for error in errors])

    async def test_an_approval_that_nobody_asked_for_goes_nowhere(self) -> None:
        self.juliet.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
        self.juliet.sends(f"<presence type='unsubscribed' to='{ROMEO}'/>")
        await self.both_see([], [])
        await self.states(None, None)

    async def test_what_is_written_is_promised_before_the_stanza_is_acknowledged(self) -> None:
        self.tap.hold()
        context = self.romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")
        self.assertFalse(context.ticket.settled)
        self.tap.let_go()
        await self.host.settle()
        self.assertTrue(context.ticket.committed)


def _remove(contact: str) -> str:
    return (
        "<iq type='set' id='remove'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{contact}' subscription='remove'/></query></iq>"
    )


class Waiting(RosterDialogues):
    """Requests to somebody who is not there."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.romeo = await self.online(f"{ROMEO}/orchard")
        self.romeo.sends(f"<presence type='subscribe' to='{JULIET}'><status>It's me &amp; you</status></presence>")
        self.romeo.sends(f"<presence type='subscribe' to='{JULIET}'><status>Me again</status></presence>")
        await self.host.settle()

    async def requests(self, session: TestSession) -> list[str]:
        session.sends("<presence/>")
        await session.host.settle()
        found = [s for s in session.received if s.name == "presence" and s.getAttribute("type") == "subscribe"]
        session.received.clear()
        self.assertEqual([("subscribe", ROMEO, JULIET)] * len(found), [shown(request) for request in found])
        return [str(request.status) for request in found]

    async def test_the_first_is_delivered_at_every_login_until_it_is_answered(self) -> None:
        for resource in ("one", "two"):
            session = self.host.session(f"{JULIET}/{resource}")
            self.assertEqual(["It's me & you"], await self.requests(session))
            self.assertEqual([], await self.requests(session))
            session.sends("<presence type='unavailable'/>")
            self.assertEqual(["It's me & you"], await self.requests(session))
            session.leaves()
        session = self.host.session(f"{JULIET}/three")
        self.assertEqual(["It's me & you"], await self.requests(session))
        session.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
        await self.forget(session)
        self.assertEqual([], await self.requests(self.host.session(f"{JULIET}/four")))

    async def test_it_survives_a_restart(self) -> None:
        host = await self.new_host()
        self.assertEqual(["It's me & you"], await self.requests(host.session(f"{JULIET}/balcony")))

    async def test_it_can_be_taken_back(self) -> None:
        self.romeo.sends(f"<presence type='unsubscribe' to='{JULIET}'/>")
        await self.host.settle()
        self.assertEqual([], await self.requests(self.host.session(f"{JULIET}/balcony")))
        self.assertIsNone(await self.stored(JULIET, ROMEO))

    async def test_of_a_long_one_only_the_sender_is_kept(self) -> None:
        benvolio = await self.online("benvolio@montague.example/street")
        benvolio.sends(f"<presence type='subscribe' to='{JULIET}'><status>{'x' * MAX_REQUEST}</status></presence>")
        await self.host.settle()
        session = self.host.session(f"{JULIET}/balcony")
        session.sends("<presence/>")
        await self.host.settle()
        (request,) = [s for s in session.received if s["from"] == "benvolio@montague.example"]
        self.assertEqual(("subscribe", []), (request["type"], request.children))


class ManyStrangers(RosterDialogues):
    config = RosterConfig(max_requests=2, max_items=2)

    async def test_their_requests_are_bounded_and_take_no_room_in_the_roster(self) -> None:
        strangers = [self.host.session(f"stranger{n}@montague.example/x") for n in range(3)]
        for stranger in strangers:
            stranger.sends(f"<presence type='subscribe' to='{JULIET}'/>")
            await self.host.settle()
        self.assertEqual([0, 0, 1], [len(stranger.received) for stranger in strangers])
        self.assertEqual("resource-constraint", condition(strangers[2].received[0]))
        juliet = await self.online(f"{JULIET}/balcony")
        for contact in "ab":
            item = f"<item jid='{contact}@example.com'/>"
            reply = await juliet.asks(
                f"<iq type='set' id='{contact}'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
            )
            self.assertEqual("result", reply["type"])


class Endings(TwoPeople):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.become_friends(self.romeo, self.juliet)

    async def test_a_cancelled_subscription(self) -> None:
        self.juliet.sends(f"<presence type='unsubscribed' to='{ROMEO}'/>")
        await self.both_see(
            [("unavailable", f"{JULIET}/balcony", ROMEO), ("unsubscribed", JULIET, ROMEO), (JULIET, "from", None)],
            [(ROMEO, "to", None)],
        )
        await self.states(State.FROM, State.TO)

    async def test_unsubscribing(self) -> None:
        self.romeo.sends(f"<presence type='unsubscribe' to='{JULIET}'/>")
        await self.both_see(
            [(JULIET, "from", None), ("unavailable", f"{JULIET}/balcony", ROMEO)],
            [("unsubscribe", ROMEO, JULIET), (ROMEO, "to", None)],
        )
        await self.states(State.FROM, State.TO)

    async def test_what_ended_is_over(self) -> None:
        for type_ in ("unsubscribe", "unsubscribed"):
            self.romeo.sends(f"<presence type='{type_}' to='{JULIET}'/>")
        await self.forget(self.romeo, self.juliet)
        await self.states(State.NONE, State.NONE)
        for session in (self.romeo, self.juliet):
            session.sends("<presence><show>dnd</show></presence>")
        self.assertEqual([ROMEO], [JID.parse(s[1]).bare for s in await self.told(self.romeo)])
        self.assertEqual([JULIET], [JID.parse(s[1]).bare for s in await self.told(self.juliet)])

    async def test_removal_from_the_roster_ends_both(self) -> None:
        self.assertEqual("result", (await self.romeo.asks(_remove(JULIET)))["type"])
        await self.both_see(
            [(JULIET, "remove", None), ("unavailable", f"{JULIET}/balcony", ROMEO)],
            [
                ("unsubscribe", ROMEO, JULIET),
                (ROMEO, "to", None),
                ("unavailable", f"{ROMEO}/orchard", JULIET),
                ("unsubscribed", ROMEO, JULIET),
                (ROMEO, "none", None),
            ],
        )
        await self.states(None, State.NONE)

    async def test_removal_of_one_who_waits_for_an_answer(self) -> None:
        benvolio = await self.online("benvolio@montague.example/street")
        await self.juliet.asks(
            "<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='benvolio@montague.example'/></query></iq>"
        )
        benvolio.sends(f"<presence type='subscribe' to='{JULIET}'/>")
        await self.forget(benvolio, self.juliet)
        await self.juliet.asks(_remove("benvolio@montague.example"))
        self.assertEqual(
            [("unsubscribed", JULIET, "benvolio@montague.example"), (JULIET, "none", None)], await self.told(benvolio)
        )

    async def test_two_resources_at_once_end_in_one_state(self) -> None:
        house = await self.online(f"{ROMEO}/house")
        for number in range(20):
            first, second = (self.romeo, house) if number % 2 else (house, self.romeo)
            first.sends(f"<presence type='unsubscribe' to='{JULIET}'/>")
            second.sends(f"<presence type='subscribe' to='{JULIET}'/>")
            await self.host.settle()
            romeo, juliet = await self.stored(ROMEO, JULIET), await self.stored(JULIET, ROMEO)
            self.assertTrue(matches(romeo or State.NONE, juliet or State.NONE), (number, romeo, juliet))
            self.juliet.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
            await self.host.settle()


class DatabaseAway(TwoPeople):
    async def test_the_sender_learns_it_and_nothing_has_happened(self) -> None:
        self.tap.away = "before"
        self.ask()
        self.assertEqual("resource-constraint", condition(await self.romeo.receives("presence")))
        self.tap.away = None
        await self.both_see([], [])
        await self.states(None, None)
        self.ask()
        await self.both_see([(JULIET, "none", "subscribe")], [("subscribe", ROMEO, JULIET)])


class Wiretap(Module):
    """Sees what comes to a host type that has no rosters."""

    name = "mod_wiretap"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.seen: list[tuple[str | None, str, str]] = []

    def filters(self) -> Any:
        yield Filter(Direction.INCOMING, Phase.POLICY, self._see, ("presence",))

    def _see(self, stanza: Stanza, context: RoutingContext) -> Stanza:
        self.seen.append((stanza.attributes.get("type"), stanza.attributes["from"], stanza.attributes["to"]))
        return stanza


class AppendixA(RosterDialogues):
    """Each row of each table, with a contact that only looks at what comes."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        tower = self.host.add_host_type("tower", [Wiretap], ["tower.example"])
        self.wiretap: Any = tower.modules["mod_wiretap"]

    async def user_in(self, state: State, name: str) -> tuple[TestSession, str]:
        """An account's session, and a contact that it is in this state with."""
        account, contact = f"{name}@montague.example", f"watch-{name}@tower.example"
        if state is not State.NONE:
            await self.store(account, contact, state)
        session = await self.online(f"{account}/x")
        self.wiretap.seen.clear()
        return session, contact

    async def test_outbound(self) -> None:
        for type_, rows in OUTBOUND.items():
            for existing, routed, new in rows:
                row = f"{type_}-{existing.name.lower()}"
                session, contact = await self.user_in(existing, row)
                session.sends(f"<presence type='{type_}' to='{contact}'/>")
                told = await self.told(session)
                account = session.jid.bare
                expected = [(type_, account, contact)] if routed else []
                if type_ == "subscribed" and routed:
                    expected.append((None, session.jid.full, contact))  # type: ignore[arg-type]
                if type_ == "unsubscribed" and existing.value.from_:
                    expected.insert(0, ("unavailable", session.jid.full, contact))
                self.assertEqual(expected, self.wiretap.seen, row)
                pushed = [(contact, new.subscription, "subscribe" if new.ask else None)]
                self.assertEqual(pushed if outbound(existing, type_).pushes else [], told, row)
                self.assertEqual(new, await self.stored(account, contact) or State.NONE, row)

    async def test_inbound(self) -> None:
        for type_, rows in INBOUND.items():
            for existing, delivered, new in rows:
                row = f"{type_}-{existing.name.lower()}"
                session, contact = await self.user_in(existing, row)
                account = session.jid.bare
                stanza = parse(f"<presence type='{type_}' from='{contact}' to='{account}'/>")
                self.host.router.route(stanza, JID.parse(contact), JID.parse(account))
                expected: list[tuple[Any, ...]] = [(type_, contact, account)] if delivered else []
                if inbound(existing, type_).pushes:
                    expected.append((contact, new.subscription, "subscribe" if new.ask else None))
                self.assertEqual(expected, await self.told(session), row)
                answers: list[tuple[Any, ...]] = []
                if type_ == "subscribe" and existing.value.from_:
                    answers = [("subscribed", account, contact), (None, session.jid.full, contact)]
                elif type_ == "unsubscribe" and existing.value.from_:
                    answers = [("unavailable", session.jid.full, contact)]
                self.assertEqual(answers, self.wiretap.seen, row)
                self.assertEqual(new, await self.stored(account, contact) or State.NONE, row)


def matches(one: State, other: State) -> bool:
    """Do two sides that have heard of all that the other did think the same?"""
    mine, theirs = one.value, other.value
    return (mine.to, mine.from_, mine.pending_out, mine.pending_in) == (
        theirs.from_,
        theirs.to,
        theirs.pending_in,
        theirs.pending_out,
    )


#: (does Romeo do it, what he does)
STEPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([*sorted(SUBSCRIPTION_TYPES), "remove", "set"])), min_size=1, max_size=12
)


class AnySequence(TwoPeople):
    """Whatever two people do, what both rosters say is legal, and the same."""

    @given(STEPS)
    @settings(max_examples=300, deadline=None)
    def test_of_the_tables(self, steps: list[tuple[bool, str]]) -> None:
        states = [State.NONE, State.NONE]
        for by_romeo, type_ in steps:
            if type_ not in SUBSCRIPTION_TYPES:
                continue
            user, contact = (0, 1) if by_romeo else (1, 0)
            transition = outbound(states[user], type_)
            states[user] = transition.state
            if transition.passes:
                received = inbound(states[contact], type_)
                states[contact] = received.state
                if received.answer is not None:
                    states[user] = inbound(states[user], received.answer).state
            self.assertTrue(matches(*states), (steps, states))

    async def test_of_the_rosters(self) -> None:
        for steps in _examples():
            for by_romeo, step in steps:
                session, contact = (self.romeo, JULIET) if by_romeo else (self.juliet, ROMEO)
                if step in SUBSCRIPTION_TYPES:
                    session.sends(f"<presence type='{step}' to='{contact}'/>")
                else:
                    xml = _remove(contact)
                    session.sends(xml if step == "remove" else xml.replace(" subscription='remove'", " name='x'"))
                await self.host.settle()
                romeo = await self.stored(ROMEO, JULIET) or State.NONE
                juliet = await self.stored(JULIET, ROMEO) or State.NONE
                self.assertTrue(matches(romeo, juliet), (steps, romeo, juliet))
            for session, state in ((self.romeo, romeo), (self.juliet, juliet)):
                session.received.clear()
                for shown_state in (await self.items(session)).values():
                    self.assertEqual((state.subscription, "subscribe" if state.ask else None), shown_state, steps)


def _examples() -> list[list[tuple[bool, str]]]:
    """Sequences to run outside of hypothesis, which cannot wait for a database."""
    found: list[list[tuple[bool, str]]] = []

    @given(STEPS)
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def collect(steps: list[tuple[bool, str]]) -> None:
        found.append(steps)

    collect()
    return found
