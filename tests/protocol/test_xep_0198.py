"""XEP-0198: counting, acknowledging what is committed, resuming; and what a client can get wrong."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.c2s.session import BUSY_AT, BUSY_UNCOMMITTED, MAX_UNCOMMITTED, C2SSession
from dynxmpp.c2s.stream_management import ANSWER_TIMEOUT_S, MASK
from dynxmpp.commit import CommitTicket
from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Stanza, Stop, StreamError, Verdict, Wait
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.stream_management import NS_SM, StaleH, StreamManagement, StreamManagementConfig
from tests.fixtures.c2s import C2SServer, Client

PHONE = "ann@a.example/phone"
BOB = "bob@b.example/x"


def first(element: domish.Element) -> str:
    """The condition: the name of the first child."""
    child = element.firstChildElement()
    assert child is not None, element.toXml()
    return str(child.name)


class Records(Module):
    """Stands for an archive: messages from or to ann are written, and committed when the test says so."""

    name = "mod_records"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.tickets: list[CommitTicket] = []
        self.is_slow = False
        self.wait: Deferred[None] | None = None
        self.offline: list[tuple[str, float | None]] = []
        self.resumed: list[str] = []

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.ARCHIVE, self._write)
        yield Filter(Direction.OFFLINE, Phase.DELIVER, self._keep)

    def _write(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if self.wait is not None:
            return Wait(self._later(stanza))
        if self.is_slow:
            ticket = context.open_ticket()
            ticket.hold()
            self.tickets.append(ticket)
        return stanza

    async def _later(self, stanza: Stanza) -> Stanza | Stop:
        assert self.wait is not None
        await self.wait
        return stanza

    def _keep(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        self.offline.append((str(stanza.body), context.sent_at))
        return Stop("kept")

    def session_resumed(self, session: Any) -> None:
        self.resumed.append(session.jid.full)

    def commits(self) -> None:
        """The first of what waits is safe."""
        self.tickets.pop(0).release()


class ManagedCase(TestCase):
    options: dict[str, Any] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        management: Any = (StreamManagement, StreamManagementConfig(**self.options))
        self.server = C2SServer(modules=[Records, Presence, management])
        self.ann = await self.server.logged_in(PHONE)
        self.bob = await self.server.logged_in(BOB)
        self.records: Records = self.server.type_of("a.example").modules["mod_records"]  # type: ignore[assignment]

    def enable(self, client: Client, attributes: str = " resume='true'") -> domish.Element:
        client.sends(f"<enable xmlns='{NS_SM}'{attributes}/>")
        return client.receives("enabled")

    def available(self, client: Client) -> None:
        client.sends("<presence/>")
        client.receives("presence")

    def says(self, client: Client, number: int, to: str = BOB) -> None:
        client.sends(f"<message to='{to}' type='chat' id='{number}'><body>{number}</body></message>")

    def asks(self, client: Client) -> None:
        client.sends(f"<r xmlns='{NS_SM}'/>")

    def h(self, client: Client) -> int:
        """What the server says next that it has."""
        return int(client.receives("a")["h"])

    async def authenticated(self, username: str = "ann", domain: str = "a.example") -> Client:
        client = self.server.connects()
        client.authenticated(username, domain)
        return client

    async def resumes(self, previous: str, h: int, username: str = "ann", domain: str = "a.example") -> Client:
        client = await self.authenticated(username, domain)
        client.sends(f"<resume xmlns='{NS_SM}' previd='{previous}' h='{h}'/>")
        return client

    def bodies(self, client: Client) -> list[str]:
        """The messages that came; requests for acknowledgements are passed over."""
        return [str(e.body) for e in client.received() if e.name == "message"]

    def session(self, address: str = PHONE) -> C2SSession:
        session = self.server.sessions.get(JID.parse(address))
        assert isinstance(session, C2SSession)
        return session


class Enabling(ManagedCase):
    async def test_the_feature_is_offered_with_binding(self) -> None:
        client = self.server.connects()
        client.header("a.example")
        self.assertNotIn(NS_SM, client.receives("features").toXml())
        client.authenticates("ann")
        client.header("a.example")
        self.assertIn(NS_SM, client.receives("features").toXml())

    async def test_without_resumption(self) -> None:
        for attributes in ("", " resume='false'", " resume='0'"):
            client = await self.server.logged_in(PHONE)
            enabled = self.enable(client, attributes)
            self.assertEqual({}, enabled.attributes)

    async def test_with_resumption(self) -> None:
        for attributes, maximum in (
            (" resume='true'", "600"),
            (" resume='1'", "600"),
            (" resume='true' max='60'", "60"),
            (" resume='true' max='4294967295'", "600"),
        ):
            client = await self.server.logged_in(PHONE)
            enabled = self.enable(client, attributes)
            self.assertEqual(("true", maximum), (enabled["resume"], enabled["max"]))
            self.assertGreaterEqual(len(enabled["id"]), 20)

    async def test_ids_are_never_the_same(self) -> None:
        ids = set()
        for _ in range(20):
            ids.add(self.enable(await self.server.logged_in(PHONE))["id"])
        self.assertEqual(20, len(ids))

    async def test_a_maximum_that_is_none(self) -> None:
        for maximum in ("-1", "", "soon", "1.5", "99999999999", "\u0661"):
            self.ann.sends(f"<enable xmlns='{NS_SM}' resume='true' max='{maximum}'/>")
            self.assertEqual("bad-request", first(self.ann.receives("failed")), maximum)
        self.enable(self.ann)

    async def test_before_binding(self) -> None:
        client = await self.authenticated()
        client.sends(f"<enable xmlns='{NS_SM}'/>")
        self.assertEqual("unexpected-request", first(client.receives("failed")))
        client.binds("desk")
        self.enable(client)

    async def test_before_authentication(self) -> None:
        client = self.server.connects()
        client.header("a.example")
        client.receives("features")
        client.sends(f"<enable xmlns='{NS_SM}'/>")
        self.assertEqual("unexpected-request", first(client.receives("failed")))
        client.sends(f"<resume xmlns='{NS_SM}' previd='x' h='0'/>")
        self.assertEqual("not-authorized", client.stream_error())

    async def test_twice(self) -> None:
        self.enable(self.ann)
        self.ann.sends(f"<enable xmlns='{NS_SM}'/>")
        self.assertEqual("unexpected-request", first(self.ann.receives("failed")))
        self.says(self.ann, 1)
        self.asks(self.ann)
        self.assertEqual(1, self.h(self.ann))

    async def test_elements_that_there_are_not(self) -> None:
        self.ann.sends(f"<r xmlns='{NS_SM}'/>")
        self.assertEqual("unsupported-stanza-type", self.ann.stream_error())
        self.enable(self.bob)
        self.bob.sends(f"<x xmlns='{NS_SM}'/>")
        self.assertEqual("unsupported-stanza-type", self.bob.stream_error())


class NotOffered(TestCase):
    async def test_a_host_type_without_it(self) -> None:
        server = C2SServer()
        client = await server.logged_in(PHONE)
        client.sends(f"<enable xmlns='{NS_SM}' resume='true'/>")
        self.assertEqual("feature-not-implemented", first(client.receives("failed")))
        other = server.connects()
        other.authenticated("ann", "a.example")
        other.sends(f"<resume xmlns='{NS_SM}' previd='x' h='0'/>")
        self.assertEqual("feature-not-implemented", first(other.receives("failed")))
        self.assertEqual("result", other.binds("x")["type"])


class Acknowledging(ManagedCase):
    async def test_stanzas_are_counted_from_enable(self) -> None:
        self.says(self.ann, 0)
        self.enable(self.ann)
        self.asks(self.ann)
        self.assertEqual(0, self.h(self.ann))
        for number in range(3):
            self.says(self.ann, number)
        self.ann.sends("<presence to='bob@b.example'/>")
        self.ann.sends("<iq type='get' id='1' to='a.example'><nothing xmlns='x'/></iq>")
        self.ann.receives("iq")
        self.ann.receives("r")
        self.asks(self.ann)
        self.assertEqual(5, self.h(self.ann))

    async def test_what_is_refused_is_dealt_with(self) -> None:
        self.enable(self.ann)
        self.says(self.ann, 1, "nobody@nowhere.example")
        self.assertEqual("error", self.ann.receives("message")["type"])
        self.ann.receives("r")
        self.says(self.ann, 2, "@@")
        self.assertEqual("error", self.ann.receives("message")["type"])
        self.asks(self.ann)
        self.assertEqual(2, self.h(self.ann))

    async def test_only_what_is_committed_counts(self) -> None:
        self.enable(self.ann)
        self.says(self.ann, 1)
        self.records.is_slow = True
        self.says(self.ann, 2)
        self.assertEqual(["1", "2"], self.bodies(self.bob), "delivery waits for nothing")
        self.asks(self.ann)
        self.assertEqual([], self.ann.received())
        self.records.commits()
        self.assertEqual(2, self.h(self.ann))

    async def test_nothing_overtakes(self) -> None:
        """A stanza is counted after those before it, though it wrote nothing or was committed first."""
        self.enable(self.ann)
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.says(self.ann, 2)
        self.ann.sends("<presence to='bob@b.example'/>")
        self.asks(self.ann)
        self.records.tickets.pop(1).release()
        self.assertEqual([], self.ann.received())
        self.records.commits()
        self.assertEqual(3, self.h(self.ann))

    async def test_an_answer_counts_what_was_sent_before_the_question(self) -> None:
        self.enable(self.ann)
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.asks(self.ann)
        self.says(self.ann, 2)
        self.asks(self.ann)
        self.asks(self.ann)
        self.records.commits()
        self.assertEqual(1, self.h(self.ann))
        self.records.commits()
        self.assertEqual(2, self.h(self.ann))
        self.assertEqual([], self.ann.received())

    async def test_an_answer_is_not_withheld_for_ever(self) -> None:
        self.enable(self.ann)
        self.says(self.ann, 1)
        self.records.is_slow = True
        self.says(self.ann, 2)
        self.asks(self.ann)
        self.server.clock.advance(ANSWER_TIMEOUT_S)
        self.assertEqual(1, self.h(self.ann))
        self.server.clock.advance(ANSWER_TIMEOUT_S)
        self.assertEqual(1, self.h(self.ann))
        self.records.commits()
        self.assertEqual(2, self.h(self.ann))
        self.server.clock.advance(10 * ANSWER_TIMEOUT_S)
        self.assertEqual([], self.ann.received())

    async def test_a_stanza_that_waits_is_not_dealt_with(self) -> None:
        """One in the slow lane, and those that line up behind it."""
        self.enable(self.ann)
        wait = self.records.wait = Deferred()
        self.says(self.ann, 1)
        self.says(self.ann, 2)
        self.asks(self.ann)
        self.assertEqual([], self.ann.received())
        self.records.wait = None
        wait.callback(None)
        self.assertEqual(2, self.h(self.ann))
        self.assertEqual(["1", "2"], self.bodies(self.bob))

    async def test_what_can_never_be_written_is_answered_with_an_error(self) -> None:
        self.enable(self.ann)
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.records.tickets.pop().fail()
        error = self.ann.receives("message")
        self.assertEqual(("error", "1"), (error["type"], error["id"]))
        self.assertEqual("internal-server-error", first(error.error))
        self.asks(self.ann)
        self.ann.receives("r")
        self.assertEqual(1, self.h(self.ann))

    async def test_a_counter_that_begins_anew(self) -> None:
        """Section 4: after 2^32 - 1 comes 0, on both sides."""
        self.enable(self.ann)
        manager = self.session().manager
        assert manager is not None
        manager.handled = manager.acknowledged = MASK
        self.says(self.ann, 1)
        self.asks(self.ann)
        self.assertEqual(0, self.h(self.ann))
        self.says(self.bob, 1, PHONE)
        self.ann.received()
        self.ann.sends(f"<a xmlns='{NS_SM}' h='0'/>")
        self.assertTrue(self.ann.is_open)
        self.assertEqual(0, manager.acknowledged)

    async def test_who_sends_faster_than_can_be_committed_is_not_read(self) -> None:
        """With and without stream management."""
        self.records.is_slow = True
        for client in (self.ann, self.bob):
            for number in range(MAX_UNCOMMITTED):
                self.assertTrue(client.transport.reading)
                self.says(client, number, "bob@a.example/nowhere")
            self.assertFalse(client.transport.reading)
            for _ in range(MAX_UNCOMMITTED // 2 - 1):
                self.records.commits()
            self.assertFalse(client.transport.reading)
            self.records.commits()
            self.assertTrue(client.transport.reading)
            while self.records.tickets:
                self.records.commits()

    async def test_while_the_database_is_slow_everybody_has_a_share(self) -> None:
        self.records.is_slow = True
        self.server.host.router.uncommitted = BUSY_AT
        for number in range(BUSY_UNCOMMITTED):
            self.assertTrue(self.ann.transport.reading)
            self.says(self.ann, number, "bob@a.example/nowhere")
        self.assertFalse(self.ann.transport.reading)
        for _ in range(BUSY_UNCOMMITTED // 2):
            self.records.commits()
        self.assertTrue(self.ann.transport.reading)
        self.assertEqual(BUSY_AT + BUSY_UNCOMMITTED // 2, self.server.host.router.uncommitted)


class ToTheClient(ManagedCase):
    async def test_it_is_asked_once_until_it_answers(self) -> None:
        self.enable(self.ann)
        for number in range(3):
            self.says(self.bob, number, PHONE)
        self.assertEqual(["message", "r", "message", "message"], [e.name for e in self.ann.received()])
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertEqual(["r"], [e.name for e in self.ann.received()])
        self.ann.sends(f"<a xmlns='{NS_SM}' h='3'/>")
        self.assertEqual([], self.ann.received())

    async def test_answers_of_the_server_are_counted(self) -> None:
        self.enable(self.ann)
        self.ann.sends("<iq type='get' id='1' to='a.example'><nothing xmlns='x'/></iq>")
        self.ann.received()
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertTrue(self.ann.is_open)

    async def test_more_than_was_sent(self) -> None:
        self.enable(self.ann)
        for number in range(8):
            self.says(self.bob, number, PHONE)
        self.ann.received()
        self.ann.sends(f"<a xmlns='{NS_SM}' h='10'/>")
        error = self.ann.receives("error")
        self.assertEqual("undefined-condition", first(error))
        too_high = next(error.elements(NS_SM, "handled-count-too-high"))
        self.assertEqual(("10", "8"), (too_high["h"], too_high["send-count"]))
        self.assertEqual("You acknowledged 10 stanzas, but I only sent you 8 so far.", str(error.text))
        self.assertFalse(self.ann.is_open)

    async def test_less_than_before(self) -> None:
        self.enable(self.ann)
        for number in range(3):
            self.says(self.bob, number, PHONE)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='3'/>")
        self.ann.received()
        self.ann.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.assertEqual("undefined-condition", self.ann.receives("error").firstChildElement().name)

    async def test_numbers_that_are_none(self) -> None:
        for h in ("", "-1", "x", "1.0", "0x1", "4294967296", "99999999999999999999", "\u0661"):
            client = await self.server.logged_in(PHONE)
            self.enable(client)
            client.sends(f"<a xmlns='{NS_SM}' h='{h}'/>")
            self.assertEqual("invalid-xml", client.stream_error(), h)
        client = await self.server.logged_in(PHONE)
        self.enable(client)
        client.sends(f"<a xmlns='{NS_SM}'/>")
        self.assertEqual("invalid-xml", client.stream_error())


class Frequency(ManagedCase):
    options = {"ack_freq": 3}

    async def test_every_third(self) -> None:
        self.enable(self.ann)
        for number in range(4):
            self.says(self.bob, number, PHONE)
        self.assertEqual(["message", "message", "message", "r", "message"], [e.name for e in self.ann.received()])


class NeverAsked(ManagedCase):
    options = {"ack": False}

    async def test_it(self) -> None:
        self.enable(self.ann)
        self.says(self.bob, 1, PHONE)
        self.assertEqual(["message"], [e.name for e in self.ann.received()])


class Resuming(ManagedCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.id = self.enable(self.ann)["id"]
        self.available(self.ann)  # h of the server: 1; of the client: 1
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.ann.received()

    async def test_what_was_missed_comes_after_the_answer(self) -> None:
        self.says(self.ann, 1)
        self.says(self.bob, 1, PHONE)
        self.says(self.bob, 2, PHONE)
        self.ann.loses()
        self.says(self.bob, 3, PHONE)
        self.says(self.bob, 4, "ann@a.example")
        self.assertEqual([], self.server.observer().ended)
        back = await self.resumes(self.id, 2)
        resumed = back.receives("resumed")
        self.assertEqual((self.id, "2"), (resumed["previd"], resumed["h"]))
        self.assertEqual(["2", "3", "4"], self.bodies(back))
        self.assertEqual([PHONE], self.records.resumed)
        self.says(back, 2)
        self.asks(back)
        self.assertEqual(3, self.h(back))
        self.assertEqual(["1", "2"], self.bodies(self.bob))
        self.assertEqual([PHONE, BOB], self.server.observer().bound, "nothing was bound anew")

    async def test_nobody_sees_that_it_was_away(self) -> None:
        self.ann.sends("<presence to='bob@b.example/x'/>")
        self.bob.received()
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.receives("resumed")
        self.server.clock.advance(601)
        self.assertEqual([], self.bob.received())
        self.assertTrue(back.is_open)
        self.assertTrue(self.session().available)

    async def test_a_connection_that_is_half_open(self) -> None:
        """The client has moved; the server thinks that the old connection lives."""
        self.says(self.bob, 1, PHONE)
        back = await self.resumes(self.id, 1)
        self.assertEqual("1", back.receives("resumed")["h"])
        self.assertEqual(["1"], self.bodies(back))
        self.ann.receives("message")
        self.ann.receives("r")
        self.assertEqual("conflict", self.ann.stream_error())
        self.assertEqual([], self.server.observer().ended)
        self.says(self.bob, 2, PHONE)
        self.assertEqual(["2"], self.bodies(back))

    async def test_again_and_again(self) -> None:
        h = 1
        client = self.ann
        for number in range(5):
            client.loses()
            self.says(self.bob, number, PHONE)
            client = await self.resumes(self.id, h)
            client.receives("resumed")
            self.assertEqual([str(number)], self.bodies(client))
            h += 1

    async def test_it_waits_for_the_commit(self) -> None:
        """What <resumed/> does not count will be sent again: it must not take effect a second time."""
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.sends("<presence><show>away</show></presence>")
        self.assertEqual([], back.received())
        self.records.commits()
        self.assertEqual("2", back.receives("resumed")["h"])
        self.server.clock.advance(0)
        self.assertEqual(["presence", "r"], [e.name for e in back.received()])
        self.asks(back)
        self.assertEqual(3, self.h(back))

    async def test_the_second_of_two_at_once_has_it(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        first = await self.resumes(self.id, 1)
        second = await self.resumes(self.id, 1)
        self.assertEqual("conflict", first.stream_error())
        self.records.commits()
        self.assertEqual("2", second.receives("resumed")["h"])
        self.assertTrue(second.is_open)

    async def test_a_client_that_goes_while_it_resumes(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.loses()
        self.records.commits()
        self.assertEqual([], self.server.observer().ended)
        self.server.clock.advance(600)
        self.assertEqual([PHONE], self.server.observer().ended)

    async def test_pipelined_stanzas_are_the_sessions(self) -> None:
        self.ann.loses()
        back = await self.authenticated()
        back.sends(
            f"<resume xmlns='{NS_SM}' previd='{self.id}' h='1'/>"
            f"<message to='{BOB}'><body>next</body></message><r xmlns='{NS_SM}'/>"
        )
        self.assertEqual("1", back.receives("resumed")["h"])
        self.assertEqual(2, self.h(back))
        self.assertEqual(["next"], self.bodies(self.bob))

    async def test_an_id_that_is_none(self) -> None:
        self.ann.loses()
        for previous in ("guessed", self.id[:-1], self.id.swapcase(), "'; DROP TABLE users; --", "x" * 4000):
            client = await self.authenticated()
            client.sends(f'<resume xmlns="{NS_SM}" previd="{previous}" h="1"/>')
            self.assertEqual("item-not-found", first(client.receives("failed")))
            self.assertEqual("result", client.binds("other")["type"], "it may bind instead")
        self.assertEqual(PHONE, self.session().full)

    async def test_somebody_elses_id(self) -> None:
        self.ann.loses()
        for username, domain in (("bob", "a.example"), ("ann", "b.example"), ("ann", "c.example")):
            thief = await self.resumes(self.id, 1, username, domain)
            self.assertEqual("item-not-found", first(thief.receives("failed")))
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_without_id_or_count(self) -> None:
        client = await self.authenticated()
        client.sends(f"<resume xmlns='{NS_SM}' h='1'/>")
        self.assertEqual("bad-request", first(client.receives("failed")))
        client.sends(f"<resume xmlns='{NS_SM}' previd='{self.id}'/>")
        self.assertEqual("invalid-xml", client.stream_error())

    async def test_an_impossible_count(self) -> None:
        """The session stays: the next attempt may know better."""
        self.ann.loses()
        for h in (0, 2, 99, MASK):
            client = await self.resumes(self.id, h)
            self.assertEqual("undefined-condition", client.receives("error").firstChildElement().name, h)
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_attempts_are_bounded(self) -> None:
        client = await self.authenticated()
        attempts = self.server.context.config.auth_attempts
        for _ in range(attempts):
            client.sends(f"<resume xmlns='{NS_SM}' previd='guessed' h='1'/>")
            client.receives("failed")
        self.assertEqual("policy-violation", client.stream_error())

    async def test_after_its_time(self) -> None:
        self.ann.loses()
        self.server.clock.advance(599)
        self.assertEqual([], self.server.observer().ended)
        self.server.clock.advance(1)
        self.assertEqual([PHONE], self.server.observer().ended)
        late = await self.resumes(self.id, 1)
        failed = late.receives("failed")
        self.assertEqual("item-not-found", first(failed))
        self.assertFalse(failed.hasAttribute("h"))

    async def test_not_after_a_stream_that_was_closed(self) -> None:
        for end in ("</stream:stream>", "<message/><nonsense xmlns='x'/>"):
            client = await self.server.logged_in("ann@a.example/other")
            id_ = self.enable(client)["id"]
            self.server.observer().ended.clear()
            client.sends(end)
            self.assertEqual(["ann@a.example/other"], self.server.observer().ended)
            late = await self.resumes(id_, 0)
            self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_not_after_the_session_was_ended(self) -> None:
        """By an administrator, with its account, with its domain; whether the client is there or away."""
        self.session().end(StreamError("policy-violation"))
        self.assertEqual([PHONE], self.server.observer().ended)
        away = await self.server.logged_in("ann@a.example/away")
        id_ = self.enable(away)["id"]
        away.loses()
        self.session("ann@a.example/away").end(StreamError("host-gone"))
        self.assertEqual([PHONE, "ann@a.example/away"], self.server.observer().ended)
        for previous in (self.id, id_):
            late = await self.resumes(previous, 0)
            self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_not_after_its_resource_was_bound_anew(self) -> None:
        self.ann.loses()
        await self.server.logged_in(PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        late = await self.resumes(self.id, 1)
        self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_a_connection_found_dead_may_be_resumed(self) -> None:
        """What mod_ping does to a client that does not answer."""
        self.session().end(StreamError("connection-timeout"))
        self.assertEqual("connection-timeout", self.ann.stream_error())
        self.assertEqual([], self.server.observer().ended)
        self.session().end(StreamError("connection-timeout"))
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_a_bound_client_has_nothing_to_resume(self) -> None:
        self.ann.sends(f"<resume xmlns='{NS_SM}' previd='{self.id}' h='0'/>")
        self.assertEqual("unexpected-request", first(self.ann.receives("failed")))

    async def test_nothing_is_left_behind(self) -> None:
        self.ann.loses()
        self.bob.loses()
        self.server.clock.advance(601)
        self.assertEqual((0, {}, 0, 0), self.server.balance)
        management: Any = self.server.type_of("a.example").modules["mod_stream_management"]
        self.assertEqual({}, management._sessions)
        self.assertEqual([], self.server.clock.getDelayedCalls())


class StaleCounters(ManagedCase):
    options = {"stale_h": StaleH(enabled=True, geriatric=100), "resume_timeout": 50}

    async def test_h_is_told_for_a_while(self) -> None:
        id_ = self.enable(self.ann)["id"]
        self.says(self.ann, 1)
        self.ann.loses()
        self.server.clock.advance(50)
        late = await self.resumes(id_, 0)
        self.assertEqual("1", late.receives("failed")["h"])
        other = await self.resumes(id_, 0, "bob")
        self.assertFalse(other.receives("failed").hasAttribute("h"))
        self.server.clock.advance(101)
        later = await self.resumes(id_, 0)
        self.assertFalse(later.receives("failed").hasAttribute("h"))


class NotAcknowledged(ManagedCase):
    """What becomes of stanzas that the client did not get."""

    options = {"buffer_max": 6, "buffer_max_bytes": 1000}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.id = self.enable(self.ann)["id"]
        self.available(self.ann)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.ann.received()

    def kept(self) -> list[str]:
        return [body for body, _ in self.records.offline]

    async def test_when_time_is_up_they_go_where_messages_go_that_nobody_takes(self) -> None:
        self.server.clock.advance(5)
        self.says(self.bob, 1, PHONE)
        self.says(self.bob, 2, "ann@a.example")
        self.ann.loses()
        self.server.clock.advance(600)
        self.assertEqual([("1", 5.0), ("2", 5.0)], self.records.offline)

    async def test_what_was_acknowledged_does_not(self) -> None:
        self.says(self.bob, 1, PHONE)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.says(self.bob, 2, PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["2"], self.kept())

    async def test_a_client_that_closes_its_stream(self) -> None:
        self.says(self.bob, 1, PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["1"], self.kept())

    async def test_without_resumption_at_once(self) -> None:
        other = await self.server.logged_in("ann@a.example/other")
        self.enable(other, "")
        self.says(self.bob, 1, "ann@a.example/other")
        self.ann.received()
        self.ann.sends("<presence type='unavailable'/>")
        other.loses()
        self.assertEqual(["1"], self.kept())

    async def test_another_resource_gets_what_it_has_not_seen(self) -> None:
        """A message for the resource that is gone, and one that came before the other resource did."""
        self.ann.loses()
        self.says(self.bob, 1, "ann@a.example")
        self.server.clock.advance(1)
        other = await self.server.logged_in("ann@a.example/other")
        self.available(other)
        self.server.clock.advance(1)
        self.says(self.bob, 2, "ann@a.example")
        self.says(self.bob, 3, PHONE)
        self.assertEqual(["2"], self.bodies(other))
        self.server.clock.advance(598)
        late = [e for e in other.received() if e.name == "message"]
        self.assertEqual(["1", "3"], [str(e.body) for e in late])
        self.assertEqual(["a.example"] * 2, [e.delay["from"] for e in late])
        self.assertEqual([], self.kept())

    async def test_what_is_about_the_moment_goes_nowhere(self) -> None:
        for stanza in (
            "<presence to='%s'/>",
            "<message type='headline' to='%s'><body>h</body></message>",
            "<message type='error' to='%s'><body>h</body></message>",
            "<iq type='result' id='1' to='%s'/>",
        ):
            self.bob.sends(stanza % PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["message"], [e.name for e in self.ann.received() if e.name == "message"][:1])
        self.assertEqual([], self.kept())
        self.assertEqual([], self.bob.received())

    async def test_who_asked_is_told(self) -> None:
        self.bob.sends(f"<iq type='get' id='q' to='{PHONE}'><nothing xmlns='x'/></iq>")
        self.ann.sends("</stream:stream>")
        answer = self.bob.receives("iq")
        self.assertEqual(("q", "error"), (answer["id"], answer["type"]))
        self.assertEqual("service-unavailable", first(answer.error))

    async def test_too_many_for_a_client_that_is_away(self) -> None:
        self.ann.loses()
        for number in range(7):
            self.says(self.bob, number, PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual([str(number) for number in range(7)], self.kept())
        late = await self.resumes(self.id, 1)
        self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_too_many_bytes(self) -> None:
        self.ann.loses()
        self.bob.sends(f"<message to='{PHONE}'><body>{'x' * 1000}</body></message>")
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual(1, len(self.kept()))

    async def test_a_client_that_never_acknowledges(self) -> None:
        for _ in range(30):
            self.bob.sends(f"<presence to='{PHONE}'/>")
        for number in range(31):
            self.says(self.bob, number, PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual(31, len(self.kept()))
        self.ann.received()
        self.assertFalse(self.ann.is_open)

    async def test_a_domain_that_is_gone_gets_nothing(self) -> None:
        self.says(self.bob, 1, PHONE)
        session = self.session()
        self.server.domains.delete("a.example")
        session.end(StreamError("host-gone"))
        self.assertEqual([], self.kept())


class NothingKept(ManagedCase):
    options = {"buffer": False}

    async def test_it_is_not_resumable(self) -> None:
        self.assertEqual({}, self.enable(self.ann).attributes)
        self.available(self.ann)
        self.says(self.bob, 1, PHONE)
        self.ann.loses()
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual([], self.records.offline)


class Stored(ManagedCase):
    """Stanzas that stay stored until the client has them (as those of offline storage do)."""

    def deliver(self, body: str) -> list[bool]:
        heard: list[bool] = []
        stanza = Stanza("message", {"to": PHONE}, f"<body>{body}</body>".encode(), ("jabber:client body",))
        self.session().deliver_stored(stanza, stanza.to_bytes(), heard.append)
        return heard

    async def test_without_stream_management(self) -> None:
        self.assertEqual([True], self.deliver("1"))

    async def test_heard_of_with_the_acknowledgement(self) -> None:
        id_ = self.enable(self.ann)["id"]
        first, second = self.deliver("1"), self.deliver("2")
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertEqual(([True], []), (first, second))
        self.ann.loses()
        back = await self.resumes(id_, 2)
        back.receives("resumed")
        self.assertEqual([True], second)

    async def test_not_delivered_elsewhere(self) -> None:
        self.enable(self.ann)
        heard = self.deliver("1")
        self.ann.sends("</stream:stream>")
        self.assertEqual([False], heard)
        self.assertEqual([], self.records.offline)


class Gated(ManagedCase):
    async def test_what_a_gate_keeps_is_not_counted_before_it_goes_out(self) -> None:
        self.enable(self.ann)
        session = self.session()
        kept: list[tuple[Stanza, bytes]] = []

        def gate(stanza: Stanza, data: bytes) -> bool:
            kept.append((stanza, data))
            return True

        session.gate = gate
        self.says(self.bob, 1, PHONE)
        self.assertEqual([], self.ann.received())
        session.gate = None
        session.send(*kept[0])
        self.assertEqual(["1"], self.bodies(self.ann))
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertTrue(self.ann.is_open)
