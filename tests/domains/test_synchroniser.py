"""Two nodes on one database; their clocks stand still, so nothing but what a test does makes them look."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from dynxmpp.db.notify import Notifications
from dynxmpp.domains import synchroniser
from dynxmpp.domains.store import DomainStore
from dynxmpp.wire.errors import Unavailable
from tests.domains.node import Node
from tests.fixtures.postgres import DatabaseTestCase


def events_of(captured: Any) -> list[str]:
    return [event["log_format"] for event in captured]


class SynchroniserTestCase(DatabaseTestCase):
    migrations = DomainStore.migrations

    async def node(self, **options: Any) -> Node:
        node = Node(self.db, **options)
        self.addCleanup(node.service.stop)
        return await node.start()

    async def insert_by_hand(self, domain: str, host_type: str = "basic", event_id: int | None = None) -> None:
        await self.db.execute("INSERT INTO domain_settings (domain, host_type) VALUES (%s, %s)", (domain, host_type))
        if event_id is None:
            await self.db.execute("INSERT INTO domain_events (domain) VALUES (%s)", (domain,))
        else:
            await self.db.execute("INSERT INTO domain_events (id, domain) VALUES (%s, %s)", (event_id, domain))

    async def log_ids(self) -> list[int]:
        return [row[0] for row in await self.db.query("SELECT id FROM domain_events ORDER BY id")]


class InitialLoadTests(SynchroniserTestCase):
    async def test_enabled_domains_are_loaded_page_by_page(self) -> None:
        for number in range(25):
            await self.insert_by_hand(f"d{number}.example")
        await self.db.execute("UPDATE domain_settings SET status = 0 WHERE domain = 'd3.example'")
        await self.db.execute("UPDATE domain_settings SET status = 2, host_type = 'x' WHERE domain = 'd4.example'")
        node = await self.node(page_rows=5)
        expected = {f"d{number}.example": "basic" for number in range(25) if number not in (3, 4)}
        self.assertEqual(node.served(), expected)

    async def test_an_empty_log_gets_an_event_to_stand_on(self) -> None:
        await self.node()
        self.assertEqual(len(await self.log_ids()), 1)
        await self.node()
        self.assertEqual(len(await self.log_ids()), 1)

    async def test_a_static_domain_wins_over_its_row(self) -> None:
        await self.insert_by_hand("static.example")
        with capturedLogs() as captured:
            node = await self.node(static=["static.example"])
        self.assertEqual(node.served(), {"static.example": "static.example"})
        self.assertIn("domain_static_but_in_db", events_of(captured))
        await self.db.execute("DELETE FROM domain_settings")
        await self.db.execute("INSERT INTO domain_events (domain) VALUES ('static.example')")
        await node.polls()
        self.assertEqual(node.served(), {"static.example": "static.example"})
        self.assertEqual(node.gone, [])

    async def test_a_row_of_an_unknown_host_type_is_passed_over_and_costs_the_others_nothing(self) -> None:
        await self.insert_by_hand("gold.example", "gold")
        await self.insert_by_hand("basic.example")
        with capturedLogs() as captured:
            poor = await self.node()
        rich = await self.node(host_types=["basic", "gold"])
        self.assertEqual(poor.served(), {"basic.example": "basic"})
        self.assertEqual(rich.served(), {"basic.example": "basic", "gold.example": "gold"})
        self.assertIn("ignore_domain_from_db_with_unknown_host_type", events_of(captured))

    async def test_a_domain_with_the_name_of_anothers_subdomain_wins_and_is_reported(self) -> None:
        await self.insert_by_hand("example.org")
        node = await self.node()
        node.table.register_subdomain("basic", "basic", "muclight.@HOST@")
        await self.insert_by_hand("muclight.example.org", "advanced")
        with capturedLogs() as captured:
            await node.polls()
        self.assertEqual(node.served()["muclight.example.org"], "advanced")
        self.assertIn("check_domain_name_failed", events_of(captured))

    async def test_a_database_that_is_away_at_start_is_waited_for(self) -> None:
        await self.insert_by_hand("example.org")
        away = Away(self.db)
        node = Node(away)
        self.addCleanup(node.service.stop)
        with capturedLogs() as captured:
            starting = Deferred.fromCoroutine(node.service.start())
            self.assertIn("domains_load_failed", events_of(captured))
            node.clock.advance(1)
            self.assertNoResult(starting)
            away.present = True
            node.clock.advance(2)
            await starting
        await node.settle()
        self.assertEqual(node.served(), {"example.org": "basic"})

    async def test_stopping_while_the_database_is_away_ends_the_start(self) -> None:
        node = Node(Away(self.db))
        starting = Deferred.fromCoroutine(node.service.start())
        await node.service.stop()
        await starting
        self.assertEqual((node.clock.getDelayedCalls(), node.background), ([], []))


class Away:
    """A database that cannot be reached until `present`."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.present = False

    def __getattr__(self, name: str) -> Any:
        if not self.present:
            raise Unavailable("away")
        return getattr(self.database, name)


class FollowingTests(SynchroniserTestCase):
    async def two(self, **options: Any) -> tuple[Node, Node]:
        return await self.node(**options), await self.node(**options)

    async def test_the_node_that_made_a_change_knows_it_when_the_call_returns(self) -> None:
        node, _ = await self.two()
        await node.service.insert("example.org", "basic")
        self.assertEqual(node.served(), {"example.org": "basic"})
        await node.service.set_enabled("example.org", False)
        self.assertEqual((node.served(), node.gone), ({}, ["example.org"]))
        await node.service.set_enabled("example.org", True)
        self.assertEqual(node.served(), {"example.org": "basic"})
        await node.service.delete("example.org", "basic")
        self.assertEqual((node.served(), node.gone), ({}, ["example.org", "example.org"]))

    async def test_without_notifications_the_poll_brings_it(self) -> None:
        here, there = await self.two()
        await here.service.insert("example.org", "basic")
        there.clock.advance(29)
        self.assertEqual(there.served(), {})
        await there.polls()
        self.assertEqual(there.served(), {"example.org": "basic"})
        await here.service.set_enabled("example.org", False)
        await there.polls()
        self.assertEqual((there.served(), there.gone), ({}, ["example.org"]))

    async def test_one_poll_takes_many_pages_of_events(self) -> None:
        self.patch(synchroniser, "EVENT_PAGE", 7)
        here, there = await self.two()
        for number in range(30):
            await here.service.insert(f"d{number}.example", "basic")
        await there.polls()
        self.assertEqual(len(there.served()), 30)

    async def test_a_notification_brings_it_at_once(self) -> None:
        gone: Deferred[str] = Deferred()
        arrived: Deferred[None] = Deferred()
        notifications = Notifications(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(notifications.stop)
        here = await self.node()
        there = await self.node(announcements=notifications)
        there.synchroniser._on_domain_gone = gone.callback
        insert = there.table.insert

        def inserted(domain: str, host_type: str) -> None:
            insert(domain, host_type)
            arrived.callback(None)

        there.table.insert = inserted  # type: ignore[method-assign]
        await notifications.start()
        await here.service.insert("example.org", "basic")
        await arrived
        self.assertEqual(there.served(), {"example.org": "basic"})
        await here.service.delete("example.org", "basic")
        self.assertEqual(await gone, "example.org")

    def looks(self, node: Node) -> list[Any]:
        """Grows by one with each look at the log from now on."""
        looks: list[Any] = []
        event_range = node.store.event_range

        async def counted() -> Any:
            looks.append(None)
            return await event_range()

        node.store.event_range = counted  # type: ignore[method-assign]
        return looks

    async def test_the_notification_of_ones_own_change_makes_nobody_look(self) -> None:
        node, other = await self.two()
        await node.service.insert("example.org", "basic")
        ((event_id,),) = await self.db.query("SELECT max(id) FROM domain_events")
        own, others = self.looks(node), self.looks(other)
        node.synchroniser._announced(str(event_id))
        other.synchroniser._announced(str(event_id))
        self.assertEqual((len(own), len(others)), (0, 1))
        await other.polled()

    async def test_looks_asked_for_during_a_look_become_one(self) -> None:
        _, there = await self.two()
        looks = self.looks(there)
        await there.synchroniser._lock.acquire()  # the first look cannot end yet
        for _ in range(10):
            there.synchroniser.check_soon()
        there.synchroniser._lock.release()
        await there.polled()
        self.assertEqual(len(looks), 2)

    async def test_a_database_that_is_away_at_a_poll_is_asked_at_the_next(self) -> None:
        away = Away(self.db)
        away.present = True
        node = Node(away)
        self.addCleanup(node.service.stop)
        await node.start()
        await self.insert_by_hand("example.org")
        away.present = False
        with capturedLogs() as captured:
            await node.polls()
        self.assertIn("domains_check_failed", events_of(captured))
        away.present = True
        await node.polls()
        self.assertEqual(node.served(), {"example.org": "basic"})

    async def test_deleted_and_inserted_again_with_another_type_between_two_looks(self) -> None:
        here, there = await self.two()
        await here.service.insert("example.org", "basic")
        await there.polls()
        await here.service.delete("example.org", "basic")
        await here.service.insert("example.org", "advanced")
        await there.polls()
        self.assertEqual((there.served(), there.gone), ({"example.org": "advanced"}, ["example.org"]))

    async def test_inserted_again_with_a_type_that_this_node_lacks(self) -> None:
        here = await self.node(host_types=["basic", "gold"])
        there = await self.node(host_types=["basic"])
        await here.service.insert("example.org", "basic")
        await there.polls()
        await here.service.delete("example.org", "basic")
        await here.service.insert("example.org", "gold")
        await there.polls()
        self.assertEqual((there.served(), there.gone), ({}, ["example.org"]))

    async def test_a_stopped_service_keeps_serving_and_catches_up_from_where_it_was(self) -> None:
        here, there = await self.two()
        await here.service.insert("example.org", "basic")
        await here.service.insert("example.net", "basic")
        await there.polls()
        await there.service.stop()
        self.assertEqual(there.clock.getDelayedCalls(), [])
        await here.service.delete("example.org", "basic")
        await here.service.insert("example.org", "advanced")
        await here.service.delete("example.net", "basic")
        self.assertEqual(there.served(), {"example.org": "basic", "example.net": "basic"})
        with capturedLogs() as captured:
            await there.start()
        self.assertEqual(there.served(), {"example.org": "advanced"})
        self.assertNotIn("domains_loaded", events_of(captured))

    async def test_a_change_that_was_overtaken_does_not_undo_the_later_one(self) -> None:
        here = await self.node()
        await here.service.insert("example.org", "basic")
        change = await here.store.set_enabled("example.org", False, lambda host_type: True)
        later = await here.store.set_enabled("example.org", True, lambda host_type: True)
        assert change.event_id is not None and later.event_id is not None
        await here.synchroniser.apply(later.event_id, "example.org", "basic")
        await here.synchroniser.apply(change.event_id, "example.org", None)
        self.assertEqual(here.served(), {"example.org": "basic"})
        await here.polls()
        await here.synchroniser.apply(change.event_id, "example.org", None)
        self.assertEqual(here.served(), {"example.org": "basic"})


class GapTests(SynchroniserTestCase):
    async def open_insertion(self, domain: str, *, drawn_only: bool = False) -> tuple[Any, Deferred[None]]:
        """A transaction that has its event's id (and, unless `drawn_only`, its row) and waits before its commit."""
        ready: Deferred[None] = Deferred()
        go_on: Deferred[None] = Deferred()

        async def work(transaction: Any) -> None:
            await transaction.execute("INSERT INTO domain_settings (domain, host_type) VALUES (%s, 'basic')", (domain,))
            ((event_id,),) = await transaction.query("SELECT nextval('domain_events_id_seq')")
            if not drawn_only:
                await transaction.execute("INSERT INTO domain_events VALUES (%s, %s)", (event_id, domain))
            ready.callback(None)
            await go_on
            if drawn_only:
                await transaction.execute("INSERT INTO domain_events VALUES (%s, %s)", (event_id, domain))

        insertion = Deferred.fromCoroutine(self.db.transaction(work))
        await ready
        return insertion, go_on

    async def test_an_event_that_becomes_visible_after_a_later_one_is_not_missed(self) -> None:
        node = await self.node()
        insertion, go_on = await self.open_insertion("slow.example")
        await self.insert_by_hand("quick.example")
        await node.polls()
        self.assertEqual(node.served(), {"quick.example": "basic"})
        go_on.callback(None)
        await insertion
        await node.polls()
        self.assertEqual(node.served(), {"quick.example": "basic", "slow.example": "basic"})
        self.assertEqual(node.synchroniser._gaps, set())

    async def test_the_same_when_the_node_starts_in_between(self) -> None:
        await self.insert_by_hand("first.example")
        insertion, go_on = await self.open_insertion("slow.example")
        await self.insert_by_hand("quick.example")
        node = await self.node()
        self.assertEqual(node.served(), {"first.example": "basic", "quick.example": "basic"})
        go_on.callback(None)
        await insertion
        await node.polls()
        self.assertEqual(len(node.served()), 3)

    async def test_an_id_that_was_drawn_and_not_written_can_never_be_used(self) -> None:
        node = await self.node()
        insertion, go_on = await self.open_insertion("slow.example", drawn_only=True)
        await self.insert_by_hand("quick.example")
        await node.polls()
        self.assertEqual(node.synchroniser._gaps, set())
        go_on.callback(None)
        # The store would try again under a new id: test_store.
        await self.assertFailure(insertion, Exception)
        self.assertEqual(await self.log_ids(), [1, 2, 3])

    async def test_holes_of_aborted_transactions_are_filled(self) -> None:
        node = await self.node()
        await self.db.query("SELECT nextval('domain_events_id_seq') FROM generate_series(1, 150)")
        await self.insert_by_hand("example.org")
        await node.polls()
        self.assertEqual(node.served(), {"example.org": "basic"})
        self.assertEqual(await self.log_ids(), list(range(1, 153)))

    async def test_a_local_change_in_a_gap_is_applied_once(self) -> None:
        node, other = await self.node(), await self.node()
        await self.db.query("SELECT nextval('domain_events_id_seq')")
        await node.service.insert("example.org", "basic")
        self.assertEqual(node.served(), {"example.org": "basic"})
        await other.service.set_enabled("example.org", False)
        await node.polls()
        self.assertEqual((node.served(), node.gone), ({}, ["example.org"]))
        self.assertEqual(node.synchroniser._ahead, {})


class LogTests(SynchroniserTestCase):
    async def test_old_events_go_and_one_always_remains(self) -> None:
        node = await self.node()
        for number in range(5):
            await node.service.insert(f"d{number}.example", "basic")
        node.clock.advance(1800)  # notes where the log ends now
        await node.polled()
        await node.service.insert("last.example", "basic")
        before = await self.log_ids()
        await self.passes(node, 7199)
        self.assertEqual(await self.log_ids(), before)
        await self.passes(node, 1)
        await self.log_shorter_than(len(before))
        self.assertEqual(await self.log_ids(), before[-2:])
        await self.passes(node, 9000)
        await self.log_shorter_than(2)
        self.assertEqual(await self.log_ids(), before[-1:])

    async def passes(self, node: Node, seconds: float) -> None:
        """Lets time pass, one poll at a time."""
        while seconds > 0:
            step = min(30.0, seconds)
            node.clock.advance(step)
            seconds -= step
            await node.polled()

    async def log_shorter_than(self, length: int) -> None:
        while len(await self.log_ids()) >= length:
            pass

    async def test_a_node_that_was_away_longer_than_the_log_reaches_reads_everything_anew(self) -> None:
        here, there = await self.node(), await self.node()
        await here.service.insert("old.example", "basic")
        await there.polls()
        await here.service.delete("old.example", "basic")
        for number in range(5):
            await here.service.insert(f"d{number}.example", "basic")
        ((highest,),) = await self.db.query("SELECT max(id) FROM domain_events")
        await self.db.execute("DELETE FROM domain_events WHERE id < %s", (highest,))
        with capturedLogs() as captured:
            await there.polls()
        self.assertIn("events_log_out_of_sync", events_of(captured))
        self.assertEqual(there.served(), here.served())
        self.assertEqual(there.gone, ["old.example"])

    async def test_a_log_that_was_wiped_goes_on_with_the_next_event(self) -> None:
        node = await self.node()
        await node.service.insert("a.example", "basic")
        await self.db.execute("DELETE FROM domain_events")
        with capturedLogs() as captured:
            await node.polls()
            await self.insert_by_hand("b.example")
            await node.polls()
        self.assertEqual(set(node.served()), {"a.example", "b.example"})
        self.assertEqual([e for e in captured if e["log_level"] is LogLevel.critical], [])

    async def test_a_wiped_log_whose_ids_have_jumped_is_followed_by_a_full_load(self) -> None:
        node = await self.node()
        await node.service.insert("a.example", "basic")
        await self.db.execute("DELETE FROM domain_events")
        await self.insert_by_hand("unseen.example", event_id=500)
        await self.db.execute("DELETE FROM domain_events")
        await self.insert_by_hand("b.example", event_id=501)
        with capturedLogs() as captured:
            await node.polls()
        self.assertIn("events_log_out_of_sync", events_of(captured))
        self.assertEqual(set(node.served()), {"a.example", "unseen.example", "b.example"})

    async def test_a_log_that_begins_anew_is_followed_by_a_full_load(self) -> None:
        node = await self.node()
        for name in ("a.example", "b.example"):
            await node.service.insert(name, "basic")
        await self.db.execute("DELETE FROM domain_settings")
        await self.db.execute("TRUNCATE domain_events RESTART IDENTITY")
        await self.insert_by_hand("c.example")
        await node.polls()
        self.assertEqual(node.served(), {"c.example": "basic"})
        self.assertEqual(sorted(node.gone), ["a.example", "b.example"])

    async def test_a_huge_jump_of_the_sequence_is_survived(self) -> None:
        node = await self.node()
        await self.db.execute("ALTER SEQUENCE domain_events_id_seq RESTART WITH 5000000000")
        await self.insert_by_hand("example.org")
        await node.polls()
        self.assertEqual(node.served(), {"example.org": "basic"})
        await self.insert_by_hand("example.net")
        with capturedLogs() as captured:
            await node.polls()
        self.assertEqual(set(node.served()), {"example.org", "example.net"})
        self.assertNotIn("events_log_out_of_sync", events_of(captured))
