"""Certificates of domains: in the database, in the memory of two nodes, shown to clients. The clocks stand still."""

import gc
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs

from dynxmpp.db.notify import Notifications
from dynxmpp.domains.certificate_table import CHANNEL
from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.errors import DomainDeleted, DomainNotFound, NoCertificate, UnknownHostType
from dynxmpp.tls.certificates import CertificateError
from dynxmpp.wire.errors import Unavailable
from tests.domains.certificate_node import MIGRATIONS, CertificateNode
from tests.fixtures.certs import NOW, Issued, authority, issue
from tests.fixtures.postgres import DatabaseTestCase

NUMBERS = itertools.count(1)
AT = datetime.fromtimestamp(NOW, UTC)


def ending_in(days: float, *names: str) -> Issued:
    return authority().issue(*names, not_after=AT + timedelta(days=days))


class Ears:
    """Announcements, unless they are closed; `reconnected` fires when all have been told of a reconnection."""

    def __init__(self, notifications: Notifications) -> None:
        self.notifications = notifications
        self.closed = False
        self.reconnected: Deferred[None] = Deferred()
        self.waiting: dict[str, Deferred[None]] = {}

    def subscribe(self, channel: str, callback: Any, *, on_reconnect: Any = None) -> Any:
        def hear(payload: str) -> None:
            if not self.closed:
                callback(payload)

        return self.notifications.subscribe(channel, hear, on_reconnect=on_reconnect)

    def listen_last(self) -> None:
        """To be called when all others have subscribed."""

        def tell(payload: str) -> None:
            if payload in self.waiting:
                self.waiting.pop(payload).callback(None)

        self.notifications.subscribe(CHANNEL, tell, on_reconnect=lambda: self.reconnected.callback(None))


class CertificateTestCase(DatabaseTestCase):
    migrations = MIGRATIONS

    async def node(self, database: Any = None, **options: Any) -> CertificateNode:
        node = CertificateNode(database or self.db, **options)
        self.addCleanup(node.stop)
        return await node.start()

    async def listening_node(self, **options: Any) -> CertificateNode:
        """A node that hears of the changes of others."""
        clock: Any = reactor
        notifications = Notifications(self.settings, clock=clock, reactor=reactor)
        self.addCleanup(notifications.stop)
        ears = Ears(notifications)
        node = CertificateNode(self.db, announcements=ears, **options)
        self.addCleanup(node.stop)
        ears.listen_last()
        await notifications.start()
        return await node.start()

    def ears(self, node: CertificateNode) -> Ears:
        ears = node.certificates._announcements
        assert isinstance(ears, Ears)
        return ears

    async def heard(self, node: CertificateNode) -> None:
        """Until `node` has heard all that was announced so far, and read what it was about."""
        heard: Deferred[None] = Deferred()
        last = f"no domain {next(NUMBERS)}"
        self.ears(node).waiting[last] = heard
        # Announcements come in the order of the commits.
        await self.db.query("SELECT pg_notify(%s, %s)", (CHANNEL, last))
        await heard.addTimeout(10, reactor)
        await self.read(node)

    async def read(self, node: CertificateNode) -> None:
        """Until `node` has read what it is about to read."""
        following = node.certificates._following
        if following is not None:
            await following

    async def names(self) -> list[str]:
        return [row[0] for row in await self.db.query("SELECT domain FROM domain_certificates ORDER BY domain")]


class OneNodeTests(CertificateTestCase):
    async def test_a_new_connection_gets_what_was_put_last(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        self.assertIsNone(node.shown("example.org"))
        first = await node.put("example.org")
        self.assertEqual(node.shown("example.org"), first.der)
        second = await node.put("example.org", authority().issue("example.org"))
        self.assertNotEqual(second.der, first.der)
        self.assertEqual(node.shown("example.org"), second.der)
        self.assertIsNone(node.shown("example.net"))

    async def test_it_is_there_after_a_restart(self) -> None:
        await self.test_a_new_connection_gets_what_was_put_last()
        issued = await (await self.node()).put("example.org")
        self.assertEqual((await self.node()).shown("example.org"), issued.der)

    async def test_all_pages_are_read(self) -> None:
        node = await self.node()
        names = [f"d{number}.example" for number in range(7)]
        for name in names:
            await node.service.insert(name, "basic")
            await node.put(name)
        for page_rows in (1, 3, 7, 8):
            other = await self.node(page_rows=page_rows)
            self.assertEqual(len(other.certificates), 7)
            self.assertEqual([other.shown(name) for name in names], [issue(name).der for name in names])

    async def test_deleting_it(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        await node.put("example.org")
        await node.certificates.delete("example.org")
        self.assertIsNone(node.shown("example.org"))
        self.assertEqual(await self.names(), [])
        with self.assertRaises(NoCertificate):
            await node.certificates.delete("example.org")
        with self.assertRaises(NoCertificate):
            await node.certificates.describe("example.org")

    async def test_nothing_of_it_stays_in_memory(self) -> None:
        node = await self.node()
        await node.service.insert("bücher.example", "basic")
        await node.put("bücher.example")
        self.assertEqual(node.shown("xn--bcher-kva.example"), issue("xn--bcher-kva.example").der)
        pem = node.certificates.find("xn--bcher-kva.example")
        assert pem is not None
        known = ref(pem)
        stored: Any = node.tls._stored
        self.assertEqual(len(stored._contexts), 1)
        del pem
        await node.certificates.delete("bücher.example")
        gc.collect()
        self.assertIsNone(known())
        self.assertEqual(len(stored._contexts), 0)

    async def test_what_is_refused_changes_nothing(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        issued = await node.put("example.org")
        for bad in (issue("example.net"), ending_in(-1, "example.org")):
            with self.assertRaises(CertificateError):
                await node.put("example.org", bad)
        self.assertEqual(node.shown("example.org"), issued.der)

    async def test_one_without_an_end(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        forever = authority().issue("example.org", not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        await node.put("example.org", forever)
        self.assertEqual((await self.node()).shown("example.org"), forever.der)

    async def test_domains_that_can_have_none(self) -> None:
        node = await self.node()
        for call in (node.put, node.certificates.delete):
            with self.assertRaises(DomainNotFound):
                await call("example.org")
        with self.assertRaises(DomainNotFound):
            await node.certificates.describe("example.org")
        await self.db.execute(
            "INSERT INTO domain_settings (domain, host_type, status) VALUES ('gold.example', 'gold', 1),"
            " ('going.example', 'basic', 2)"
        )
        for call in (node.put, node.certificates.delete):
            with self.assertRaises(UnknownHostType):
                await call("gold.example")
            with self.assertRaises(DomainDeleted):
                await call("going.example")
        self.assertEqual(await self.names(), [])

    async def test_disabling_a_domain_keeps_it(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        issued = await node.put("example.org")
        await node.service.set_enabled("example.org", False)
        self.assertEqual((await self.node()).shown("example.org"), issued.der)
        await node.put("example.org", authority().issue("example.org"))
        await node.service.set_enabled("example.org", True)
        self.assertNotIn(node.shown("example.org"), (None, issued.der))

    async def test_it_goes_with_the_domain(self) -> None:
        node = await self.node()
        for name in ("example.org", "example.net"):
            await node.service.insert(name, "basic")
            await node.put(name)
        await node.service.delete("example.org", "basic")
        self.assertEqual(await self.names(), ["example.net"])
        self.assertIsNone(node.shown("example.org"))
        await node.service.insert("example.org", "basic")
        self.assertIsNone(node.shown("example.org"))
        self.assertEqual(node.shown("example.net"), issue("example.net").der)

    async def test_a_change_that_comes_while_a_domain_is_deleted_leaves_nothing(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        outcomes = []
        putting = Deferred.fromCoroutine(node.put("example.org"))
        deleting = Deferred.fromCoroutine(node.service.delete("example.org", "basic"))
        try:
            await putting
        except (DomainDeleted, DomainNotFound) as error:
            outcomes.append(error)
        await deleting
        self.assertEqual(await self.names(), [])
        self.assertIsNone(node.shown("example.org"))


class NameTests(CertificateTestCase):
    async def asSetUp(self) -> CertificateNode:
        node = await self.node(static=["static.example"])
        node.table.register_subdomain("basic", "basic", "rooms.@HOST@")
        for name in ("example.org", "example.net", "shop.example.org"):
            await node.service.insert(name, "basic")
        return node

    async def test_a_wildcard_is_for_the_domains_services_too(self) -> None:
        node = await self.asSetUp()
        issued = await node.put("example.org", authority().issue("example.org", "*.example.org"))
        self.assertEqual(node.shown("rooms.example.org"), issued.der)
        self.assertEqual(node.shown("ROOMS.Example.ORG"), issued.der)
        # No service; another domain, with a service; another's service.
        for name in ("x.example.org", "a.rooms.example.org", "shop.example.org", "rooms.shop.example.org"):
            self.assertIsNone(node.shown(name), name)
        self.assertIsNone(node.shown("rooms.example.net"))

    async def test_a_certificate_that_is_not_for_the_service(self) -> None:
        node = await self.asSetUp()
        await node.put("example.org")
        self.assertIsNone(node.shown("rooms.example.org"))
        await node.put("example.org", authority().issue("example.org", "rooms.example.org"))
        self.assertIsNotNone(node.shown("rooms.example.org"))

    async def test_the_domain_below_has_its_own(self) -> None:
        node = await self.asSetUp()
        await node.put("example.org", authority().issue("example.org", "*.example.org"))
        own = await node.put("shop.example.org")
        self.assertEqual(node.shown("shop.example.org"), own.der)

    async def test_a_wildcard_for_the_domain_itself(self) -> None:
        node = await self.asSetUp()
        issued = await node.put("shop.example.org", authority().issue("*.example.org"))
        self.assertEqual(node.shown("shop.example.org"), issued.der)
        self.assertIsNone(node.shown("example.org"))

    async def test_internationalised(self) -> None:
        node = await self.asSetUp()
        await node.service.insert("bücher.example", "basic")
        names = ("xn--bcher-kva.example", "*.xn--bcher-kva.example")
        issued = await node.put("bücher.example", authority().issue(*names))
        self.assertEqual(node.shown("xn--bcher-kva.example"), issued.der)
        self.assertEqual(node.shown("rooms.xn--bcher-kva.example"), issued.der)

    async def test_names_that_nobody_should_send(self) -> None:
        node = await self.asSetUp()
        await node.put("example.org")
        for name in ("xn--a", "xn--\x80", "xn--bcher-kva", "a" * 64, "a_b.example", "-a.example", "a..b", "x" * 1000):
            self.assertIsNone(node.certificates.find(name), name)

    async def test_what_a_static_domain_has_left_is_not_shown(self) -> None:
        node = await self.asSetUp()
        await self.db.execute("INSERT INTO domain_settings (domain, host_type) VALUES ('static.example', 'basic')")
        await node.put("static.example")
        self.assertEqual(await self.names(), ["static.example"])
        self.assertIsNone(node.shown("static.example"))


class TwoNodesTests(CertificateTestCase):
    async def test_the_other_node_hears_of_each_change(self) -> None:
        here, there = await self.listening_node(), await self.listening_node()
        await here.service.insert("example.org", "basic")
        for issued in (issue("example.org"), authority().issue("example.org")):
            await here.put("example.org", issued)
            await self.heard(there)
            self.assertEqual(there.shown("example.org"), issued.der)
        await there.certificates.delete("example.org")
        await self.heard(here)
        self.assertIsNone(here.shown("example.org"))

    async def test_the_other_node_hears_of_a_deleted_domain(self) -> None:
        here, there = await self.listening_node(), await self.listening_node()
        await here.service.insert("example.org", "basic")
        await here.put("example.org")
        await self.heard(there)
        self.assertEqual(len(there.certificates), 1)
        await here.service.delete("example.org", "basic")
        await self.heard(there)
        self.assertEqual(len(there.certificates), 0)

    async def test_one_that_was_unchanged_keeps_its_context(self) -> None:
        here, there = await self.listening_node(), await self.listening_node()
        await here.service.insert("example.org", "basic")
        await here.put("example.org")
        await self.heard(there)
        before = there.certificates.find("example.org")
        assert before is not None
        await self.db.query("SELECT pg_notify(%s, %s)", (CHANNEL, "example.org"))
        await self.heard(there)
        self.assertIs(there.certificates.find("example.org"), before)

    async def test_what_was_missed_is_read_after_a_reconnection(self) -> None:
        here, there = await self.node(), await self.listening_node(page_rows=2)
        for name in ("a.example", "b.example", "c.example", "d.example", "e.example"):
            await here.service.insert(name, "basic")
            await here.put(name)
        await self.heard(there)
        untouched = there.certificates.find("c.example")
        ears = self.ears(there)
        ears.closed = True
        new = await here.put("b.example", authority().issue("b.example"))
        await here.certificates.delete("e.example")
        await here.service.insert("f.example", "basic")
        await here.put("f.example")
        await self.heard(there)
        self.assertEqual(there.shown("b.example"), issue("b.example").der)
        standing: Any = ears.notifications._standing
        await self.db.query("SELECT pg_terminate_backend(%s)", (standing._connection.backend_pid,))
        await ears.reconnected.addTimeout(20, reactor)
        await self.read(there)
        self.assertEqual(there.shown("b.example"), new.der)
        self.assertIsNone(there.shown("e.example"))
        self.assertEqual(there.shown("f.example"), issue("f.example").der)
        self.assertIs(there.certificates.find("c.example"), untouched)

    async def test_changes_of_one_domain_on_both_nodes_at_once(self) -> None:
        """Whoever was last in the database is last in every memory."""
        nodes = [await self.listening_node(), await self.listening_node()]
        await nodes[0].service.insert("example.org", "basic")
        puts = [nodes[number % 2].put("example.org", authority().issue("example.org")) for number in range(10)]
        for put in [Deferred.fromCoroutine(put) for put in puts]:
            await put
        for node in nodes:
            await self.heard(node)
        fresh = await self.node()
        self.assertEqual([node.shown("example.org") for node in nodes], [fresh.shown("example.org")] * 2)


class Away:
    """The database, or none."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.present = False

    async def query(self, *args: Any) -> Any:
        if not self.present:
            raise Unavailable("away")
        return await self._db.query(*args)


class AwayTests(CertificateTestCase):
    async def waiting(self) -> tuple[CertificateNode, Away, "Deferred[None]"]:
        """A node that cannot start."""
        await (await self.node()).service.insert("example.org", "basic")
        node = CertificateNode(self.db)
        await node.put("example.org")
        away = Away(self.db)
        certificates = DomainCertificates(away, node.table, clock=node.clock)  # type: ignore[arg-type]
        node.certificates = certificates
        return node, away, Deferred.fromCoroutine(certificates.start())

    async def test_the_start_waits_for_the_database(self) -> None:
        with capturedLogs() as captured:
            node, away, starting = await self.waiting()
            for pause in (1, 2, 4):
                self.assertNoResult(starting)
                node.clock.advance(pause)
            away.present = True
            node.clock.advance(8)
            await starting
        failures = [event["retry_in_s"] for event in captured if event["log_format"] == "certificates_not_read"]
        self.assertEqual(failures, [1, 2, 4, 8])
        self.assertEqual(len(node.certificates), 1)
        await node.certificates.stop()
        self.assertEqual(node.clock.getDelayedCalls(), [])

    async def test_it_can_be_stopped_meanwhile(self) -> None:
        node, _, starting = await self.waiting()
        await node.certificates.stop()
        await starting
        self.assertEqual(node.clock.getDelayedCalls(), [])

    async def test_it_can_be_cancelled(self) -> None:
        """As the server does with its start: what comes after must not be done."""
        node, _, starting = await self.waiting()
        starting.cancel()
        with self.assertRaises(CancelledError):
            await starting
        await node.certificates.stop()
        self.assertEqual(node.clock.getDelayedCalls(), [])

    async def test_a_change_that_could_not_be_read_is_read_later(self) -> None:
        node, away, starting = await self.waiting()
        away.present = True
        node.clock.advance(1)
        await starting
        self.addCleanup(node.certificates.stop)
        new = await CertificateNode(self.db).put("example.org", authority().issue("example.org"))
        away.present = False
        node.certificates._announced("example.org")
        away.present = True
        node.clock.advance(1)
        following: Any = node.certificates._following
        await following
        found = node.certificates.find("example.org")
        assert found is not None
        self.assertEqual(found.chain, new.certificate_pem.decode())


class EndTests(CertificateTestCase):
    async def test_it_is_told_once_a_day(self) -> None:
        node = await self.node()
        for name, days in (("late.example", 90), ("soon.example", 22.5), ("now.example", 20)):
            await node.service.insert(name, "basic")
            await node.put(name, ending_in(days, name))
        day = 24 * 3600
        told = []
        for _ in range(23):
            with capturedLogs() as captured:
                node.clock.advance(day / 2)
                node.clock.advance(day / 2)
            told.append(
                [
                    (event["log_format"], event["domain"], event["days_left"])
                    for event in captured
                    if event["log_format"].startswith("certificate_e")
                ]
            )
            levels = {event["log_level"] for event in captured if event["log_format"].startswith("certificate_e")}
            self.assertEqual(levels, {LogLevel.warn})
        self.assertEqual(told[0], [("certificate_expires", "now.example", 19)])
        self.assertEqual(
            told[1], [("certificate_expires", "soon.example", 20), ("certificate_expires", "now.example", 18)]
        )
        self.assertEqual(
            told[21], [("certificate_expires", "soon.example", 0), ("certificate_expired", "now.example", -2)]
        )
        self.assertEqual(node.certificates.ending(), 2)

    async def test_at_the_start_too(self) -> None:
        node = await self.node()
        await node.service.insert("example.org", "basic")
        await node.put("example.org", ending_in(5, "example.org"))
        self.assertEqual(node.certificates.ending(), 1)
        with capturedLogs() as captured:
            await self.node()
        self.assertIn("certificate_expires", [event["log_format"] for event in captured])

    async def test_how_many_end_soon(self) -> None:
        node = await self.node()
        for name, days in (("a.example", 21.01), ("b.example", 21), ("c.example", 1)):
            await node.service.insert(name, "basic")
            await node.put(name, ending_in(days, name))
        self.assertEqual((len(node.certificates), node.certificates.ending()), (3, 2))
