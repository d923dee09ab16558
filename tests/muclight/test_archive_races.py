"""What comes into the archive of a room while the room goes, and after it: nothing of an old room is in a new one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar
from unittest.mock import patch

from twisted.internet.defer import Deferred

from dynxmpp.module import JID, CommitTicket, Transaction
from dynxmpp.modules.mam import Mam, removal
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.mam.schema import ROOM
from dynxmpp.modules.muc_light.names import NS_DESTROY
from tests.fixtures.dialogue import Host
from tests.fixtures.postgres import shared_server
from tests.muclight.archives import ArchiveTestCase
from tests.muclight.support import ARCHIVE, BEN, CAT, DOMAIN, LOBBY
from tests.muclight.test_two_nodes import TwoNodes

ATTIC = f"attic@muclight.{DOMAIN}"


def archives_of(host: Host) -> Mam:
    module = host.host_types[0].modules["mod_mam_meta"]
    assert isinstance(module, Mam)
    return module


class OneNode(ArchiveTestCase):
    async def test_a_message_whose_archive_is_not_known_before_the_room_is_gone(self) -> None:
        await self.room()
        owners = archives_of(self.host).owners
        get, may_go_on = owners.get, Deferred[None]()

        async def slow(server: str, kind: int, name: str) -> int:
            await may_go_on
            return await get(server, kind, name)

        owners.forget(DOMAIN, ROOM, LOBBY)
        with patch.object(owners, "get", slow):
            self.says(self.ben, "<body>of old</body>")
            await self.ben.receives("message")
            self.assertEqual("result", (await self.set(self.ann, LOBBY, NS_DESTROY))["type"])
            may_go_on.callback(None)
            await self.settle()
        await self.room()
        self.assertEqual([], await self.kept(self.ann))
        await self.said(self.ben, "<body>of new</body>")
        self.assertEqual(["of new"], [str(message.body) for message in await self.kept(self.ann)])

    async def test_a_message_for_an_archive_that_goes_while_others_are_removed(self) -> None:
        await self.room()
        await self.room(room=ATTIC)
        archives = archives_of(self.host)
        query, numbers = self.db.query, []
        lobby, attic = [await archives.owners.get(DOMAIN, ROOM, name) for name in (LOBBY, ATTIC)]

        async def watched(sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            if sql == removal._NAMELESS:
                numbers.append(lobby)
                if len(numbers) == 2:
                    archives.store.write(attic, 1, None, b"<message/>", CommitTicket(), source=ATTIC)
                    await archives.removal.release(DOMAIN, ROOM, ATTIC, self.db)
            return await query(sql, params)

        await archives.removal.release(DOMAIN, ROOM, LOBBY, self.db)
        with patch.object(self.db, "query", watched):
            await archives.removal.remove_nameless(DOMAIN)
        await archives.store.flush()
        self.assertEqual(3, len(numbers), "the lobby's, the attic's, and no more")
        self.assertEqual([(0,)], await self.db.query("SELECT count(*) FROM mam_message"))


class OtherNode(TwoNodes):
    """There is ben, at a room that is destroyed and made anew here."""

    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def make_anew(self) -> None:
        self.assertEqual("result", (await self.set(self.ann, LOBBY, NS_DESTROY))["type"])
        self.assertEqual("result", (await self.create(self.ann, BEN, CAT))["type"])

    async def assert_archived(self, messages: int) -> None:
        """What is said there can be read here; so many messages in all."""
        self.other.sends(f"<message type='groupchat' id='m1' to='{LOBBY}'><body>hi</body></message>")
        await self.there.host.settle()
        await archives_of(self.there.host).store.flush()
        sql = "SELECT count(*) FROM mam_message JOIN mam_archive ON archive = mam_archive.id WHERE name = %s"
        self.assertEqual([(messages,)], await self.db.query(sql, (LOBBY,)))

    async def test_the_number_is_asked_for_before_the_archive_has_gone(self) -> None:
        finish = self.here.rooms.store.finish_removal

        async def slow(server: str, jid: JID, elsewhere: Callable[[Transaction], Awaitable[None]]) -> bool:
            self.assertEqual("", await self.there.hears())
            await archives_of(self.there.host).owners.get(DOMAIN, ROOM, LOBBY)
            return await finish(server, jid, elsewhere)

        with patch.object(self.here.rooms.store, "finish_removal", slow):
            await self.make_anew()
        await self.assert_told(self.there)
        await self.assert_archived(2)

    async def test_nobody_is_told(self) -> None:
        """The room has gone and come back elsewhere while the connection was lost on which that is said."""
        lost = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s"
        await archives_of(self.there.host).owners.get(DOMAIN, ROOM, LOBBY)
        admin = shared_server().admin
        # Neither node has a chance to come back before all this is over.
        self.assertEqual([(True,)] * 2, admin(lost, (self.settings.database, "LISTEN%")))
        name = self.settings.database
        admin("UPDATE mam_archive SET kind = 2, name = id::text", database=name)
        admin("INSERT INTO mam_archive (server, kind, name) VALUES (%s, %s, %s)", (DOMAIN, ROOM, LOBBY), database=name)
        admin("UPDATE muc_light_rooms SET version = 'missed'", database=name)
        await self.there.reconnected.get()
        await self.assert_archived(1)
