"""What domains use: counted where messages come in, added up over nodes, and measured where it is stored."""

from collections.abc import Awaitable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.core.domain_table import DomainOrigin
from dynxmpp.core.usage import Count, UsageCounters
from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.store import DomainStore
from dynxmpp.domains.stored_sizes import MAX_AGE_S, Size, StoredSizes
from dynxmpp.domains.usage import PERIOD_S, UsageRecorder, UsageStore, Used
from dynxmpp.module_loader import stop_modules
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, PmArchive
from dynxmpp.modules.private import Private
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.dialogue import Host
from tests.fixtures.postgres import DatabaseTestCase

PM = MamConfig(pm=PmArchive())
MESSAGE = "<message to='juliet@capulet.example' type='chat'><body>{}</body></message>"
#: Half past eleven at night of the last day of a month.
LATE_S = 1_782_862_200.0


class FailingDatabase:
    """A real one, whose answers may get lost: before a statement has run, or after."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.before = self.after = 0

    async def execute(self, sql: str, params: Any = ()) -> int:
        if self.before:
            self.before -= 1
            raise Unavailable("away")
        count: int = await self.database.execute(sql, params)
        if self.after:
            self.after -= 1
            raise Unavailable("the answer was lost")
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class Counting(TestCase):
    async def test_messages_count_for_the_domain_that_sends_them(self) -> None:
        host = Host()
        romeo, juliet = host.session("romeo@montague.example/a"), host.session("juliet@capulet.example/b")
        romeo.sends(MESSAGE.format("art thou"))
        romeo.sends(MESSAGE.format("é"))
        romeo.sends("<presence/>")
        romeo.sends("<iq type='get' id='1' to='capulet.example'><x xmlns='nothing'/></iq>")
        content = len("<body>art thou</body><body>é</body>".encode())
        self.assertEqual([Count("montague.example", 2, content)], host.router.usage.take())
        juliet.sends("<message to='romeo@montague.example'/>")
        self.assertEqual([Count("capulet.example", 1, 0)], host.router.usage.take())

    async def test_domains_that_are_silent_are_forgotten(self) -> None:
        host = Host()
        host.session("romeo@montague.example/a").sends(MESSAGE.format("x"))
        counters = host.router.usage
        counters.take()
        self.assertTrue(counters.active("montague.example"))
        self.assertEqual([], counters.take())
        self.assertFalse(counters.active("montague.example"))

    def test_what_a_domain_that_is_gone_has_used_stays(self) -> None:
        counters = UsageCounters()
        host_type: Any = object()
        counters.open("a.example", host_type).messages += 2
        counters.close("a.example")
        counters.open("a.example", host_type).messages += 3
        self.assertEqual(Count("a.example", 5, 0), counters.current("a.example"))
        self.assertEqual([Count("a.example", 5, 0)], counters.take())
        counters.open("a.example", host_type).messages += 1
        counters.forget("a.example")
        self.assertEqual([], counters.take())


class RecorderCase(DatabaseTestCase):
    migrations = (*DomainStore.migrations, *UsageStore.migrations)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock = Clock()
        self.clock.advance(LATE_S)
        self.work: list[Deferred[None]] = []
        for domain in ("montague.example", "capulet.example"):
            await DomainStore(self.db, clock=self.clock).insert(domain, "basic")
        self.host, self.recorder = self.node(self.db)

    def node(self, database: Any) -> tuple[Host, UsageRecorder]:
        """One of the processes that share the database."""
        host = Host()
        recorder = UsageRecorder(
            UsageStore(database, has_dynamic=True),
            host.router.usage,
            is_static=host.domains.is_static,
            clock=self.clock,
            spawn=self.spawn,
        )
        return host, recorder

    def spawn(self, event: str, work: Awaitable[object]) -> None:
        async def run() -> None:
            await work

        self.work.append(Deferred.fromCoroutine(run()))

    async def settle(self) -> None:
        while self.work:
            await self.work.pop()

    def say(self, count: int, host: Host | None = None, domain: str = "montague.example") -> None:
        """Messages of two bytes each."""
        host = host or self.host
        session = host.session(f"romeo@{domain}/{len(host.sessions)}")
        for _ in range(count):
            session.sends(f"<message to='nobody@{domain}'><a/></message>")

    async def used(self, recorder: UsageRecorder | None = None, domain: str = "montague.example") -> Used:
        return await (recorder or self.recorder).of_domain(domain)


class Recording(RecorderCase):
    async def test_nodes_are_added_up(self) -> None:
        other_host, other = self.node(self.db)
        self.say(2)
        self.say(3, other_host)
        self.say(1, other_host, "capulet.example")
        await self.recorder.flush()
        await other.flush()
        self.assertEqual(Used(5, 20, 5, 20), await self.used())
        self.assertEqual(Used(1, 4, 1, 4), await self.used(domain="capulet.example"))
        self.assertEqual(await self.used(), await self.used(other))

    async def test_what_is_not_written_yet_is_known_to_its_node(self) -> None:
        self.say(2)
        self.assertEqual(Used(2, 8, 2, 8), await self.used())
        _, other = self.node(self.db)
        self.assertEqual(Used(), await self.used(other))

    async def test_each_minute_and_at_the_end_what_there_is_gets_written(self) -> None:
        self.recorder.start()
        self.say(1)
        self.clock.advance(PERIOD_S)
        await self.settle()
        _, other = self.node(self.db)
        self.assertEqual(Used(1, 4, 1, 4), await self.used(other))
        self.say(2)
        await self.recorder.stop()
        self.assertEqual(Used(3, 12, 3, 12), await self.used(other))
        self.assertEqual([], self.clock.getDelayedCalls())

    async def test_a_day_ends_at_midnight_and_so_does_a_month(self) -> None:
        self.recorder.start()
        self.addCleanup(self.recorder.stop)
        self.say(2)
        self.clock.advance(1770)  # half a minute is left of the day
        await self.settle()
        self.say(3)
        self.clock.advance(31)
        await self.settle()
        self.assertEqual(Used(), await self.used())
        self.say(1)
        self.assertEqual(Used(1, 4, 1, 4), await self.used())
        rows = await self.db.query("SELECT month::text, messages, day::text, day_messages FROM domain_usage")
        self.assertEqual([("2026-06-01", 5, "2026-06-30", 5)], rows)
        await self.recorder.flush()
        self.clock.advance(86_400)
        await self.settle()
        self.say(4)
        await self.recorder.flush()
        self.assertEqual(Used(5, 20, 4, 16), await self.used())

    async def test_what_a_slow_node_writes_of_yesterday_is_not_of_today(self) -> None:
        self.clock.advance(3600)
        slow_host, slow = self.node(self.db)
        self.say(2, slow_host)
        self.clock.advance(86_400)
        host, recorder = self.node(self.db)
        self.say(4, host)
        await recorder.flush()
        await slow.flush()
        self.assertEqual(Used(6, 24, 4, 16), await self.used())

    async def test_a_database_that_is_away_loses_nothing(self) -> None:
        database = FailingDatabase(self.db)
        host, recorder = self.node(database)
        database.before = 2
        self.say(2, host)
        await recorder.flush()
        self.say(3, host)
        await recorder.flush()
        await recorder.flush()
        await recorder.flush()
        self.assertEqual(Used(5, 20, 5, 20), await self.used())
        self.flushLoggedErrors()

    async def test_a_batch_whose_answer_was_lost_counts_once(self) -> None:
        database = FailingDatabase(self.db)
        host, recorder = self.node(database)
        database.after = 1
        self.say(2, host)
        await recorder.flush()
        await recorder.flush()
        self.assertEqual(Used(2, 8, 2, 8), await self.used())

    async def test_what_comes_after_the_end_of_a_domain_is_not_kept_for_the_next_of_that_name(self) -> None:
        store = DomainStore(self.db, clock=self.clock)
        self.say(1)
        await self.recorder.flush()
        await store.begin_delete("montague.example", "basic")
        self.say(2)
        place = Place(self.db, UsageStore.stored)
        remover = DomainRemover(store, settings_database=self.db, places=[place], forgetful=[self.recorder])
        self.host.router.usage.take()
        self.say(2)
        await self.recorder.flush()
        await remover.remove_domain("montague.example")
        await store.insert("montague.example", "basic")
        self.assertEqual(Used(), await self.used())
        self.assertEqual([], await self.db.query("SELECT * FROM domain_usage"))

    async def test_another_node_that_counted_a_removed_domain_writes_nothing(self) -> None:
        other_host, other = self.node(self.db)
        self.say(2, other_host)
        store = DomainStore(self.db, clock=self.clock)
        await store.begin_delete("montague.example", "basic")
        await store.finish_delete("montague.example")
        await other.flush()
        self.assertEqual([], await self.db.query("SELECT * FROM domain_usage"))

    async def test_a_static_domain_has_no_row_among_the_dynamic_ones(self) -> None:
        host_type: Any = self.host.host_types[0]
        self.host.domains.add_host_type("static.example", host_type, DomainOrigin.STATIC)
        self.host.domains.add_static("static.example")
        self.say(1, domain="static.example")
        await self.recorder.flush()
        self.assertEqual(Used(1, 4, 1, 4), await self.used(domain="static.example"))

    async def test_without_tables_of_dynamic_domains(self) -> None:
        await self.db.execute("DROP TABLE domain_settings")
        store = UsageStore(self.db, has_dynamic=False)
        recorder = UsageRecorder(
            store, self.host.router.usage, is_static=lambda domain: True, clock=self.clock, spawn=self.spawn
        )
        self.say(1)
        await recorder.flush()
        self.assertEqual(Used(1, 4, 1, 4), await self.used(recorder))


class Stored(DatabaseTestCase):
    migrations = (*Private.migrations, *Mam.migrations)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        clock: Any = reactor  # rows of archives are written by it
        self.host = await Host([Private, (Mam, PM)], database=self.db, clock=clock).start()
        self.addCleanup(stop_modules, self.host.host_types)
        self.clock = Clock()
        self.sizes = StoredSizes(self.clock)

    async def modules(self, domain: str) -> dict[str, Size]:
        figures = await self.sizes.of(domain, self.host.type_of(domain))
        return {name: size for name, size in figures.modules.items() if size.rows}

    async def keep(self, session: Any, text: str) -> None:
        await session.asks(
            f"<iq type='set' id='p'><query xmlns='jabber:iq:private'><x xmlns='urn:{len(text)}'>{text}</x></query></iq>"
        )

    async def test_rows_and_bytes_of_each_module_of_one_domain(self) -> None:
        romeo, juliet = self.host.session("romeo@montague.example/a"), self.host.session("juliet@capulet.example/b")
        await self.keep(romeo, "x" * 100)
        await self.keep(romeo, "x" * 200)
        await self.keep(juliet, "y")
        context = romeo.sends(MESSAGE.format("z" * 500))
        await self.host.settle()
        written: Deferred[Any] = Deferred()
        context.ticket.when_settled(written.callback)
        await written
        found = await self.modules("montague.example")
        self.assertEqual({"mod_private": 2, "mod_mam_meta": 1}, {name: size.rows for name, size in found.items()})
        self.assertGreater(found["mod_private"].bytes or 0, 300)
        self.assertLess(found["mod_private"].bytes or 0, 700)
        self.assertGreater(found["mod_mam_meta"].bytes or 0, 500)

    async def test_it_is_measured_again_when_it_is_old(self) -> None:
        romeo = self.host.session("romeo@montague.example/a")
        self.assertEqual({}, await self.modules("montague.example"))
        await self.keep(romeo, "x")
        self.clock.advance(MAX_AGE_S - 1)
        self.assertEqual({}, await self.modules("montague.example"))
        self.clock.advance(1)
        self.assertEqual(["mod_private"], list(await self.modules("montague.example")))

    async def test_a_module_that_cannot_be_measured_keeps_the_others_from_nothing(self) -> None:
        await self.keep(self.host.session("romeo@montague.example/a"), "x")
        await self.db.execute("DROP TABLE mam_message")
        figures = await self.sizes.of("montague.example", self.host.type_of("montague.example"))
        self.assertEqual(Size(None, None), figures.modules["mod_mam_meta"])
        self.assertEqual(1, figures.rows)
