"""What archives hand out to the owner of an account: section by section of what is kept."""

from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from dynxmpp.commit import CommitTicket
from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.jid import JID
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam import personal_data as pages
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.mam.schema import ACCOUNT, ROOM
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.dialogue import Host, parse
from tests.mam.support import ArchiveTestCase

ROMEO = JID.parse("romeo@montague.example")
COVEN, HEATH = (JID.parse(f"{room}@muclight.verona.example") for room in ("coven", "heath"))

_FILL = """
INSERT INTO mam_message (archive, id, remote, outgoing, groupchat, source, stanza)
SELECT %s, n, %s, false, false, 'source', repeat('x', %s) FROM generate_series(%s, %s) AS n
"""


class PersonalData(ArchiveTestCase):
    """Romeo talks to Juliet, and in rooms of a host type that has archives of rooms only."""

    config: ClassVar[MamConfig] = MamConfig(pm=PmArchive(user_prefs_store="rdbms"))

    async def setUp(self) -> None:
        await super().setUp()
        config = MamConfig(muc=MucArchive(host="muclight.@HOST@"))
        service = Host([(Mam, config)], database=self.db, domains=["verona.example"], clock=self.host.clock)
        await service.start()
        service.domains.register_subdomain("basic", service.host_types[0], "muclight.@HOST@")
        self.room_mam: Any = service.host_types[0].modules["mod_mam_meta"]
        self.addCleanup(self.room_mam.stop)
        self.rooms: Any = service.host_types[0].require(RoomArchive)

    async def export(self, account: JID = ROMEO, mam: Any = None) -> dict[str, list[dict[str, Any]]]:
        tables: dict[str, list[dict[str, Any]]] = {}
        for table in await (mam or self.mam).personal_data(account):
            rows = tables.setdefault(table.name, [])
            async for page in table.pages:
                rows += [dict(zip(table.columns, row, strict=True)) for row in page]
        return tables

    async def says(self, room: JID, author: str, text: str) -> str:
        """A message that a room has archived; gives its id."""
        await self.rooms.load(room, "verona.example")
        stanza = parse(f"<message from='{room.bare}/{author}' type='groupchat'><body>{text}</body></message>")
        id_: str = self.rooms.store(room, JID.parse(f"{author}/phone"), stanza, CommitTicket())
        await self.room_mam.store.flush()
        return id_

    async def test_the_own_archive(self) -> None:
        self.romeo.sends(
            "<message to='juliet@capulet.example/balcony' type='chat'><body>one &amp; more</body></message>"
        )
        await self.juliet.receives("message")
        self.juliet.sends("<message to='romeo@montague.example/orchard' type='chat'><body>two</body></message>")
        received = await self.romeo.receives("message")
        # Asked at once: what has been delivered is there.
        rows = (await self.export())["archive"]
        self.assertEqual([("id", "from", "message")] * 2, [tuple(row) for row in rows])
        self.assertEqual([self.romeo.jid.full, self.juliet.jid.full], [row["from"] for row in rows])
        self.assertEqual(next(received.elements("urn:xmpp:sid:0", "stanza-id"))["id"], rows[1]["id"])
        self.assertEqual("one & more", str(parse(rows[0]["message"]).copy_tree().body))
        self.assertEqual([to_text(row.id) for row in await self.archived(ROMEO.bare)], [row["id"] for row in rows])
        self.assertEqual([row.stanza for row in await self.archived(ROMEO.bare)], [row["message"] for row in rows])

    async def test_preferences(self) -> None:
        reply = await self.romeo.asks(
            "<iq type='set' id='1'><prefs xmlns='urn:xmpp:mam:2' default='roster'>"
            "<always><jid>juliet@capulet.example</jid></always><never><jid>tybalt@capulet.example/x</jid></never>"
            "</prefs></iq>"
        )
        self.assertEqual("result", reply["type"], reply.toXml())
        rows = (await self.export())["preferences"]
        self.assertEqual(
            [
                {"jid": None, "behaviour": "roster"},
                {"jid": "juliet@capulet.example", "behaviour": "always"},
                {"jid": "tybalt@capulet.example/x", "behaviour": "never"},
            ],
            rows,
        )

    async def test_what_was_written_in_rooms(self) -> None:
        ids = [
            await self.says(COVEN, ROMEO.bare, "one"),
            await self.says(HEATH, ROMEO.bare, "two"),
            await self.says(COVEN, ROMEO.bare, "three"),
        ]
        await self.says(COVEN, "hag@verona.example", "of somebody else")
        await self.says(COVEN, "romeo@verona.example", "of one whose name is the same")
        expected = [(ids[0], COVEN.bare, "one"), (ids[2], COVEN.bare, "three"), (ids[1], HEATH.bare, "two")]
        for mam in (self.mam, self.room_mam):  # any host type with this database knows them
            rows = (await self.export(mam=mam))["room messages"]
            self.assertEqual([("id", "room", "message")] * 3, [tuple(row) for row in rows])
            told = [(row["id"], row["room"], str(parse(row["message"]).copy_tree().body)) for row in rows]
            self.assertEqual(expected, told)

    async def test_what_a_room_has_only_been_given_is_there(self) -> None:
        await self.rooms.load(COVEN, "verona.example")
        stanza = parse(f"<message from='{COVEN.bare}/{ROMEO.bare}' type='groupchat'><body>x</body></message>")
        self.rooms.store(COVEN, self.romeo.jid, stanza, CommitTicket())
        self.assertEqual(1, len((await self.export(mam=self.room_mam))["room messages"]))

    async def test_nobody_gets_what_is_of_others(self) -> None:
        self.romeo.sends("<message to='juliet@capulet.example/balcony' type='chat'><body>one</body></message>")
        await self.juliet.receives("message")
        await self.says(COVEN, ROMEO.bare, "one")
        for name in ("romeo@capulet.example", "benvolio@montague.example"):
            self.assertEqual({"room messages": []}, await self.export(JID.parse(name)), name)
        juliet = await self.export(self.juliet.jid.to_bare())
        self.assertEqual([1, 0, 0], [len(juliet[table]) for table in ("archive", "preferences", "room messages")])

    async def test_an_archive_whose_owner_is_gone(self) -> None:
        self.romeo.sends("<message to='juliet@capulet.example/balcony' type='chat'><body>one</body></message>")
        await self.juliet.receives("message")
        await self.settle()
        await self.mam.remove_account(ROMEO)
        self.assertEqual({"room messages": []}, await self.export())

    async def test_a_database_that_is_away(self) -> None:
        self.romeo.sends("<message to='juliet@capulet.example/balcony' type='chat'><body>one</body></message>")
        await self.juliet.receives("message")
        await self.settle()
        await self.db.stop(grace_s=0)
        await self.assertFailure(Deferred.fromCoroutine(self.mam.personal_data(ROMEO)), Unavailable)

    # -- pages

    async def fill(self, kind: int, server: str, name: str, first: int, last: int, size: int = 1) -> int:
        """Messages with these ids; those of rooms are of Romeo."""
        number = await self.mam.owners.get(server, kind, name)
        await self.db.execute(_FILL, (number, ROMEO.bare if kind == ROOM else "x", size, first, last))
        return number

    async def page_sizes(self, table_name: str) -> list[int]:
        (table,) = [table for table in await self.mam.personal_data(ROMEO) if table.name == table_name]
        return [len(page) async for page in table.pages]

    async def test_a_long_archive_comes_in_pages(self) -> None:
        await self.fill(ACCOUNT, ROMEO.domain, "romeo", 1, 1100)
        rows = (await self.export())["archive"]
        self.assertEqual([to_text(number) for number in range(1, 1101)], [row["id"] for row in rows])
        self.assertEqual([500, 500, 100], await self.page_sizes("archive"))

    async def test_pages_of_large_messages_are_short(self) -> None:
        await self.fill(ACCOUNT, ROMEO.domain, "romeo", 1, 4, pages.PAGE_BYTES // 2)
        await self.fill(ACCOUNT, ROMEO.domain, "romeo", 5, 6, pages.PAGE_BYTES + 1)
        await self.fill(ACCOUNT, ROMEO.domain, "romeo", 7, 7)
        rows = (await self.export())["archive"]
        self.assertEqual([to_text(number) for number in range(1, 8)], [row["id"] for row in rows])
        self.assertEqual([2, 2, 1, 1, 1], await self.page_sizes("archive"))

    async def test_many_rooms_and_much_in_one(self) -> None:
        self.patch(pages, "_ROOMS", pages._ROOMS.replace(f"LIMIT {pages.PAGE_ROOMS}", "LIMIT 2"))
        spoken = {1: (1, 3), 2: (1, 501), 5: (2, 2), 6: (1, 1)}
        for room in range(1, 7):
            first, last = spoken.get(room, (1, 0))
            number = await self.fill(ROOM, "verona.example", f"r{room}@muclight.verona.example", first, last)
            await self.db.execute(_FILL, (number, "hag@verona.example", 1, 1000, 1001))
        rows = (await self.export())["room messages"]
        expected = [
            (to_text(number), f"r{room}@muclight.verona.example")
            for room, (first, last) in spoken.items()
            for number in range(first, last + 1)
        ]
        self.assertEqual(expected, [(row["id"], row["room"]) for row in rows])
        self.assertEqual([3, 500, 1, 1, 1], await self.page_sizes("room messages"))
