"""What domains may use: of the host type, of single domains, on several nodes; and what becomes of who wants more."""

from collections.abc import Awaitable
from math import inf
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.auth.base import TooManyAccounts
from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.config.limits import Limits
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import DomainLimits
from dynxmpp.core.message_rate import MessageRates
from dynxmpp.db.notify import Notifications
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.domains.limits import RETRY_S, HostTypeLimits, LimitStore, Overrides, in_force
from dynxmpp.domains.store import DomainStore
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.c2s import C2SServer, bind, condition
from tests.fixtures.postgres import DatabaseTestCase
from tests.muclight.support import RoomTestCase
from tests.protocol.managed_streams import EnabledCase
from tests.protocol.sasl2_dialogues import OTHER_AGENT, Sasl2Dialogues, bind2, identifier, plain2

DOMAIN, OTHER = "montague.example", "capulet.example"
ROOM = "<iq type='set' id='{0}' to='{0}@muclight.{1}'><query xmlns='urn:xmpp:muclight:0#create'/></iq>"


def limit(host_type: HostType, **limits: float) -> None:
    """Gives the domains of a host type these limits."""
    host_type.provide(DomainLimits, HostTypeLimits(Limits(**limits)))


class Defaults(TestCase):
    def test_what_nothing_is_said_of_has_no_limit(self) -> None:
        limits = HostTypeLimits(Limits(sessions=5))
        self.assertEqual([5, inf], [limits.limit(DOMAIN, name) for name in ("sessions", "rooms")])
        self.assertEqual({5, 7, inf}, set(in_force(Limits(sessions=5), {"rooms": 7}).values()))

    def test_the_host_types_options_replace_the_general_ones_singly(self) -> None:
        merged = Limits(sessions=5, rooms=3, accounts=1).merged(Limits(rooms=4, accounts=inf))
        self.assertEqual((5, 4, inf), (merged.sessions, merged.rooms, merged.accounts))


class OverridesCase(DatabaseTestCase):
    migrations = (*DomainStore.migrations, *LimitStore.migrations)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock = Clock()
        self.work: list[Deferred[None]] = []
        self.told: list[str] = []
        await DomainStore(self.db, clock=self.clock).insert(DOMAIN, "basic")

    def overrides(self, announcements: Notifications | None = None, store: Any = None) -> Overrides:
        return Overrides(
            store or LimitStore(self.db),
            announcements=announcements,
            clock=self.clock,
            spawn=self.spawn,
            changed=self.told.append,
        )

    def spawn(self, event: str, work: Awaitable[object]) -> None:
        async def run() -> None:
            await work

        self.work.append(Deferred.fromCoroutine(run()))


class OfSingleDomains(OverridesCase):
    async def test_are_set_changed_and_taken_back(self) -> None:
        overrides = self.overrides()
        self.assertEqual(
            {"sessions": 2, "rooms": inf},
            await overrides.change(DOMAIN, {"sessions": 2, "rooms": inf}, is_static=False),
        )
        limits = HostTypeLimits(Limits(sessions=5, rooms=3, accounts=1), overrides)
        self.assertEqual([2, inf, 1], [limits.limit(DOMAIN, name) for name in ("sessions", "rooms", "accounts")])
        self.assertEqual(5, limits.limit(OTHER, "sessions"))
        await overrides.change(DOMAIN, {"sessions": None, "accounts": 9}, is_static=False)
        self.assertEqual([5, inf, 9], [limits.limit(DOMAIN, name) for name in ("sessions", "rooms", "accounts")])
        again = self.overrides()
        await again.start()
        self.assertEqual(overrides.of(DOMAIN), again.of(DOMAIN))

    async def test_who_has_nothing_of_its_own_costs_nothing(self) -> None:
        overrides = self.overrides()
        await overrides.change(DOMAIN, {"sessions": 2}, is_static=False)
        await overrides.change(DOMAIN, {"sessions": None}, is_static=False)
        self.assertEqual(0, len(overrides))
        self.assertEqual([], await self.db.query("SELECT * FROM domain_limits"))
        self.assertEqual([DOMAIN, DOMAIN], self.told)

    async def test_only_domains_that_there_are(self) -> None:
        overrides = self.overrides()
        with self.assertRaises(DomainNotFound):
            await overrides.change(OTHER, {"sessions": 2}, is_static=False)
        await overrides.change("static.example", {"sessions": 2}, is_static=True)
        await DomainStore(self.db, clock=self.clock).begin_delete(DOMAIN, "basic")
        with self.assertRaises(DomainNotFound):
            await overrides.change(DOMAIN, {"sessions": 2}, is_static=False)
        self.assertEqual([("static.example",)], await self.db.query("SELECT server FROM domain_limits"))

    async def test_the_end_of_a_domain(self) -> None:
        overrides = self.overrides()
        await overrides.change(DOMAIN, {"sessions": 2}, is_static=False)
        await overrides.remove_domain(DOMAIN)
        self.assertEqual({}, overrides.of(DOMAIN))
        self.assertEqual([], await self.db.query("SELECT * FROM domain_limits"))

    async def test_a_name_of_a_newer_program_is_passed_over(self) -> None:
        await self.db.execute("""INSERT INTO domain_limits VALUES (%s, '{"sessions": 2, "wishes": 3}')""", (DOMAIN,))
        overrides = self.overrides()
        await overrides.start()
        self.assertEqual({"sessions": 2}, overrides.of(DOMAIN))

    async def test_a_database_that_is_away_at_the_start_is_asked_again(self) -> None:
        class Away(LimitStore):
            times = 1

            async def page(self, after: str, limit: int) -> Any:
                if self.times:
                    self.times -= 1
                    raise Unavailable("away")
                return await super().page(after, limit)

        await self.overrides().change(DOMAIN, {"sessions": 2}, is_static=False)
        overrides = self.overrides(store=Away(self.db))
        await overrides.start()
        self.assertEqual({}, overrides.of(DOMAIN))
        self.clock.advance(RETRY_S)
        while self.work:
            await self.work.pop()
        self.assertEqual({"sessions": 2}, overrides.of(DOMAIN))


class TwoNodes(OverridesCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.announcements = Notifications(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(self.announcements.stop)
        self.here, self.there = self.overrides(), self.overrides(self.announcements)
        self.changes: list[Deferred[None]] = []
        self.there._changed = self._there_changed
        self.there.listen()
        await self.announcements.start()
        await self.there.start()
        self.addCleanup(self.there.stop)

    def _there_changed(self, domain: str) -> None:
        waiting, self.changes = self.changes, []
        for changed in waiting:
            changed.callback(None)

    def change_there(self) -> Deferred[None]:
        self.changes.append(Deferred())
        return self.changes[-1]

    async def test_a_change_reaches_the_other_node(self) -> None:
        for changes, expected in (({"sessions": 2}, {"sessions": 2}), ({"sessions": None}, {})):
            changed = self.change_there()
            await self.here.change(DOMAIN, changes, is_static=False)
            await changed
            self.assertEqual(expected, self.there.of(DOMAIN))

    async def test_so_does_the_end_of_a_domain(self) -> None:
        changed = self.change_there()
        await self.here.change(DOMAIN, {"sessions": 2}, is_static=False)
        await changed
        changed = self.change_there()
        await self.here.remove_domain(DOMAIN)
        await changed
        self.assertEqual({}, self.there.of(DOMAIN))

    async def test_what_was_missed_is_read_when_the_connection_is_back(self) -> None:
        changed = self.change_there()
        await self.here.change(DOMAIN, {"sessions": 2}, is_static=False)
        await changed
        await self.db.execute("UPDATE domain_limits SET limits = '{\"rooms\": 1}'")
        changed = self.change_there()
        await self.db.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%%' AND datname = current_database()"
        )
        await changed
        self.assertEqual({"rooms": 1}, self.there.of(DOMAIN))
        self.flushLoggedErrors()


class Sessions(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer()

    def limit(self, **limits: float) -> None:
        limit(self.server.type_of("a.example"), **limits)

    def refused(self, username: str, resource: str, domain: str = "a.example") -> None:
        client = self.server.connects()
        client.authenticated(username, domain)
        client.sends(bind(resource))
        reply = client.receives("iq")
        self.assertEqual(("error", "resource-constraint"), (reply["type"], condition(reply)))
        self.assertEqual("wait", reply.error["type"])
        self.assertTrue(client.is_open)
        client.loses()

    async def test_of_a_domain(self) -> None:
        self.limit(sessions=2)
        ann = await self.server.logged_in("ann@a.example/1")
        await self.server.logged_in("bob@a.example/1")
        self.refused("ann", "2")
        self.refused("bob", "2")
        await self.server.logged_in("ann@b.example/1")
        await self.server.logged_in("ann@c.example/1")
        ann.loses()
        await self.server.logged_in("bob@a.example/2")

    async def test_of_a_user(self) -> None:
        self.limit(sessions_per_user=2)
        for resource in "12":
            await self.server.logged_in(f"ann@a.example/{resource}")
        self.refused("ann", "3")
        await self.server.logged_in("bob@a.example/1")

    async def test_a_session_that_is_replaced_does_not_count(self) -> None:
        self.limit(sessions=1, sessions_per_user=1)
        old = await self.server.logged_in("ann@a.example/1")
        await self.server.logged_in("ann@a.example/1")
        self.assertEqual("conflict", old.stream_error())
        self.assertEqual(1, self.server.sessions.count_domain("a.example"))

    async def test_no_session_at_all(self) -> None:
        self.limit(sessions=0)
        self.refused("ann", "1")
        self.assertEqual(0, len(self.server.sessions))


class SessionsThatWait(EnabledCase):
    async def test_give_way_to_their_own_account(self) -> None:
        limit(self.server.type_of("a.example"), sessions_per_user=1)
        self.ann.loses()
        self.assertEqual([], self.server.observer().ended)
        await self.server.logged_in("ann@a.example/new")
        self.assertEqual(1, self.server.sessions.count_domain("a.example"))
        client = self.server.connects()
        client.authenticated("ann", "a.example")
        self.assertEqual("error", client.binds("third")["type"])


class Bind2(Sasl2Dialogues):
    async def test_is_told_to_come_later(self) -> None:
        limit(self.server.type_of("a.example"), sessions_per_user=1)
        await self.succeeds(self.client(), plain2(inner=bind2()))
        other = self.client()
        await self.fails("temporary-auth-failure", other, plain2(inner=bind2(), agent=OTHER_AGENT))
        success = await self.succeeds(self.client(), plain2(inner=bind2()))
        self.assertIn("/AwesomeXMPP/", identifier(success))
        self.assertEqual(1, self.server.sessions.count_domain("a.example"))
        await self.succeeds(self.client(), plain2("bob", inner=bind2()))


class Rooms(RoomTestCase):
    async def test_of_a_domain(self) -> None:
        limit(self.host.host_types[0], rooms=2)
        for name in ("one", "two"):
            self.assertEqual("result", (await self.ann.asks(ROOM.format(name, "example.org")))["type"])
        refused = await self.ben.asks(ROOM.format("three", "example.org"))
        self.assertEqual(("resource-constraint", "wait"), (condition(refused), refused.error["type"]))
        self.assertEqual("result", (await self.ben.asks(ROOM.format("three", "other.example")))["type"])
        self.assertEqual(2, await self.rooms.rooms.store.count_rooms("example.org"))
        await self.ann.asks(
            "<iq type='set' id='d' to='one@muclight.example.org'><query xmlns='urn:xmpp:muclight:0#destroy'/></iq>"
        )
        self.assertEqual("result", (await self.ben.asks(ROOM.format("four", "example.org")))["type"])

    async def test_created_at_once(self) -> None:
        limit(self.host.host_types[0], rooms=3)
        for number in range(8):
            self.ann.sends(ROOM.format(f"room{number}", "example.org"))
        await self.settle()
        self.assertEqual(3, await self.rooms.rooms.store.count_rooms("example.org"))


class AccountsOfADomain(DatabaseTestCase):
    migrations = RdbmsAuth.migrations

    async def test_the_lower_limit_holds(self) -> None:
        limits: dict[str, float] = {DOMAIN: 1}
        auth = RdbmsAuth(
            self.db,
            secret=b"s",
            random=Random(1),
            scram=False,
            max_users_per_domain=2,
            limit_of=lambda domain: limits.get(domain, inf),
        )
        await auth.create(DOMAIN, "one", "x")
        with self.assertRaises(TooManyAccounts):
            await auth.create(DOMAIN, "two", "x")
        limits[DOMAIN] = 5
        await auth.create(DOMAIN, "two", "x")
        for domain, name in ((DOMAIN, "three"), (OTHER, "three")):
            if domain == OTHER:
                await auth.create(OTHER, "one", "x")
                await auth.create(OTHER, "two", "x")
            with self.assertRaises(TooManyAccounts):
                await auth.create(domain, name, "x")


class MessageRate(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer()
        self.rates = MessageRates(self.server.clock)
        self.server.host.router.usage.rate_of = self.rates.of

    def limit(self, **limits: float) -> None:
        limit(self.server.type_of("a.example"), **limits)

    def seen(self) -> int:
        return len(self.server.observer().seen)

    async def test_who_sends_more_is_read_more_slowly_and_loses_nothing(self) -> None:
        self.limit(messages_per_second=2)
        ann = await self.server.logged_in("ann@a.example/1")
        for _ in range(6):
            ann.sends("<message/>")
        self.assertEqual((3, 1), (self.seen(), len(self.rates)))
        self.server.clock.advance(0.4)
        self.assertEqual(3, self.seen())
        self.server.clock.pump([0.1, 0, 0.5, 0, 0.5, 0, 0.5, 0])
        self.assertEqual((6, 0), (self.seen(), len(self.rates)))
        self.assertTrue(ann.is_open)

    async def test_other_domains_are_read_as_ever(self) -> None:
        self.limit(messages_per_second=1)
        ann = await self.server.logged_in("ann@a.example/1")
        other = await self.server.logged_in("ann@c.example/1")
        for _ in range(5):
            ann.sends("<message/>")
            other.sends("<message/>")
        self.assertEqual(2, self.seen())
        self.assertEqual(5, len(self.server.observer("other").seen))

    async def test_is_that_of_all_sessions_of_the_domain(self) -> None:
        self.limit(messages_per_second=2)
        ann, bob = await self.server.logged_in("ann@a.example/1"), await self.server.logged_in("bob@a.example/1")
        for _ in range(3):
            ann.sends("<message/>")
            bob.sends("<message/>")
        self.assertEqual((4, 2), (self.seen(), len(self.rates)))

    async def test_a_burst(self) -> None:
        self.limit(messages_per_second=1, message_burst=5)
        ann = await self.server.logged_in("ann@a.example/1")
        for _ in range(5):
            ann.sends("<message/>")
        self.assertEqual((5, 0), (self.seen(), len(self.rates)))
        ann.sends("<message/>")
        self.assertEqual((6, 1), (self.seen(), len(self.rates)))

    async def test_much_in_one_read_is_waited_for_as_a_whole(self) -> None:
        self.limit(messages_per_second=1)
        ann = await self.server.logged_in("ann@a.example/1")
        ann.sends("<message/>" * 5)
        self.server.clock.advance(3.9)
        self.assertEqual((5, 1), (self.seen(), len(self.rates)))
        self.server.clock.advance(0.2)
        self.assertEqual(0, len(self.rates))

    async def test_presence_and_requests_do_not_count(self) -> None:
        self.limit(messages_per_second=1)
        ann = await self.server.logged_in("ann@a.example/1")
        for _ in range(5):
            ann.sends("<presence/>")
        self.assertEqual(0, len(self.rates))

    async def test_a_session_that_ends_meanwhile(self) -> None:
        self.limit(messages_per_second=1)
        ann = await self.server.logged_in("ann@a.example/1")
        ann.sends("<message/><message/>")
        ann.loses()
        self.server.clock.advance(10)
        self.assertEqual(0, len(self.rates))

    async def test_a_pause_of_the_counting_gives_nobody_a_new_burst(self) -> None:
        self.limit(messages_per_second=1)
        ann = await self.server.logged_in("ann@a.example/1")
        ann.sends("<message/>" * 10)
        for _ in range(3):
            self.server.host.router.usage.take()
        self.server.clock.advance(9)
        ann.sends("<message/>")
        self.assertEqual((11, 1), (self.seen(), len(self.rates)))

    async def test_a_new_limit_holds_at_once(self) -> None:
        ann = await self.server.logged_in("ann@a.example/1")
        ann.sends("<message/>")
        self.limit(messages_per_second=1)
        self.server.host.router.usage.limits_changed("a.example", self.server.type_of("a.example"))
        ann.sends("<message/><message/>")
        self.assertEqual(1, len(self.rates))
        self.rates.stop()
        self.assertEqual(0, len(self.rates))
