"""The database pools of a server, as its configuration names them, and the PostgreSQL that it may have to start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from dynxmpp.config.host_config import Config
from dynxmpp.config.pools import EmbeddedConnection, PgsqlConnection, RdbmsConnection, RdbmsPool
from dynxmpp.db.connection import PoolSettings, Turn
from dynxmpp.db.embedded import EmbeddedPostgres
from dynxmpp.db.pool import Database

DEFAULT = "default"


class NoPool(Exception):
    """Something needs a pool that the configuration does not have."""


class Databases:
    """All pools: the shared ones by tag, those of a host type by its name and tag."""

    log = Logger()

    def __init__(self, config: Config, reactor: Any, turn: Turn | None = None) -> None:
        """`turn` is told of all that comes from the databases."""
        self._config = config
        self._turn = turn
        self._reactor = reactor
        self._pools: dict[tuple[str | None, str], Database] = {}
        self._servers: dict[Path, EmbeddedPostgres] = {}
        self._embedded_settings: dict[Path, PoolSettings] = {}

    async def start(self) -> None:
        """Starts what is embedded, and every pool; returns once each has a connection."""
        shared = {tag: pool for tag, pool in self._config.outgoing_pools.rdbms.items() if pool.scope == "global"}
        for tag, pool in shared.items():
            await self._start(None, tag, pool)
        for name, host in self._config.host_types.items():
            for tag, own in host.rdbms_pools.items():
                if shared.get(tag) is not own:
                    await self._start(name, tag, own)

    async def _start(self, host_type: str | None, tag: str, pool: RdbmsPool) -> None:
        settings = await self._settings(pool)
        name = tag if host_type is None else f"{host_type}/{tag}"
        database = Database(settings, clock=self._reactor, reactor=self._reactor, name=name, turn=self._turn)
        self._pools[host_type, tag] = database
        await database.start()
        self.log.info("pool_started", pool=name, workers=pool.workers)

    async def _settings(self, pool: RdbmsPool) -> PoolSettings:
        connection = pool.connection
        if isinstance(connection, EmbeddedConnection):
            return await self._embedded(connection, pool)
        assert isinstance(connection, PgsqlConnection)
        return pgsql_settings(connection, pool)

    async def _embedded(self, connection: EmbeddedConnection, pool: RdbmsPool) -> PoolSettings:
        """How to connect to the server in a data directory, which is started for the first pool that wants it."""
        if connection.data_dir not in self._servers:
            server = self._servers[connection.data_dir] = EmbeddedPostgres(
                connection.data_dir,
                database=connection.database,
                reactor=self._reactor,
                run_as=connection.run_as or "nobody",
                port=connection.port,
            )
            self._embedded_settings[connection.data_dir] = await server.start()
        settings = self._embedded_settings[connection.data_dir]
        if settings.database != connection.database:
            raise NoPool(f"{connection.data_dir} has the database {settings.database} only, not {connection.database}")
        return replace(settings, **_limits(connection, pool))

    def shared(self, tag: str = DEFAULT) -> Database | None:
        """A pool of the whole server."""
        return self._pools.get((None, tag))

    def of(self, host_type: str, tag: str = DEFAULT) -> Database | None:
        """The pool that a host type uses: its own, else the shared one."""
        return self._pools.get((host_type, tag)) or self.shared(tag)

    def needed_by(self, host_type: str, tag: str = DEFAULT) -> Database:
        """As `of`, where there is no way without. Raises NoPool."""
        database = self.of(host_type, tag)
        if database is None:
            raise NoPool(f"host type {host_type} needs the section outgoing_pools.rdbms.{tag}")
        return database

    def __iter__(self) -> Any:
        return iter(self._pools.values())

    async def stop(self) -> None:
        """Closes the pools, then stops what was started."""
        for pool in self._pools.values():
            await pool.stop()
        for server in self._servers.values():
            await server.stop()


def _limits(connection: RdbmsConnection, pool: RdbmsPool) -> dict[str, Any]:
    """The fields of PoolSettings that both drivers have in the configuration."""
    return {
        "workers": pool.workers,
        "query_timeout_s": connection.query_timeout / 1000,
        # A client must not wait a minute for an answer, whatever the file of another server says.
        "call_timeout_s": min(pool.call_timeout / 1000, 5.0),
        "max_start_interval_s": connection.max_start_interval,
        "keepalive_interval_s": connection.keepalive_interval,
    }


def pgsql_settings(connection: PgsqlConnection, pool: RdbmsPool) -> PoolSettings:
    """How to connect to a PostgreSQL server that runs already."""
    tls = connection.tls
    sslmode = "disable"
    if tls is not None:
        verified = tls.verify_mode != "none" and tls.cacertfile is not None
        sslmode = "verify-ca" if verified else "require" if tls.required else "prefer"

    versions = sorted(f"TLS{version.removeprefix('tls')}" for version in tls.versions) if tls else [None]

    def path(value: Path | None) -> str | None:
        return None if value is None else str(value)

    return PoolSettings(
        host=connection.host,
        port=connection.port,
        database=connection.database,
        username=connection.username,
        password=connection.password,
        sslmode=sslmode,
        sslrootcert=path(tls.cacertfile) if tls else None,
        sslcert=path(tls.certfile) if tls else None,
        sslkey=path(tls.keyfile) if tls else None,
        sslpassword=tls.password if tls else None,
        ssl_min_protocol_version=versions[0],
        ssl_max_protocol_version=versions[-1],
        **_limits(connection, pool),
    )
