from typing import Any

import psycopg2.errors
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dynxmpp.db.notify import Notifications
from dynxmpp.domains.errors import DomainDeleted, DomainExists, DomainNotFound, UnknownHostType, WrongHostType
from dynxmpp.domains.store import CHANNEL, DomainRow, DomainStatus, DomainStore
from tests.fixtures.postgres import DatabaseTestCase

ANY = lambda host_type: True  # noqa: E731


class StoreTests(DatabaseTestCase):
    migrations = DomainStore.migrations

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock = Clock()
        self.store = DomainStore(self.db, clock=self.clock)

    async def log_of(self) -> list[str]:
        return [row[0] for row in await self.db.query("SELECT domain FROM domain_events ORDER BY id")]

    async def test_inserting_writes_the_row_and_one_event(self) -> None:
        change = await self.store.insert("example.org", "basic")
        row = DomainRow("example.org", "basic", DomainStatus.ENABLED)
        self.assertEqual(change.row, row)
        self.assertEqual(await self.store.get("example.org"), row)
        self.assertEqual([event.id for event in await self.store.events(0, 10)], [change.event_id])

    async def test_inserting_again_changes_nothing_and_keeps_a_disabled_domain_disabled(self) -> None:
        await self.store.insert("example.org", "basic")
        await self.store.set_enabled("example.org", False, ANY)
        change = await self.store.insert("example.org", "basic")
        self.assertEqual(change.event_id, None)
        self.assertIs(change.row.status, DomainStatus.DISABLED)
        self.assertEqual(await self.log_of(), ["example.org"] * 2)

    async def test_the_same_name_under_another_host_type_is_taken(self) -> None:
        await self.store.insert("example.org", "basic")
        with self.assertRaises(DomainExists):
            await self.store.insert("example.org", "advanced")
        self.assertEqual(await self.log_of(), ["example.org"])

    async def test_the_name_of_a_domain_that_is_being_deleted_is_taken(self) -> None:
        await self.store.insert("example.org", "basic")
        await self.store.begin_delete("example.org", "basic")
        with self.assertRaises(DomainExists):
            await self.store.insert("example.org", "basic")

    async def test_a_status_that_is_there_already_makes_no_event(self) -> None:
        await self.store.insert("example.org", "basic")
        self.assertIsNone((await self.store.set_enabled("example.org", True, ANY)).event_id)
        self.assertIsNotNone((await self.store.set_enabled("example.org", False, ANY)).event_id)
        self.assertIsNone((await self.store.set_enabled("example.org", False, ANY)).event_id)
        self.assertEqual(await self.log_of(), ["example.org"] * 2)

    async def test_enabling_what_cannot_be_enabled(self) -> None:
        with self.assertRaises(DomainNotFound):
            await self.store.set_enabled("example.org", True, ANY)
        await self.store.insert("example.org", "basic")
        with self.assertRaises(UnknownHostType):
            await self.store.set_enabled("example.org", False, lambda host_type: host_type != "basic")
        await self.store.begin_delete("example.org", "basic")
        with self.assertRaises(DomainDeleted):
            await self.store.set_enabled("example.org", True, ANY)
        self.assertEqual(await self.log_of(), ["example.org"] * 2)

    async def test_deleting_has_two_phases_with_an_event_each(self) -> None:
        await self.store.insert("example.org", "basic")
        with self.assertRaises(WrongHostType):
            await self.store.begin_delete("example.org", "advanced")
        change = await self.store.begin_delete("example.org", "basic")
        assert change is not None
        self.assertIs(change.row.status, DomainStatus.DELETING)
        self.assertEqual([row.domain for row in await self.store.deleting()], ["example.org"])
        self.assertIsNotNone(await self.store.finish_delete("example.org"))
        self.assertIsNone(await self.store.get("example.org"))
        self.assertEqual(await self.log_of(), ["example.org"] * 3)

    async def test_deleting_what_is_not_there(self) -> None:
        self.assertIsNone(await self.store.begin_delete("example.org", "basic"))
        self.assertEqual(await self.log_of(), [])

    async def test_the_row_of_a_domain_that_is_not_being_deleted_cannot_be_finished(self) -> None:
        await self.store.insert("example.org", "basic")
        self.assertIsNone(await self.store.finish_delete("example.org"))
        self.assertIsNotNone(await self.store.get("example.org"))

    async def test_a_change_is_announced_with_the_id_of_its_event(self) -> None:
        heard: Deferred[str] = Deferred()
        notifications = Notifications(self.settings, clock=self.reactor, reactor=self.reactor)
        self.addCleanup(notifications.stop)
        notifications.subscribe(CHANNEL, heard.callback)
        await notifications.start()
        change = await self.store.insert("example.org", "basic")
        self.assertEqual(await heard, str(change.event_id))

    @property
    def reactor(self) -> Any:
        from twisted.internet import reactor

        return reactor

    async def test_names_are_data_to_the_database(self) -> None:
        for name in ("a'; DROP TABLE domain_settings; --", "50%s", "back\\slash", "a_b%c", 'quo"te', "ü.example"):
            await self.store.insert(name, name)
            self.assertEqual(await self.store.get(name), DomainRow(name, name, DomainStatus.ENABLED))
            self.assertEqual([row.domain for row in await self.store.browse(prefix=name)], [name])
            await self.store.begin_delete(name, name)
            await self.store.finish_delete(name)
        self.assertEqual(await self.store.browse(), [])

    async def test_browsing_by_pages_prefix_and_host_type(self) -> None:
        for name in ("b.example", "a_x.example", "a.example", "azx.example", "c.example"):
            await self.store.insert(name, "basic" if name != "c.example" else "advanced")
        names = lambda rows: [row.domain for row in rows]  # noqa: E731
        self.assertEqual(
            names(await self.store.browse()), ["a.example", "a_x.example", "azx.example", "b.example", "c.example"]
        )
        self.assertEqual(names(await self.store.browse(limit=2)), ["a.example", "a_x.example"])
        self.assertEqual(names(await self.store.browse(after="a_x.example", limit=2)), ["azx.example", "b.example"])
        self.assertEqual(names(await self.store.browse(prefix="a_")), ["a_x.example"])
        self.assertEqual(names(await self.store.browse(host_type="advanced")), ["c.example"])

    async def test_two_that_insert_the_same_name_at_once_agree(self) -> None:
        first = Deferred.fromCoroutine(self.store.insert("example.org", "basic"))
        second = Deferred.fromCoroutine(self.store.insert("example.org", "basic"))
        await self.reaches(lambda: first.called and second.called)
        events = [(await first).event_id, (await second).event_id]
        self.assertEqual(len([event for event in events if event is not None]), 1)
        self.assertEqual(await self.log_of(), ["example.org"])

    async def reaches(self, condition: Any) -> None:
        """Lets time pass on the store's clock until a pause that it makes is over."""
        from twisted.internet.task import deferLater

        for _ in range(2000):
            if condition():
                return
            self.clock.advance(0.1)
            await deferLater(self.reactor, 0.002)
        self.fail("never")

    async def test_a_conflict_is_tried_again_after_a_pause_and_three_times_in_all(self) -> None:
        # The next ids of the log are taken already: what a gap that was filled looks like to whoever had drawn it.
        await self.db.execute("INSERT INTO domain_events (id, domain) VALUES (1, ''), (2, '')")
        insertion = Deferred.fromCoroutine(self.store.insert("example.org", "basic"))
        await self.reaches(lambda: insertion.called)
        self.assertEqual((await insertion).event_id, 3)
        await self.db.execute("INSERT INTO domain_events (id, domain) VALUES (4, ''), (5, ''), (6, '')")
        insertion = Deferred.fromCoroutine(self.store.insert("example.net", "basic"))
        await self.reaches(lambda: insertion.called)
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            await insertion
        self.assertIsNone(await self.store.get("example.net"))

    async def test_missing_ids(self) -> None:
        await self.db.execute("INSERT INTO domain_events (id, domain) VALUES (3, ''), (5, ''), (8, ''), (1000000, '')")
        self.assertEqual(sorted(await self.store.missing_ids(1, 8, 10)), [1, 2, 4, 6, 7])
        self.assertEqual(sorted(await self.store.missing_ids(3, 9, 10)), [4, 6, 7, 9])
        self.assertEqual(sorted(await self.store.missing_ids(1, 1000000, 2)), [999998, 999999])
        self.assertEqual(await self.store.missing_ids(5, 5, 10), [])
