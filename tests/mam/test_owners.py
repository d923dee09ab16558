"""Numbers of archives: found, made, remembered, forgotten."""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.schema import ACCOUNT, MIGRATIONS, ROOM
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.postgres import DatabaseTestCase

SERVER = "capulet.example"


class Counting:
    """The database, which counts its queries, holds them back and fails if it is told to."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.queries = 0
        #: Told of rows that have been read, which are handed out when `gate` fires.
        self.read: Deferred[None] | None = None
        self.gate: Deferred[None] | None = None
        self.problem: Exception | None = None

    async def query(self, sql: str, params: Any = ()) -> Any:
        self.queries += 1
        if self.problem is not None:
            raise self.problem
        rows = await self.database.query(sql, params)
        if self.read is not None and self.gate is not None:
            gate, read, self.gate, self.read = self.gate, self.read, None, None
            read.callback(None)
            await gate
        return rows


class OwnersTestCase(DatabaseTestCase):
    migrations = MIGRATIONS

    async def setUp(self) -> None:
        await super().setUp()
        self.clock = Clock()
        self.database = Counting(self.db)
        self.owners = self.make()

    def make(self, size: int = 100, lifetime_s: float = 60) -> Owners:
        return Owners(self.database, size, clock=self.clock, lifetime_s=lifetime_s)  # type: ignore[arg-type]

    async def get(self, name: str, kind: int = ACCOUNT) -> int:
        return await self.owners.get(SERVER, kind, name)

    async def test_one_that_is_not_there(self) -> None:
        self.assertIsNone(self.owners.known(SERVER, ACCOUNT, "juliet"))
        self.assertIsNone(await self.owners.find(SERVER, ACCOUNT, "juliet"))
        self.assertEqual([(0,)], await self.db.query("SELECT count(*) FROM mam_archive"))

    async def test_made_once_and_remembered(self) -> None:
        number = await self.get("juliet")
        queries = self.database.queries
        self.assertEqual(number, self.owners.known(SERVER, ACCOUNT, "juliet"))
        self.assertEqual(number, await self.get("juliet"))
        self.assertEqual(number, await self.owners.find(SERVER, ACCOUNT, "juliet"))
        self.assertEqual(queries, self.database.queries)
        self.assertEqual(number, await self.make().find(SERVER, ACCOUNT, "juliet"))

    async def test_each_has_its_own(self) -> None:
        numbers = {await self.get("juliet"), await self.get("nurse"), await self.get("juliet", ROOM)}
        numbers.add(await self.owners.get("montague.example", ACCOUNT, "juliet"))
        self.assertEqual(4, len(numbers))

    async def test_all_who_ask_at_once_share_a_look_up(self) -> None:
        asked = [Deferred.fromCoroutine(self.get("juliet")) for _ in range(10)]
        numbers = await gatherResults(asked)
        self.assertEqual(1, len(set(numbers)))
        self.assertEqual(2, self.database.queries)  # there is none; it is made

    async def test_two_nodes_that_make_it_at_once(self) -> None:
        nodes = [self.make() for _ in range(5)]
        numbers = await gatherResults([Deferred.fromCoroutine(node.get(SERVER, ACCOUNT, "juliet")) for node in nodes])
        self.assertEqual(1, len(set(numbers)))

    async def test_only_so_many_are_remembered(self) -> None:
        self.owners = self.make(size=2)
        for name in ("a", "b"):
            await self.get(name)
        self.owners.known(SERVER, ACCOUNT, "a")
        await self.get("c")
        self.assertEqual(
            [True, False, True], [self.owners.known(SERVER, ACCOUNT, name) is not None for name in ("a", "b", "c")]
        )

    async def test_none_is_remembered_without_a_cache(self) -> None:
        self.owners = self.make(size=0)
        number = await self.get("juliet")
        self.assertIsNone(self.owners.known(SERVER, ACCOUNT, "juliet"))
        self.assertEqual(number, await self.get("juliet"))

    async def test_believed_for_so_long(self) -> None:
        old = await self.get("juliet")
        await self.db.execute("DELETE FROM mam_archive")  # by another node
        self.clock.advance(59)
        self.assertEqual(old, await self.get("juliet"))
        self.clock.advance(1)
        self.assertIsNone(self.owners.known(SERVER, ACCOUNT, "juliet"))
        self.assertGreater(await self.get("juliet"), old)

    async def test_forgotten(self) -> None:
        for name in ("juliet", "nurse"):
            await self.get(name)
        await self.owners.get("montague.example", ACCOUNT, "romeo")
        self.owners.forget(SERVER, ACCOUNT, "juliet")
        self.owners.forget(SERVER, ACCOUNT, "nobody")
        self.assertIsNone(self.owners.known(SERVER, ACCOUNT, "juliet"))
        self.assertIsNotNone(self.owners.known(SERVER, ACCOUNT, "nurse"))
        self.owners.forget_domain(SERVER)
        self.assertIsNone(self.owners.known(SERVER, ACCOUNT, "nurse"))
        self.assertIsNotNone(self.owners.known("montague.example", ACCOUNT, "romeo"))

    async def test_what_is_being_read_while_it_is_forgotten_is_read_again(self) -> None:
        old = await self.get("juliet")
        self.owners.forget(SERVER, ACCOUNT, "juliet")
        gate = self.database.gate = Deferred()
        read = self.database.read = Deferred()
        asked = Deferred.fromCoroutine(self.get("juliet"))
        await read
        await self.db.execute("DELETE FROM mam_archive")
        self.owners.forget(SERVER, ACCOUNT, "juliet")
        gate.callback(None)
        self.assertGreater(await asked, old)

    async def test_a_database_that_is_away_is_told_to_all_who_ask(self) -> None:
        self.database.problem = Unavailable("away")
        for _ in range(3):
            asked = Deferred.fromCoroutine(self.get("juliet"))
            await self.assertFailure(asked, Unavailable)
        self.assertEqual(3, self.database.queries)
        self.database.problem = None
        self.assertIsNotNone(await self.get("juliet"))
