"""Retention: messages go when they are too old or too many, the oldest first, and those of others stay."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from dynxmpp.module import ModuleContext, Unavailable
from dynxmpp.modules.mam import Mam, retention
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive, RetentionOptions
from dynxmpp.modules.mam.ids import first_of
from dynxmpp.modules.mam.retention import FIRST_S, Retention
from dynxmpp.modules.mam.schema import ACCOUNT, MIGRATIONS, REMOVED, ROOM
from tests.config.support import ConfigTestCase
from tests.fixtures.dialogue import Host
from tests.fixtures.postgres import DatabaseTestCase

DAY = 86_400
NOW = 1_700_000_000


class RetentionTestCase(DatabaseTestCase):
    migrations = MIGRATIONS

    async def setUp(self) -> None:
        await super().setUp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.host = Host(database=self.db, domains=("a.example",))
        self.host.add_host_type("other", (), ("b.example",))
        self.forgotten: list[int] = []

    def retention(self, kind: int = ACCOUNT, batch_rows: int = 1000, **options: Any) -> Retention:
        context = ModuleContext(
            host_type=self.host.host_types[0],
            router=self.host.router,
            sessions=self.host.sessions,
            domains=self.host.domains,
            database=self.db,
            clock=self.clock,
            spawn=self.host.spawn,
        )
        bounds = RetentionOptions(**options)
        made = Retention(context, kind, bounds, forget=self.forgotten.append, batch_rows=batch_rows)
        self.addCleanup(made.stop)
        return made

    async def archive(self, name: str, ages: Sequence[float], server: str = "a.example", kind: int = ACCOUNT) -> int:
        """An archive with messages that are so many days old; its number."""
        sql = "INSERT INTO mam_archive (server, kind, name) VALUES (%s, %s, %s) RETURNING id"
        ((number,),) = await self.db.query(sql, (server, kind, name))
        ids = [first_of(int((NOW - age * DAY) * 1_000_000)) for age in ages]
        await self.db.execute(
            "INSERT INTO mam_message (archive, id, remote, outgoing, groupchat, source, stanza)"
            " SELECT %s, id, 'r@a.example', true, false, 's', '<message/>' FROM unnest(%s::bigint[]) AS i (id)",
            (number, ids),
        )
        await self.db.execute(
            "INSERT INTO mam_search SELECT archive, id, '' FROM mam_message WHERE archive = %s", (number,)
        )
        return int(number)

    async def ages(self, archive: int, table: str = "mam_message") -> list[float]:
        """Of what is left in an archive, in days, the oldest first."""
        rows = await self.db.query(f"SELECT id FROM {table} WHERE archive = %s ORDER BY id", (archive,))
        return [round((NOW - (id_ >> 8) / 1_000_000) / DAY, 6) for (id_,) in rows]


class Bounds(RetentionTestCase):
    async def test_age(self) -> None:
        young = await self.archive("young", [29.9, 1, 0])
        old = await self.archive("old", [400, 31, 30.1, 29.9, 0])
        edge = await self.archive("edge", [30, 30.000001])
        self.assertEqual(3 + 1, await self.retention(max_age_days=30).check())
        self.assertEqual([29.9, 1, 0], await self.ages(young))
        self.assertEqual([29.9, 0], await self.ages(old))
        self.assertEqual([30], await self.ages(edge))
        self.assertEqual({old, edge}, set(self.forgotten))

    async def test_number(self) -> None:
        archives = [await self.archive(f"u{size}", range(size)) for size in (0, 1, 3, 4, 10)]
        self.assertEqual(1 + 7, await self.retention(max_messages=3).check())
        self.assertEqual([[], [0], [2, 1, 0], [2, 1, 0], [2, 1, 0]], [await self.ages(a) for a in archives])
        self.assertEqual(archives[-2:], self.forgotten)

    async def test_both(self) -> None:
        few_old = await self.archive("few", [50, 40, 2, 1])
        many_young = await self.archive("many", [5, 4, 3, 2, 1])
        await self.retention(max_age_days=30, max_messages=3).check()
        self.assertEqual([2, 1], await self.ages(few_old))
        self.assertEqual([3, 2, 1], await self.ages(many_young))

    async def test_words_go_with_their_messages(self) -> None:
        archive = await self.archive("u", [40, 31, 1])
        await self.retention(max_age_days=30).check()
        self.assertEqual([1], await self.ages(archive, "mam_search"))

    async def test_others_stay(self) -> None:
        other_type = await self.archive("u", [40], "b.example")
        nobody = await self.archive("u", [40], "c.example")
        room = await self.archive("room@rooms.a.example", [40], kind=ROOM)
        removed = await self.archive("7", [40], kind=REMOVED)
        self.assertEqual(0, await self.retention(max_age_days=30).check())
        self.assertEqual([[40]] * 4, [await self.ages(a) for a in (other_type, nobody, room, removed)])
        self.assertEqual(1, await self.retention(ROOM, max_age_days=30).check())
        self.assertEqual([[40], [40], [], [40]], [await self.ages(a) for a in (other_type, nobody, room, removed)])

    async def test_in_batches_from_the_old_end(self) -> None:
        # As the planner may do it at any time: in the order of the table, in which the youngest comes first here.
        self.db = await self.start_database(replace(self.settings, workers=1))
        for plan in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
            await self.db.execute(f"SET {plan} = off")
        archive = await self.archive("u", range(91, 101))
        left: list[list[float]] = []
        transaction = self.db.transaction

        async def watched(work: Any) -> Any:
            result = await transaction(work)
            left.append(await self.ages(archive))
            return result

        self.patch(self.db, "transaction", watched)
        self.assertEqual(7, await self.retention(max_age_days=93, batch_rows=4).check())
        self.assertEqual([[96, 95, 94, 93, 92, 91], [93, 92, 91]], left)

    async def test_more_archives_than_one_statement_looks_at(self) -> None:
        self.patch(retention, "BATCH_ARCHIVES", 2)
        archives = [await self.archive(f"u{number}", [40, 31, 1]) for number in range(5)]
        self.assertEqual(10, await self.retention(max_age_days=30, max_messages=2).check())
        self.assertEqual([[1]] * 5, [await self.ages(archive) for archive in archives])

    async def test_many_allowed_messages_are_passed_over_in_bounded_statements(self) -> None:
        self.patch(retention, "BATCH_PASSED", 5)
        sizes: list[int] = []
        query = self.db.query

        async def watched(sql: str, params: Sequence[Any] = ()) -> Any:
            if "OFFSET" in sql:
                sizes.append(len(params[0]))
            return await query(sql, params)

        for number in range(5):
            await self.archive(f"u{number}", range(number))
        self.patch(self.db, "query", watched)
        self.assertEqual(1 + 2, await self.retention(max_messages=2).check())
        await self.retention(max_messages=9).check()
        self.assertEqual([2, 2, 1, 1, 1, 1, 1, 1], sizes)


class Background(RetentionTestCase):
    def counted(self, checking: Retention, *outcomes: Exception | None) -> list[float]:
        """The times of its checks, which have these outcomes; further ones succeed."""
        times: list[float] = []

        async def check() -> int:
            times.append(self.clock.seconds() - NOW)
            outcome = outcomes[len(times) - 1] if len(times) <= len(outcomes) else None
            if outcome is not None:
                raise outcome
            return 0

        self.patch(checking, "check", check)
        checking.start()
        return times

    async def test_soon_after_the_start_and_then_at_intervals(self) -> None:
        checking = self.retention(max_age_days=1, check_interval=1000)
        times = self.counted(checking)
        self.clock.pump([FIRST_S - 1, 1, 999, 1, 1000])
        self.assertEqual([FIRST_S, FIRST_S + 1000, FIRST_S + 2000], times)
        checking.stop()
        self.clock.advance(5000)
        self.assertEqual(3, len(times))

    async def test_a_short_interval_holds_for_the_first_check_too(self) -> None:
        times = self.counted(self.retention(max_messages=1, check_interval=5))
        self.clock.pump([5, 5])
        self.assertEqual([5, 10], times)

    async def test_it_goes_on_whatever_happens(self) -> None:
        times = self.counted(self.retention(max_messages=1, check_interval=5), Unavailable("away"), LookupError())
        self.clock.pump([5, 5, 5])
        self.assertEqual([5, 10, 15], times)
        self.assertEqual(1, len(self.flushLoggedErrors(LookupError)))

    async def test_without_bounds_nothing_runs(self) -> None:
        times = self.counted(self.retention(check_interval=5))
        self.clock.advance(10_000)
        self.assertEqual(([], []), (times, self.clock.getDelayedCalls()))

    async def test_the_module_runs_it_for_both_kinds(self) -> None:
        pm = PmArchive(retention=RetentionOptions(max_messages=2))
        muc = MucArchive(retention=RetentionOptions(max_age_days=30))
        account = await self.archive("u", [50, 40, 1])
        room = await self.archive("room@rooms.a.example", [50, 40, 1], kind=ROOM)
        host = Host([(Mam, MamConfig(pm=pm, muc=muc))], database=self.db, domains=("a.example",), clock=self.clock)
        await host.start()
        mam = cast(Mam, host.host_types[0].modules[Mam.name])
        self.addCleanup(mam.stop)
        done: Deferred[None] = Deferred()

        def watch(event: dict[str, Any]) -> None:
            if event.get("log_format") == "messages_expired":
                expired.append(event["messages"])
                if len(expired) == 2:
                    done.callback(None)

        expired: list[int] = []
        globalLogPublisher.addObserver(watch)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, watch)  # type: ignore[arg-type]
        self.clock.advance(FIRST_S)
        await done
        self.assertEqual([[40, 1], [1]], [await self.ages(account), await self.ages(room)])


class Configuration(ConfigTestCase):
    models = {Mam.name: MamConfig}

    def mam(self, **keys: Any) -> MamConfig:
        return cast(MamConfig, self.load(modules={Mam.name: keys}).host_types["basic"].modules[Mam.name])

    def test_nothing_expires_by_itself(self) -> None:
        options = self.mam(pm={}).pm
        assert options is not None
        self.assertEqual((math.inf, math.inf), (options.retention.max_age_days, options.retention.max_messages))

    def test_the_kinds_take_over_what_they_do_not_say(self) -> None:
        mam = self.mam(retention={"max_age_days": 30}, pm={}, muc={"retention": {"max_messages": 5}})
        assert mam.pm is not None
        assert mam.muc is not None
        self.assertEqual(RetentionOptions(max_age_days=30), mam.pm.retention)
        self.assertEqual(5, mam.muc.retention.max_messages)

    def test_bounds_must_be_positive(self) -> None:
        for key in ("max_age_days", "max_messages", "check_interval"):
            for value in (0, -1, "never"):
                lines = self.lines(modules={Mam.name: {"pm": {}, "retention": {key: value}}})
                self.assertTrue(lines, (key, value))
                self.assertIn(f"retention.{key}", lines[0])
