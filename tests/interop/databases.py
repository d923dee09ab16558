"""Databases of whole servers under test: a PostgreSQL with a role and a password, reached over TCP."""

from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.task import deferLater

from dynxmpp.auth.rdbms import RdbmsAuth, load_secret
from dynxmpp.db.pool import Database, PoolSettings
from tests.fixtures.postgres import OwnServer
from tests.fixtures.server import free_port

T = TypeVar("T")

NAME = "mongooseim"
PASSWORD = "mongooseim_secret"
#: Between two attempts at something that is not so yet, and how many there are at most.
RETRY_S = 0.1
ATTEMPTS = 150


class ExternalPostgres:
    """An OwnServer that wants the password (SCRAM) of whoever comes over TCP, with the role that servers use."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server = OwnServer(port=self.port)
        self.server.start()
        rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.server.data / "pg_hba.conf").write_text(rules)
        self.server.shut_down()
        self.server.restart()
        self.server.admin(f"CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'")

    def fresh_database(self) -> None:
        """An empty database; who was connected to the one before is thrown out."""
        self.server.drop_database(NAME)
        self.server.admin(f"CREATE DATABASE {NAME} OWNER {NAME}")

    def connection(self, **more: int) -> str:
        """What the configuration says below [outgoing_pools.rdbms.default.connection]."""
        lines = ['driver = "pgsql"', 'host = "127.0.0.1"', f"port = {self.port}"]
        lines += [f'database = "{NAME}"', f'username = "{NAME}"', f'password = "{PASSWORD}"']
        return "\n".join([*lines, *(f"{key} = {value}" for key, value in more.items())])

    def settings(self) -> PoolSettings:
        return PoolSettings(
            host="127.0.0.1", port=self.port, database=NAME, username=NAME, password=PASSWORD, workers=1
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.admin(sql, database=NAME)


async def create_accounts(case: Any, settings: PoolSettings, *accounts: tuple[str, str]) -> None:
    """Accounts (address, password) put into the tables of a server that has no port for it."""
    database = Database(settings, clock=reactor, reactor=reactor)
    case.addCleanup(database.stop)
    await database.start()
    random = SystemRandom()
    auth = RdbmsAuth(database, secret=await load_secret(database, random), random=random)
    for jid, password in accounts:
        username, _, domain = jid.partition("@")
        await auth.create(domain, username, password)
    await database.stop()


async def until(attempt: Callable[[], Awaitable[T | None]], what: str) -> T:
    """The first answer of `attempt` that is not None. Each attempt is a question to somebody."""
    for _ in range(ATTEMPTS):
        answer = await attempt()
        if answer is not None:
            return answer
        await deferLater(reactor, RETRY_S)
    raise AssertionError(f"{what}: not after {ATTEMPTS} attempts")
