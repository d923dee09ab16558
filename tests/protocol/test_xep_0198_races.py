"""XEP-0198: what must hold when a connection ends, comes back, or is too slow at the wrong moment."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.commit import CommitTicket
from dynxmpp.config.acl import AccessClause
from dynxmpp.core.passage import _run_held
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.db.batch import FIRST_RETRY_S, BatchWriter
from dynxmpp.modules.offline import _COUNT, _FETCH, ORDER_PATIENCE_S, PAGE_BYTES, Offline
from dynxmpp.modules.ping import Ping, PingConfig
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.stream_management import NS_SM, StaleH, StreamManagement, StreamManagementConfig
from dynxmpp.wire.errors import StreamError
from tests.fixtures.c2s import C2SServer, Client
from tests.protocol.managed_streams import BOB, PHONE, EnabledCase, ManagedCase, Records

ACCOUNT = "ann@a.example"


class PingedCase(ManagedCase):
    async def setUp(self) -> None:  # type: ignore[override]
        ping: Any = (Ping, PingConfig(send_pings=True, timeout_action="kill"))
        self.server = C2SServer(modules=[Records, Presence, ping, StreamManagement])
        self.ann = await self.server.logged_in(PHONE)
        self.id = self.enable(self.ann)["id"]

    def is_pinged(self, client: Client) -> bool:
        return "iq" in [e.name for e in client.received()]

    async def test_who_was_found_dead_and_came_back_is_pinged_again(self) -> None:
        """And found dead again; nothing is left of it in the end."""
        client = self.ann
        for _ in range(3):
            self.server.clock.advance(60)
            self.assertTrue(self.is_pinged(client))
            self.server.clock.advance(32)
            self.assertEqual("connection-timeout", client.stream_error())
            client = await self.resumes(self.id, 0)
            client.receives("resumed")
            client.received()
        client.sends("</stream:stream>")
        self.assertEqual([], self.server.clock.getDelayedCalls())

    async def test_who_is_away_is_neither_pinged_nor_ended(self) -> None:
        self.ann.loses()
        self.server.clock.advance(599)
        self.assertEqual(PHONE, self.session().full)
        self.server.clock.advance(1)
        self.assertEqual([], self.server.clock.getDelayedCalls())

    async def test_who_has_just_come_back_has_its_time(self) -> None:
        self.ann.loses()
        self.server.clock.advance(55)
        back = await self.resumes(self.id, 0)
        back.received()
        self.server.clock.advance(59)
        self.assertFalse(self.is_pinged(back))
        self.server.clock.advance(61)
        self.assertTrue(self.is_pinged(back))
        back.sends("</stream:stream>")
        self.assertEqual([], self.server.clock.getDelayedCalls())


class Rows:
    """Stands for the table of offline messages."""

    def __init__(self, *bodies: str) -> None:
        self.rows = [
            (
                str(number),
                datetime.fromtimestamp(0, UTC),
                f"<message from='{BOB}' to='{ACCOUNT}'><body>{body}</body></message>".encode(),
            )
            for number, body in enumerate(bodies)
        ]
        self.fetched = 0

    async def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if sql == _COUNT:
            return [(len(self.rows),)]
        assert sql == _FETCH.format(bytes=PAGE_BYTES)
        self.fetched += 1
        size, page = 0, []
        for row in self.rows:
            if size >= PAGE_BYTES:
                break
            size += len(row[2])
            page.append((1, *row))
        return page

    def call_soon(self, function: Callable[[], None]) -> None:
        function()

    async def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        assert sql.startswith("DELETE")
        self.rows = [row for row in self.rows if row[0] not in params[2]]
        return 1


class OfflineCase(ManagedCase):
    async def setUp(self) -> None:  # type: ignore[override]
        management: Any = (StreamManagement, StreamManagementConfig(**self.options))
        self.server = C2SServer(modules=[Offline, Presence, management])
        self.offline: Any = self.server.type_of("a.example").modules["mod_offline"]
        self.ann = await self.server.logged_in(PHONE)
        self.bob = await self.server.logged_in(BOB)
        self.addCleanup(self.end_all)

    def end_all(self) -> None:
        """Nobody waits for an acknowledgement any more."""
        for session in self.server.sessions:
            session.end(StreamError("system-shutdown"))

    def store(self, *bodies: str) -> Rows:
        rows = Rows(*bodies)
        self.offline.database = self.offline._writer._database = self.offline._pages._database = rows
        return rows

    def names(self, client: Client) -> list[str]:
        return [e.name for e in client.received() if e.name != "presence"]


class OfflineMessages(OfflineCase):
    options = {"buffer_max": 2, "buffer_max_bytes": 2000}

    async def test_a_page_may_be_more_than_is_kept_of_other_stanzas(self) -> None:
        """It stays stored; who counted it would end each session that comes for it."""
        bodies = [str(number) * 20 for number in range(50)]
        rows = self.store(*bodies)
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        self.assertEqual(bodies, self.bodies(self.ann))
        self.assertTrue(self.ann.is_open)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='51'/>")
        self.assertEqual([], rows.rows)

    async def test_nor_for_a_client_that_goes_away_meanwhile(self) -> None:
        rows = self.store(*["x" * 100] * 50)
        id_ = self.enable(self.ann)["id"]
        self.ann.sends("<presence/>")
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        self.server.clock.advance(ORDER_PATIENCE_S)
        back = await self.resumes(id_, 1)
        back.receives("resumed")
        self.assertEqual(["x" * 100] * 50 + ["1"], self.bodies(back))
        back.sends(f"<a xmlns='{NS_SM}' h='52'/>")
        self.assertEqual([], rows.rows)

    async def test_a_page_that_follows_resumption_comes_once(self) -> None:
        """The client has the first one, as its resumption says."""
        bodies = [f"{number} {'x' * 70_000}" for number in range(4)]
        rows = self.store(*bodies)
        id_ = self.enable(self.ann)["id"]
        self.ann.sends("<presence/>")
        self.assertEqual(bodies[:2], self.bodies(self.ann))
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        self.server.clock.advance(ORDER_PATIENCE_S)
        back = await self.resumes(id_, 3)
        back.receives("resumed")
        self.assertEqual(["1", *bodies[2:]], self.bodies(back))
        back.sends(f"<a xmlns='{NS_SM}' h='6'/>")
        self.assertEqual([], rows.rows)

    async def test_what_is_not_stored_is_counted_all_the_same(self) -> None:
        self.store(*["x"] * 50)
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        self.server.clock.advance(ORDER_PATIENCE_S)
        for number in range(19):  # and the presence
            self.says(self.bob, number, PHONE)
        self.assertEqual([], self.server.observer().ended)
        self.says(self.bob, 20, PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)

    async def test_a_page_that_was_acknowledged_in_part_is_delivered_in_part(self) -> None:
        rows = self.store("0", "1", "2")
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        self.ann.sends(f"<a xmlns='{NS_SM}' h='3'/>")
        self.assertEqual(3, len(rows.rows))
        self.ann.sends("</stream:stream>")
        self.assertEqual(["2"], [row[0] for row in rows.rows])
        again = await self.server.logged_in(PHONE)
        again.sends("<presence/>")
        self.assertEqual(["2"], self.bodies(again))

    async def test_one_resource_after_the_other(self) -> None:
        """While it is not known what the first one has, the second gets nothing: it would be twice there."""
        rows = self.store("0", "1")
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        desk = await self.server.logged_in(f"{ACCOUNT}/desk")
        desk.sends("<presence/>")
        self.assertEqual([], self.bodies(desk))
        self.ann.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.ann.sends("</stream:stream>")
        self.assertEqual(["1"], self.bodies(desk))
        self.assertEqual([], rows.rows)

    async def test_a_message_has_one_time(self) -> None:
        """Redelivery has said it already, or a sender says so."""
        rows = self.store()
        delay = "<delay xmlns='urn:xmpp:delay' from='a.example' stamp='2001-01-01T00:00:00Z'/>"
        rows.rows = [("1", datetime.fromtimestamp(5, UTC), f"<message from='{BOB}'><body/>{delay}</message>".encode())]
        self.ann.sends("<presence/>")
        message = next(e for e in self.ann.received() if e.name == "message")
        stamps = [e["stamp"] for e in message.elements("urn:xmpp:delay", "delay")]
        self.assertEqual(["1970-01-01T00:00:05.000Z"], stamps)


class RarelyAsked(OfflineCase):
    options = {"ack_freq": 100}

    async def test_what_is_stored_is_asked_for(self) -> None:
        """It stays stored, and nobody else gets it, until the client has answered."""
        rows = self.store("0", "1")
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        self.assertEqual(["message", "r", "message"], self.names(self.ann))
        self.ann.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.assertEqual(["r"], self.names(self.ann))
        self.ann.sends(f"<a xmlns='{NS_SM}' h='3'/>")
        self.assertEqual([], rows.rows)
        self.assertEqual([], self.names(self.ann))
        self.says(self.bob, 1, PHONE)
        self.assertEqual(["message"], self.names(self.ann))


class NeverAsked(OfflineCase):
    options = {"ack": False}

    async def test_not_even_by_an_answer(self) -> None:
        self.store()
        self.enable(self.ann)
        for number in range(3):
            self.says(self.bob, number, PHONE)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertEqual(["message"] * 3, self.names(self.ann))

    async def test_but_for_what_is_stored(self) -> None:
        self.store("0")
        self.enable(self.ann)
        self.ann.sends("<presence/>")
        self.assertEqual(["message", "r"], self.names(self.ann))

    async def test_it_is_asked_for_again_after_resumption(self) -> None:
        self.store("0")
        id_ = self.enable(self.ann)["id"]
        self.ann.sends("<presence/>")
        self.ann.loses()
        back = await self.resumes(id_, 1)
        self.assertEqual(["resumed", "message", "r"], self.names(back))
        back.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.server.clock.advance(ORDER_PATIENCE_S)
        self.says(self.bob, 1, PHONE)
        back.loses()
        back = await self.resumes(id_, 2)
        self.assertEqual(["resumed", "message"], self.names(back))


class WhoAcknowledges(ManagedCase):
    options = {"buffer_max": 2, "buffer_max_bytes": 300}

    async def test_it_may_be_sent_as_much_as_there_is(self) -> None:
        """Only what is not acknowledged is kept, in stanzas and in bytes."""
        id_ = self.enable(self.ann)["id"]
        for number in range(100):
            self.says(self.bob, number, PHONE)
            self.ann.sends(f"<a xmlns='{NS_SM}' h='{number + 1}'/>")
        self.assertEqual([], self.server.observer().ended)
        self.ann.loses()
        self.says(self.bob, 100, PHONE)
        self.assertEqual([], self.server.observer().ended)
        back = await self.resumes(id_, 100)
        back.receives("resumed")
        self.assertEqual(["100"], self.bodies(back))


class MuchToSay(ManagedCase):
    async def test_what_was_missed_may_be_more_than_may_wait_for_a_client_that_does_not_read(self) -> None:
        """Else each attempt to resume would end as the first one did."""
        self.server.context.config = type(self.server.context.config)(port=5222, max_send_queue=300_000)
        ann = await self.server.logged_in(PHONE)
        id_ = self.enable(ann)["id"]
        for number in range(6):
            self.bob.sends(f"<message to='{PHONE}' id='{number}'><body>{'x' * 100_000}</body></message>")
        ann.loses()
        back = await self.authenticated()
        back.transport.peer_reads = False
        back.sends(f"<resume xmlns='{NS_SM}' previd='{id_}' h='0'/>")
        self.says(self.bob, 6, PHONE)
        self.assertTrue(back.transport.connected)
        back.transport.peer_reads = True
        while back.transport.waiting:
            back.transport.drain(50_000)
            self.server.clock.advance(0)
        self.assertEqual([*map(str, range(7))], [e["id"] for e in back.received() if e.name == "message"])

    async def test_but_it_is_not_more_for_ever(self) -> None:
        self.server.context.config = type(self.server.context.config)(port=5222, max_send_queue=300_000)
        ann = await self.server.logged_in(PHONE)
        id_ = self.enable(ann)["id"]
        self.bob.sends(f"<message to='{PHONE}'><body>{'x' * 200_000}</body></message>")
        ann.loses()
        for reads_slowly in (False, True):
            back = await self.authenticated()
            back.transport.peer_reads = not reads_slowly
            back.sends(f"<resume xmlns='{NS_SM}' previd='{id_}' h='0'/>")
            while back.transport.waiting:
                back.transport.drain(50_000)
            back.transport.peer_reads = False
            for _ in range(5):
                self.assertTrue(back.transport.connected)
                self.bob.sends(f"<message to='{PHONE}'><body>{'x' * 90_000}</body></message>")
            self.assertFalse(back.transport.connected)


class WhoMakesRoom(TestCase):
    async def test_a_session_whose_client_is_away(self) -> None:
        """Rather than an older one whose client is there."""
        rules = {"max_user_sessions": (AccessClause(acl="all", value=2),)}
        server = C2SServer(modules=[Presence, StreamManagement], rules=rules)
        desk = await server.logged_in(f"{ACCOUNT}/desk")
        phone = await server.logged_in(PHONE)
        phone.sends(f"<enable xmlns='{NS_SM}' resume='true'/>")
        phone.loses()
        await server.logged_in(f"{ACCOUNT}/other")
        self.assertEqual([PHONE], server.observer().ended)
        self.assertTrue(desk.is_open)
        await server.logged_in(f"{ACCOUNT}/third")
        self.assertEqual([PHONE, f"{ACCOUNT}/desk"], server.observer().ended)


class StaleCounters(ManagedCase):
    options = {"stale_h": StaleH(enabled=True), "resume_timeout": 50}

    async def test_what_is_committed_after_the_end_counts(self) -> None:
        """The client would send it again."""
        id_ = self.enable(self.ann)["id"]
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.says(self.ann, 2)
        self.ann.loses()
        self.server.clock.advance(50)
        self.assertEqual([PHONE], self.server.observer().ended)
        self.records.commits()
        late = await self.resumes(id_, 0)
        self.assertEqual("1", late.receives("failed")["h"])
        self.records.commits()
        late = await self.resumes(id_, 0)
        self.assertEqual("2", late.receives("failed")["h"])


class Resumption(EnabledCase):
    async def test_while_a_stanza_of_the_old_connection_waits(self) -> None:
        """One in the slow lane, and a line of them that has stopped the reading."""
        wait = self.records.wait = Deferred()
        for number in range(33):
            self.says(self.ann, number)
        self.assertFalse(self.ann.transport.reading)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        self.assertEqual([], back.received())
        self.records.wait = None
        wait.callback(None)
        self.server.clock.advance(0)
        self.assertEqual("34", back.receives("resumed")["h"])
        self.assertEqual([*map(str, range(33))], self.bodies(self.bob))
        self.assertTrue(back.transport.reading)
        self.says(back, 40)
        self.asks(back)
        self.assertEqual(35, self.h(back))

    async def test_who_is_not_to_be_read_is_not_read_after_it_either(self) -> None:
        session = self.session()
        session.slow_down(True)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.receives("resumed")
        self.says(back, 1)
        self.assertEqual([], self.bodies(self.bob))
        session.slow_down(False)
        self.server.clock.advance(0)
        self.assertEqual(["1"], self.bodies(self.bob))

    async def test_of_a_session_that_ends_meanwhile(self) -> None:
        """By whoever ends it: the client is told, and may bind."""
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        back = await self.resumes(self.id, 1)
        await self.server.logged_in(PHONE)
        self.assertEqual("item-not-found", back.receives("failed").firstChildElement().name)
        self.records.commits()
        self.assertEqual([("1", 0.0)], self.records.offline)
        self.assertEqual("result", back.binds("other")["type"])

    async def test_of_a_session_that_has_too_much_to_keep(self) -> None:
        """What it has kept goes to offline storage once, and the client is not told that it was resumed."""
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        for number in range(101):
            self.says(self.bob, number, PHONE)
        self.assertEqual("item-not-found", back.receives("failed").firstChildElement().name)
        self.assertEqual([str(number) for number in range(101)], [body for body, _ in self.records.offline])

    async def test_a_client_that_gives_up_and_tries_again_while_it_waits(self) -> None:
        """The last attempt has it; of the others nothing is left."""
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        for _ in range(3):
            attempt = await self.resumes(self.id, 1)
            attempt.loses()
        back = await self.resumes(self.id, 1)
        self.records.commits()
        self.assertEqual("2", back.receives("resumed")["h"])
        self.server.clock.advance(601)
        self.assertEqual([], self.server.observer().ended)
        back.sends("</stream:stream>")
        self.bob.sends("</stream:stream>")
        self.server.clock.advance(0)
        self.assertEqual((0, {}, 0, 0), self.server.balance)

    async def test_by_a_stream_whose_time_is_up_while_it_waits(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        self.server.clock.advance(self.server.context.config.state_timeout / 1000)
        self.assertEqual("connection-timeout", back.stream_error())
        self.records.commits()
        self.server.clock.advance(600)
        self.assertEqual([PHONE], self.server.observer().ended)

    async def test_of_a_domain_that_goes_meanwhile(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.says(self.bob, 1, PHONE)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        session = self.session()
        self.server.domains.delete("a.example")
        session.end(StreamError("host-gone"))
        self.assertEqual("item-not-found", back.receives("failed").firstChildElement().name)
        self.records.commits()
        self.assertEqual([], self.records.offline)

    async def test_an_error_for_what_could_not_be_written_waits_for_the_client(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        self.records.tickets.pop().fail()
        back = await self.resumes(self.id, 1)
        self.assertEqual("2", back.receives("resumed")["h"])
        self.assertEqual(("error", "1"), (lambda e: (e["type"], e["id"]))(back.receives("message")))

    async def test_counters_go_on(self) -> None:
        """Of both sides, over several connections, with stanzas that were lost on the way."""
        client, sent, had = self.ann, 1, 1
        for number in range(4):
            self.says(client, number)
            sent += 1
            self.says(self.bob, 2 * number, PHONE)
            self.says(self.bob, 2 * number + 1, PHONE)
            client.loses()
            had += 1  # the second one was lost
            client = await self.resumes(self.id, had)
            self.assertEqual(sent, int(client.receives("resumed")["h"]))
            self.assertEqual([str(2 * number + 1)], self.bodies(client))
            had += 1
            client.sends(f"<a xmlns='{NS_SM}' h='{had}'/>")
        self.asks(client)
        self.assertEqual(sent, self.h(client))

    async def test_questions_of_the_old_connection_are_not_answered_on_the_new_one(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.asks(self.ann)
        self.asks(self.ann)
        self.ann.loses()
        self.records.commits()
        back = await self.resumes(self.id, 1)
        back.receives("resumed")
        self.server.clock.advance(10)
        self.assertEqual([], back.received())

    async def test_many_questions_cost_one_answer_and_one_timer(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        timers = len(self.server.clock.getDelayedCalls())
        self.ann.sends(f"<r xmlns='{NS_SM}'/>" * 1000)
        self.assertEqual(timers + 1, len(self.server.clock.getDelayedCalls()))
        self.records.commits()
        self.assertEqual(["a"], [e.name for e in self.ann.received()])


class Broken(TestCase):
    """Faults of our own, which must not hold back what has nothing to do with them."""

    def test_one_who_waits_for_a_commit_and_fails(self) -> None:
        ticket = CommitTicket()
        told: list[CommitTicket] = []

        def fails(_: CommitTicket) -> None:
            raise RuntimeError("a fault")

        ticket.hold()
        ticket.when_settled(fails)
        ticket.when_settled(told.append)
        ticket.release()
        self.assertEqual([ticket], told)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_what_lines_up_behind_a_job_that_fails(self) -> None:
        lane = SlowLane()
        first: Deferred[None] = Deferred()
        done: list[str] = []

        def fails() -> None:
            raise RuntimeError("a fault")

        lane.add(("a", "b"), lambda: first)
        lane.add(("a", "b"), fails)
        lane.add(("a", "b"), lambda: done.append("last"))
        first.errback(RuntimeError("another fault"))
        self.assertEqual(["last"], done)
        self.assertFalse(lane)
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))

    def test_a_job_of_the_slow_lane_that_fails(self) -> None:
        """Its ticket is settled, or the stanza's sender would wait for ever; and it is not committed."""

        def at_once() -> None:
            raise RuntimeError("a fault")

        async def fails() -> None:
            raise RuntimeError("a fault")

        for job in (at_once, fails):
            lane, ticket = SlowLane(), CommitTicket()
            ticket.hold()
            lane.add(("a", "b"), partial(_run_held, job, ticket))
            self.assertTrue(ticket.settled and ticket.failed)
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))

    def test_a_database_that_fails_in_an_unknown_way(self) -> None:
        """The batch is written again, and later ones after it."""

        class Fails:
            problems: list[Exception] = [RuntimeError("a fault"), KeyError("x")]
            written: list[Any] = []

            async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
                if self.problems:
                    raise self.problems.pop()
                self.written.append(params)
                return 1

        clock, database = Clock(), Fails()
        writer = BatchWriter(database, "INSERT", clock=clock)
        first, second = CommitTicket(), CommitTicket()
        writer.write((1,), first)
        clock.advance(1)
        clock.advance(FIRST_RETRY_S)
        clock.advance(2 * FIRST_RETRY_S)
        self.assertTrue(first.committed)
        writer.write((2,), second)
        clock.advance(1)
        self.assertTrue(second.committed)
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError, KeyError)))
