"""The operations and their outcomes; deletion that fails or is cut off at any step."""

from typing import Any

from twisted.internet.defer import Deferred

from dynxmpp.core.interfaces import Stored
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.errors import (
    DomainDeleted,
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    InvalidDomain,
    ServiceDisabled,
    UnknownHostType,
    WrongHostType,
)
from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.service import STRICT, DomainService, prepare_name
from dynxmpp.domains.store import DomainStatus, DomainStore
from dynxmpp.jid import JID
from dynxmpp.wire.errors import Unavailable
from tests.domains.node import Node
from tests.fixtures.postgres import DatabaseTestCase

TABLES = Migration(
    "tenants",
    1,
    "tables",
    """
    CREATE TABLE users (server text, username text, PRIMARY KEY (server, username));
    CREATE TABLE notes (server text, username text, note text);
    CREATE INDEX ON notes (server, username);
    CREATE TABLE "odd ""table" ("lo;cal" text);
    CREATE TABLE parted (server text, username text, n int) PARTITION BY HASH (n);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    """,
)
AUTH = Stored("users", "server", "username")
MODULES = (
    Stored("notes", "server", "username"),
    Stored('odd "table', "lo;cal"),
    Stored("parted", "server", "username"),
)


class Memory:
    """What a module keeps in memory; it fails as often as it is told to."""

    def __init__(self) -> None:
        self.domains: list[str] = []
        self.accounts: list[str] = []
        self.failures = 0
        self.hold: Deferred[None] | None = None

    async def remove_domain(self, domain: str) -> None:
        if self.hold is not None:
            await self.hold
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a module's mistake")
        self.domains.append(domain)

    async def remove_account(self, account: JID) -> None:
        self.accounts.append(account.full)


class FailingAt:
    """A database whose n-th statement, counted from now, finds the server gone; and all after it."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.left: int | None = None

    def _step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Unavailable("gone")
            self.left -= 1

    async def query(self, sql: str, params: Any = ()) -> Any:
        self._step()
        return await self.database.query(sql, params)

    async def execute(self, sql: str, params: Any = ()) -> Any:
        self._step()
        return await self.database.execute(sql, params)

    async def transaction(self, work: Any) -> Any:
        self._step()
        return await self.database.transaction(work)


class ServiceTestCase(DatabaseTestCase):
    migrations = (*DomainStore.migrations, TABLES)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.memory = Memory()
        self.failing = FailingAt(self.db)
        self.node = await self.new_node()
        self.service = self.node.service

    async def new_node(self, database: Any = None, **options: Any) -> Node:
        database = database or self.failing
        node = Node(
            database,
            static=["static.example"],
            auth_places=[Place(database, AUTH)],
            places=[Place(database, stored) for stored in MODULES],
            forgetful=[self.memory],
            batch_rows=10,
            **options,
        )
        self.addCleanup(node.service.stop)
        return await node.start()

    async def fill(self, domain: str, rows: int = 25) -> None:
        await self.db.execute("INSERT INTO users SELECT %s, 'u' || n FROM generate_series(1, %s) n", (domain, rows))
        await self.db.execute(
            "INSERT INTO notes SELECT %s, 'u' || n %% 3 FROM generate_series(1, %s) n", (domain, rows)
        )
        await self.db.execute('INSERT INTO "odd ""table" SELECT %s FROM generate_series(1, %s) n', (domain, rows))
        await self.db.execute("INSERT INTO parted SELECT %s, 'u1', n FROM generate_series(1, %s) n", (domain, rows))

    async def rows_of(self, domain: str) -> list[int]:
        counts = []
        for table, column in (
            ("users", "server"),
            ("notes", "server"),
            ('"odd ""table"', '"lo;cal"'),
            ("parted", "server"),
        ):
            counts.extend(await self.db.query(f"SELECT count(*) FROM {table} WHERE {column} = %s", (domain,)))
        return [count for (count,) in counts]


class OperationTests(ServiceTestCase):
    async def test_inserting(self) -> None:
        self.assertTrue(await self.service.insert("example.org", "basic"))
        self.assertFalse(await self.service.insert("example.org", "basic"))
        with self.assertRaises(DomainExists):
            await self.service.insert("example.org", "basic", STRICT)
        with self.assertRaises(DomainExists):
            await self.service.insert("example.org", "advanced")
        with self.assertRaises(UnknownHostType):
            await self.service.insert("example.net", "gold")
        with self.assertRaises(UnknownHostType):  # a static domain's host type is for that domain alone
            await self.service.insert("example.net", "static.example")
        with self.assertRaises(DomainIsStatic):
            await self.service.insert("static.example", "gold")

    async def test_enabling_and_disabling_twice_succeed(self) -> None:
        await self.service.insert("example.org", "basic")
        for enabled in (True, False, False, True):
            await self.service.set_enabled("example.org", enabled)
            self.assertEqual("example.org" in self.node.table, enabled)

    async def test_enabling_what_cannot_be(self) -> None:
        with self.assertRaises(DomainIsStatic):
            await self.service.set_enabled("static.example", False)
        with self.assertRaises(DomainNotFound):
            await self.service.set_enabled("example.org", False)
        await self.db.execute("INSERT INTO domain_settings (domain, host_type) VALUES ('gold.example', 'gold')")
        with self.assertRaises(UnknownHostType):
            await self.service.set_enabled("gold.example", False)

    async def test_describing(self) -> None:
        await self.service.insert("example.org", "basic")
        await self.service.set_enabled("example.org", False)
        row = await self.service.describe("example.org")
        self.assertEqual((row.host_type, row.status), ("basic", DomainStatus.DISABLED))
        with self.assertRaises(DomainNotFound):
            await self.service.describe("example.net")
        with self.assertRaises(DomainNotFound):
            await self.service.describe("static.example")
        with self.assertRaises(DomainIsStatic):
            await self.service.describe("static.example", STRICT)

    async def test_a_stopped_service_refuses_changes_in_the_order_of_the_dialect(self) -> None:
        await self.service.stop()
        for domain, host_type, error in (
            ("static.example", "basic", DomainIsStatic),
            ("example.org", "gold", UnknownHostType),
            ("example.org", "basic", ServiceDisabled),
        ):
            for operation in (self.service.insert, self.service.delete):
                with self.assertRaises(error):
                    await operation(domain, host_type)
                with self.assertRaises(ServiceDisabled):
                    await operation(domain, host_type, STRICT)
        with self.assertRaises(ServiceDisabled):
            await self.service.set_enabled("example.org", True)
        with self.assertRaises(DomainNotFound):
            await self.service.describe("example.org")
        with self.assertRaises(ServiceDisabled):
            await self.service.describe("example.org", STRICT)

    async def test_without_a_backing_everything_is_refused(self) -> None:
        service = DomainService(self.node.table, None, spawn=self.node._spawn)
        await service.start()
        with self.assertRaises(ServiceDisabled):
            await service.insert("example.org", "basic")
        with self.assertRaises(Unavailable):
            await service.describe("example.org")
        await service.stop()

    async def test_a_domain_that_another_node_has_just_inserted_is_served_when_the_call_returns(self) -> None:
        other = await self.new_node()
        await other.service.insert("example.org", "basic")
        self.assertNotIn("example.org", self.node.table)
        self.assertFalse(await self.service.insert("example.org", "basic"))
        self.assertIn("example.org", self.node.table)

    def test_names(self) -> None:
        self.assertEqual(prepare_name("EXAMPLE.ORG"), "example.org")
        self.assertEqual(prepare_name(".".join(["a" * 49] * 5)), ".".join(["a" * 49] * 5))
        for name in ("", "a b", "a..b", "a/b", "a@b", "a\0b", ".".join(["a" * 50] * 5), "é" * 126):
            with self.assertRaises(InvalidDomain, msg=repr(name)):
                prepare_name(name)


class DeletionTests(ServiceTestCase):
    async def test_all_data_of_the_domain_and_of_no_other_go(self) -> None:
        for domain in ("example.org", "example.net"):
            await self.service.insert(domain, "basic")
            await self.fill(domain)
        self.assertTrue(await self.service.delete("example.org", "basic"))
        self.assertEqual(await self.rows_of("example.org"), [0, 0, 0, 0])
        self.assertEqual(await self.rows_of("example.net"), [25, 25, 25, 25])
        self.assertEqual((self.node.gone, self.memory.domains), (["example.org"], ["example.org"]))
        with self.assertRaises(DomainNotFound):
            await self.service.describe("example.org")

    async def test_outcomes(self) -> None:
        self.assertFalse(await self.service.delete("example.org", "basic"))
        with self.assertRaises(DomainNotFound):
            await self.service.delete("example.org", "basic", STRICT)
        await self.service.insert("example.org", "basic")
        await self.fill("example.org", 1)
        with self.assertRaises(WrongHostType):
            await self.service.delete("example.org", "advanced")
        self.assertEqual(await self.rows_of("example.org"), [1, 1, 1, 1])
        self.assertIn("example.org", self.node.table)

    async def test_deleting_what_is_not_there_removes_what_was_left(self) -> None:
        await self.fill("example.org")
        self.assertFalse(await self.service.delete("example.org", "basic"))
        self.assertEqual(await self.rows_of("example.org"), [0, 0, 0, 0])

    async def test_in_the_background(self) -> None:
        await self.service.insert("example.org", "basic")
        await self.fill("example.org")
        self.memory.hold = Deferred()
        self.assertTrue(await self.service.delete("example.org", "basic", in_background=True))
        self.assertNotIn("example.org", self.node.table)
        self.assertIs((await self.service.describe("example.org")).status, DomainStatus.DELETING)
        with self.assertRaises(DomainDeleted):
            await self.service.set_enabled("example.org", True)
        with self.assertRaises(DomainExists):
            await self.service.insert("example.org", "basic")
        self.memory.hold.callback(None)
        self.assertEqual(await self.node.settle(), [])
        self.assertEqual(await self.rows_of("example.org"), [0, 0, 0, 0])
        await self.service.insert("example.org", "advanced")

    async def test_a_second_request_joins_the_first(self) -> None:
        await self.service.insert("example.org", "basic")
        self.memory.hold = Deferred()
        await self.service.delete("example.org", "basic", in_background=True)
        second = Deferred.fromCoroutine(self.service.delete("example.org", "basic"))
        self.memory.hold.callback(None)
        self.assertTrue(await second)
        await self.node.settle()
        self.assertEqual(self.memory.domains, ["example.org"])

    async def test_a_module_that_fails_leaves_the_domain_deleting_and_the_request_can_be_repeated(self) -> None:
        await self.service.insert("example.org", "basic")
        await self.fill("example.org")
        self.memory.failures = 2
        with self.assertRaises(RuntimeError):
            await self.service.delete("example.org", "basic")
        self.assertIs((await self.service.describe("example.org")).status, DomainStatus.DELETING)
        await self.service.delete("example.org", "basic", in_background=True)
        self.assertEqual(await self.node.settle(), ["domain_removal_failed"])
        self.assertTrue(await self.service.delete("example.org", "basic"))
        with self.assertRaises(DomainNotFound):
            await self.service.describe("example.org")

    async def test_a_crash_after_any_step_is_made_up_for_by_the_next_start(self) -> None:
        crashes = 0
        for steps in range(100):
            domain = f"d{steps}.example"
            await self.service.insert(domain, "basic")
            await self.fill(domain)
            self.failing.left = steps
            try:
                await self.service.delete(domain, "basic")
            except Unavailable:
                crashes += 1
            else:
                break
            self.failing.left = None
            state = await self.store_state(domain)
            self.assertEqual(state, DomainStatus.ENABLED if steps == 0 else DomainStatus.DELETING)
            restarted = await self.new_node(self.db)
            self.assertEqual(domain in restarted.table, steps == 0)
            if steps:
                self.assertIsNone(await self.store_state(domain))
                self.assertEqual(await self.rows_of(domain), [0, 0, 0, 0])
        self.assertGreater(crashes, 15)

    async def store_state(self, domain: str) -> DomainStatus | None:
        row = await self.node.store.get(domain)
        return None if row is None else row.status

    async def test_a_node_without_the_host_type_leaves_the_rest_to_others(self) -> None:
        await self.service.insert("example.org", "advanced")
        await self.node.store.begin_delete("example.org", "advanced")
        await self.new_node(host_types=["basic"])
        self.assertIs(await self.store_state("example.org"), DomainStatus.DELETING)

    async def test_a_removal_that_lags_behind_never_touches_the_domain_that_has_the_name_now(self) -> None:
        await self.service.insert("example.org", "basic")
        await self.fill("example.org")
        await self.node.remover.remove_domain("example.org")
        self.assertEqual(await self.rows_of("example.org"), [25, 25, 25, 25])
        self.assertIsNotNone(await self.store_state("example.org"))

    async def test_tables_in_another_database_are_emptied_and_guarded_too(self) -> None:
        other = await self.start_database(self.settings)
        remover = DomainRemover(
            self.node.store, settings_database=self.failing, places=[Place(other, MODULES[0])], batch_rows=10
        )
        await self.service.insert("example.org", "basic")
        await self.fill("example.org")
        await remover.remove_domain("example.org")
        self.assertEqual(await self.rows_of("example.org"), [25, 25, 25, 25])
        await self.node.store.begin_delete("example.org", "basic")
        await remover.remove_domain("example.org")
        self.assertEqual(await self.rows_of("example.org"), [25, 0, 25, 25])


class AccountTests(ServiceTestCase):
    async def test_what_modules_keep_of_an_account_goes_and_nothing_else(self) -> None:
        await self.fill("example.org")
        await self.fill("example.net")
        await self.node.remover.remove_account(JID.parse("u1@example.org"))
        left = await self.db.query("SELECT username, count(*) FROM notes WHERE server = 'example.org' GROUP BY 1")
        self.assertEqual(sorted(left), [("u0", 8), ("u2", 8)])
        self.assertEqual(await self.rows_of("example.org"), [25, 16, 25, 0])
        self.assertEqual(await self.rows_of("example.net"), [25, 25, 25, 25])
        self.assertEqual(self.memory.accounts, ["u1@example.org"])
