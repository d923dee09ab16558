"""XEP-0198: enabling, counting, acknowledging what is committed; and what a client can get wrong."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.c2s.session import BUSY_AT, BUSY_UNCOMMITTED, MAX_UNCOMMITTED
from dynxmpp.c2s.stream_management import ANSWER_TIMEOUT_S, MASK
from dynxmpp.module import Stanza
from dynxmpp.modules.stream_management import NS_SM
from tests.fixtures.c2s import C2SServer
from tests.protocol.managed_streams import PHONE, ManagedCase, first


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
