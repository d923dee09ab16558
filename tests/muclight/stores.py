"""Rooms and decisions about them, for tests of what is in the database."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.room import Affiliation, Members, Room
from dynxmpp.modules.muc_light.schema import MIGRATIONS
from dynxmpp.modules.muc_light.store import Change, Decide, DecideNew, Facts, RoomStore
from tests.fixtures.postgres import DatabaseTestCase

SERVER = "capulet.example"
SERVICE = "muclight.capulet.example"
LOBBY = JID.parse(f"lobby@{SERVICE}")
BALCONY = JID.parse(f"balcony@{SERVICE}")
ANN, BEN, CAT, DAN = (JID.parse(f"{name}@capulet.example") for name in ("ann", "ben", "cat", "dan"))
OWNER, MEMBER = Affiliation.OWNER, Affiliation.MEMBER
TRIO = {ANN: OWNER, BEN: MEMBER, CAT: MEMBER}


class Refusal(Exception):
    """What a decision raises."""


def new(members: Members, config: Mapping[str, str] | None = None) -> DecideNew:
    async def decide(facts: Facts) -> tuple[Members, Mapping[str, str]]:
        return members, config or {}

    return decide


def gives(change: Change | None) -> Decide:
    async def decide(room: Room, facts: Facts) -> Change | None:
        return change

    return decide


def adds(*users: JID, version: str = "2") -> Decide:
    async def decide(room: Room, facts: Facts) -> Change:
        return Change({**room.members, **dict.fromkeys(users, MEMBER)}, version=version)

    return decide


async def refuses(*_: Any) -> Any:
    raise Refusal


async def nothing(_: Any) -> None:
    """What others keep of a room that is removed: nothing."""


class Recorded:
    """A database, and the statements that went there."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.statements: list[str] = []

    async def query(self, sql: str, params: Any = ()) -> Any:
        self.statements.append(sql)
        return await self.database.query(sql, params)

    async def execute(self, sql: str, params: Any = ()) -> int:
        self.statements.append(sql)
        return int(await self.database.execute(sql, params))

    async def transaction(self, work: Any) -> Any:
        async def recorded(transaction: Any) -> Any:
            inner = Recorded(transaction)
            inner.statements = self.statements
            return await work(inner)

        return await self.database.transaction(recorded)


class StoreTestCase(DatabaseTestCase):
    migrations = MIGRATIONS

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.recorded = Recorded(self.db)
        self.store = RoomStore(self.recorded)  # type: ignore[arg-type]

    async def other(self) -> RoomStore:
        """The store as another node has it."""
        return RoomStore(await self.start_database(self.settings))

    async def make(
        self, room: JID = LOBBY, members: Members = TRIO, config: Mapping[str, str] | None = None, server: str = SERVER
    ) -> Room:
        return await self.store.create(server, room, "1", new(members, config))

    async def waiting(self, *running: "Deferred[Any]") -> None:
        """Returns when all of these wait for locks; fails when one ends before."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while await self.db.query(sql) != [(len(running),)]:
            self.assertFalse(any(one.called for one in running), "ended without waiting")

    async def written(self) -> dict[str, str]:
        """The transaction that has written each occupant."""
        return dict(await self.db.query("SELECT username, xmin::text FROM muc_light_occupants"))

    async def count(self, table: str) -> int:
        rows = await self.db.query(f"SELECT count(*) FROM muc_light_{table}")
        return int(rows[0][0])
