"""Which pools a configuration means, and who is given which: by scope, by host type, by tag."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dynxmpp.config.loader import load_config
from dynxmpp.config.pools import PgsqlConnection
from dynxmpp.databases import Databases, NoPool, pgsql_settings
from dynxmpp.db.connection import PoolSettings
from dynxmpp.db.pool import Database, DatabaseUnavailable, Transaction
from tests.fixtures.postgres import OwnServer, new_folder, shared_server

GENERAL = """
[general]
hosts = ["static.example"]
host_types = ["basic", "rich"]
default_server_domain = "static.example"

[auth]
methods = ["dummy"]
"""


class DatabasesTestCase(TestCase):
    """Loads small files; what they start is stopped at the end."""

    def load(self, text: str) -> Databases:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(os.path.realpath(folder.name)) / "test.toml"
        path.write_text(GENERAL + text)
        self.config = load_config(path, {})
        databases = Databases(self.config, reactor)
        self.addCleanup(databases.stop)
        return databases


class Pools(DatabasesTestCase):
    """Each pool has a database of its own on a real server, so that a query tells which pool it is."""

    server: OwnServer

    def setUp(self) -> None:
        self.server = shared_server()

    def pool(self, database: str, *lines: str, section: str = "outgoing_pools.rdbms.default") -> str:
        """The section of a pool whose database, made here, has this name."""
        settings = self.server.create_database(database)
        self.addCleanup(self.server.drop_database, database)
        return "\n".join(
            [
                f"[{section}]",
                "workers = 1",
                *lines,
                f"[{section}.connection]",
                'driver = "pgsql"',
                f'host = "{settings.host}"',
                f'database = "{database}"',
                f'username = "{settings.username}"',
                'password = "not asked for"',
                "",
            ]
        )

    async def start(self, *sections: str) -> Databases:
        databases = self.load("\n".join(sections))
        await databases.start()
        return databases

    async def named(self, database: Database | None) -> str | None:
        """The database that a pool is connected to."""
        if database is None:
            return None
        [(name,)] = await database.query("SELECT current_database()")
        return str(name)

    async def who_has(self, databases: Databases, tag: str = "default") -> dict[str, str | None]:
        """What each host type is given."""
        return {name: await self.named(databases.of(name, tag)) for name in self.config.host_types}

    async def test_a_file_without_pools(self) -> None:
        databases = await self.start()
        self.assertEqual([], list(databases))
        self.assertIsNone(databases.shared())
        self.assertIsNone(databases.of("basic"))
        problem = self.assertRaises(NoPool, databases.needed_by, "basic")
        self.assertIn("basic", str(problem))
        self.assertIn("outgoing_pools.rdbms.default", str(problem))

    async def test_a_global_pool_is_one_for_all(self) -> None:
        databases = await self.start(self.pool("pool_global"))
        [database] = databases
        self.assertIs(database, databases.shared())
        for name in self.config.host_types:
            self.assertIs(database, databases.of(name))
            self.assertIs(database, databases.needed_by(name))
        self.assertEqual("pool_global", await self.named(database))

    async def test_a_pool_of_scope_host_type_is_one_for_each(self) -> None:
        databases = await self.start(self.pool("pool_each", 'scope = "host_type"'))
        self.assertIsNone(databases.shared())
        given = [databases.of(name) for name in self.config.host_types]
        self.assertEqual(3, len({id(database) for database in given}))
        self.assertEqual(3, len(list(databases)))
        self.assertEqual(dict.fromkeys(self.config.host_types, "pool_each"), await self.who_has(databases))

    async def test_a_pool_of_scope_single_host_belongs_to_that_one(self) -> None:
        databases = await self.start(self.pool("pool_single", 'scope = "single_host"', 'host = "basic"'))
        self.assertEqual(1, len(list(databases)))
        self.assertIsNone(databases.shared())
        self.assertEqual({"static.example": None, "basic": "pool_single", "rich": None}, await self.who_has(databases))
        self.assertRaises(NoPool, databases.needed_by, "rich")

    async def test_host_config_overrides_a_global_pool(self) -> None:
        own = self.pool("pool_own", section="host_config.outgoing_pools.rdbms.default")
        databases = await self.start(self.pool("pool_shared"), '[[host_config]]\nhost_type = "rich"', own)
        self.assertEqual(2, len(list(databases)))
        self.assertEqual(
            {"static.example": "pool_shared", "basic": "pool_shared", "rich": "pool_own"}, await self.who_has(databases)
        )
        self.assertEqual("pool_shared", await self.named(databases.shared()))

    async def test_host_config_overrides_a_pool_of_scope_host_type(self) -> None:
        own = self.pool("pool_own", section="host_config.outgoing_pools.rdbms.default")
        databases = await self.start(
            self.pool("pool_each", 'scope = "host_type"'), '[[host_config]]\nhost = "static.example"', own
        )
        self.assertEqual(3, len(list(databases)))
        self.assertEqual(
            {"static.example": "pool_own", "basic": "pool_each", "rich": "pool_each"}, await self.who_has(databases)
        )

    async def test_a_host_type_may_have_a_pool_where_others_have_none(self) -> None:
        own = self.pool("pool_own", section="host_config.outgoing_pools.rdbms.default")
        databases = await self.start('[[host_config]]\nhost_type = "basic"', own)
        self.assertEqual({"static.example": None, "basic": "pool_own", "rich": None}, await self.who_has(databases))

    async def test_tags_are_pools_of_their_own(self) -> None:
        databases = await self.start(
            self.pool("pool_default"), self.pool("pool_archive", section="outgoing_pools.rdbms.archive")
        )
        self.assertEqual("pool_default", await self.named(databases.shared()))
        self.assertEqual("pool_archive", await self.named(databases.shared("archive")))
        self.assertEqual("pool_archive", await self.named(databases.of("basic", "archive")))
        self.assertIsNone(databases.of("basic", "nowhere"))
        problem = self.assertRaises(NoPool, databases.needed_by, "basic", "nowhere")
        self.assertIn("outgoing_pools.rdbms.nowhere", str(problem))

    async def test_stopping_closes_every_connection(self) -> None:
        databases = await self.start(self.pool("pool_closed", 'scope = "host_type"'))
        pools = list(databases)
        await databases.stop()
        for pool in pools:
            with self.assertRaises(DatabaseUnavailable):
                await pool.query("SELECT 1")


class Embedded(DatabasesTestCase):
    async def test_pools_of_one_data_directory_share_its_server(self) -> None:
        folder = new_folder(in_memory=True)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        connection = f'connection = {{ driver = "embedded", data_dir = "{folder / "data"}" }}'
        databases = self.load(
            f"""
[outgoing_pools.rdbms.default]
workers = 1
{connection}
[[host_config]]
host_type = "rich"
[host_config.outgoing_pools.rdbms.default]
workers = 2
{connection}
"""
        )
        await databases.start()
        shared, own = databases.needed_by("basic"), databases.needed_by("rich")
        self.assertIsNot(shared, own)
        query = "SELECT pg_postmaster_start_time(), current_database()"
        self.assertEqual(await shared.query(query), await own.query(query))
        self.assertEqual(2, len(await self.used_at_once(own, 2)))

    async def used_at_once(self, pool: Database, number: int) -> set[int]:
        """The connections of `number` transactions none of which ends before all have begun."""
        backends: set[int] = set()
        all_there: Deferred[None] = Deferred()

        async def work(transaction: Transaction) -> None:
            [(backend,)] = await transaction.query("SELECT pg_backend_pid()")
            backends.add(backend)
            if len(backends) == number:
                all_there.callback(None)
            await all_there

        await gatherResults([Deferred.fromCoroutine(pool.transaction(work)) for _ in range(number)])
        return backends


class Settings(DatabasesTestCase):
    """From the file's words to those of the driver."""

    def settings(self, *pool: str, connection: str = "") -> PoolSettings:
        lines = "\n".join(pool)
        self.load(
            f"""
[outgoing_pools.rdbms.default]
{lines}
[outgoing_pools.rdbms.default.connection]
driver = "pgsql"
host = "db.example.com"
database = "chat"
username = "charlie"
password = "a secret"
{connection}
"""
        )
        found = self.config.outgoing_pools.rdbms["default"]
        assert isinstance(found.connection, PgsqlConnection)
        return pgsql_settings(found.connection, found)

    def tls(self, *lines: str) -> dict[str, Any]:
        """The options of TLS that a [...connection.tls] section means."""
        text = "\n".join(("[outgoing_pools.rdbms.default.connection.tls]", *lines))
        found = self.settings(connection=text)
        return {name: getattr(found, name) for name in PoolSettings.__dataclass_fields__ if name.startswith("ssl")}

    def test_where_and_who(self) -> None:
        found = self.settings("workers = 7", connection="port = 5433")
        self.assertEqual(
            ("db.example.com", 5433, "chat", "charlie", "a secret", 7),
            (found.host, found.port, found.database, found.username, found.password, found.workers),
        )

    def test_the_password_is_not_printed(self) -> None:
        self.assertNotIn("a secret", repr(self.settings()))

    def test_times(self) -> None:
        found = self.settings(
            "call_timeout = 1500",
            connection="query_timeout = 2500\nmax_start_interval = 9\nkeepalive_interval = 20",
        )
        self.assertEqual(
            (1.5, 2.5, 9, 20),
            (found.call_timeout_s, found.query_timeout_s, found.max_start_interval_s, found.keepalive_interval_s),
        )

    def test_no_call_waits_longer_than_a_client_would(self) -> None:
        self.assertEqual(5.0, self.settings().call_timeout_s)
        self.assertEqual(5.0, self.settings("call_timeout = 60000").call_timeout_s)

    def test_without_tls(self) -> None:
        found = self.settings()
        self.assertEqual(("disable", None), (found.sslmode, found.ssl_min_protocol_version))

    def test_how_much_tls(self) -> None:
        authority = Path(self.mktemp())
        authority.write_text("a certificate, for all that is looked at here")
        file = f'cacertfile = "{authority.absolute()}"'
        for lines, expected in [
            (('verify_mode = "none"',), "prefer"),
            (('verify_mode = "none"', "required = true"), "require"),
            (('verify_mode = "none"', "required = true", file), "require"),
            (('verify_mode = "peer"', file), "verify-ca"),
            ((file,), "verify-ca"),
        ]:
            self.assertEqual(expected, self.tls(*lines)["sslmode"], lines)
        self.assertEqual(str(authority.absolute()), self.tls(file)["sslrootcert"])

    def test_a_certificate_of_our_own(self) -> None:
        names = [Path(self.mktemp()).absolute() for _ in "12"]
        for name in names:
            name.write_text("pem")
        certificate, key = names
        found = self.tls('verify_mode = "none"', f'certfile = "{certificate}"', f'keyfile = "{key}"', 'password = "pw"')
        self.assertEqual((str(certificate), str(key), "pw"), (found["sslcert"], found["sslkey"], found["sslpassword"]))

    def test_versions_of_tls(self) -> None:
        for versions, expected in [
            ('["tlsv1.2"]', ("TLSv1.2", "TLSv1.2")),
            ('["tlsv1.3"]', ("TLSv1.3", "TLSv1.3")),
            ('["tlsv1.3", "tlsv1.2"]', ("TLSv1.2", "TLSv1.3")),
        ]:
            found = self.tls('verify_mode = "none"', f"versions = {versions}")
            self.assertEqual(expected, (found["ssl_min_protocol_version"], found["ssl_max_protocol_version"]))
