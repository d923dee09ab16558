"""Section 12: rooms that are destroyed, and what comes after them under the same name."""

from typing import Any, cast

from dynxmpp.modules.mam import Mam
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_DESTROY, NS_INFO
from tests.muclight.support import (
    ANN,
    ARCHIVE,
    BEN,
    CAT,
    DAN,
    LOBBY,
    SERVICE,
    RoomTestCase,
    error,
    notice,
    refusal,
    result,
)

NOWHERE = f"nowhere@{SERVICE}"
NS_MAM = "urn:xmpp:mam:2"


def destroyed(user: str, id_: str = "h") -> Any:
    """What a member is told."""
    gone = f"<x xmlns='{NS_AFFILIATIONS}'><user affiliation='none'>{user}</user></x>"
    return notice(user, f"<x xmlns='{NS_DESTROY}'/>{gone}", id_=id_)


class DestructionTestCase(RoomTestCase):
    archive = ARCHIVE

    @property
    def archives(self) -> Mam:
        return cast(Mam, self.host.host_types[0].modules["mod_mam_meta"])

    async def count(self, table: str) -> int:
        ((number,),) = await self.db.query(f"SELECT count(*) FROM {table}")
        return int(number)

    async def refused(self, session: Any, condition: str, room: str = LOBBY) -> None:
        heard = await self.hear(session, NS_DESTROY, to=room)
        self.assertEqual({session.jid.bare: [error(session.jid.bare, condition, sender=room)]}, heard)


class Destruction(DestructionTestCase):
    async def test_each_member_is_told_and_then_it_ends(self) -> None:
        await self.room()
        self.online(f"{BEN}/other")
        heard = await self.hear(self.ann, NS_DESTROY, id_="x1")
        expected = {
            ANN: [destroyed(ANN, "x1"), result(ANN, id_="x1")],
            BEN: [destroyed(BEN, "x1")],
            f"{BEN}/other": [destroyed(BEN, "x1")],
            CAT: [destroyed(CAT, "x1")],
        }
        self.assertEqual(expected, heard)

    async def test_nothing_is_left(self) -> None:
        await self.room(config="<subject>soup</subject>")
        self.ann.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        await self.archives.store.flush()
        self.assertEqual(2, await self.count("mam_message"), "the notice of the creation, and a message")
        await self.hear(self.ann, NS_DESTROY)
        for table in ("muc_light_rooms", "muc_light_occupants", "mam_message", "mam_archive"):
            self.assertEqual(0, await self.count(table), table)

    async def test_only_owners_may(self) -> None:
        await self.room()
        before = await self.version()
        await self.refused(self.ben, "not-allowed")
        await self.refused(self.dan, "item-not-found")
        await self.refused(self.dan, "item-not-found", NOWHERE)
        self.assertEqual(before, await self.version())
        await self.affiliate(self.ann, (BEN, "owner"))
        await self.refused(self.ann, "not-allowed")
        self.assertEqual({ANN, BEN, CAT}, set(await self.hear(self.ben, NS_DESTROY)))

    async def test_a_destroyed_room_is_none_for_anybody(self) -> None:
        await self.room()
        await self.hear(self.ann, NS_DESTROY)
        await self.refused(self.ann, "item-not-found")
        for session in (self.ann, self.ben, self.dan):
            for reply in (
                await self.get(session, LOBBY, NS_INFO),
                await self.configure(session, "<subject>soup</subject>"),
                await self.affiliate(session, (session.jid.bare, "none")),
            ):
                self.assertEqual(("cancel", "item-not-found", None), refusal(reply))
            session.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
            self.assertEqual(("cancel", "item-not-found", None), refusal(await session.receives("message")))
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_what_is_in_the_request_does_not_matter(self) -> None:
        await self.room()
        await self.hear(self.ann, NS_DESTROY, "<x xmlns='urn:x:custom'/>")
        self.assertEqual({}, await self.members())

    async def test_other_rooms_stay(self) -> None:
        other = f"other@{SERVICE}"
        await self.room()
        await self.room(room=other)
        await self.hear(self.ann, NS_DESTROY)
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members(other))

    async def test_requests_at_once(self) -> None:
        """What comes after the end finds nothing."""
        await self.room()
        self.ann.sends(f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_DESTROY}'/></iq>")
        self.ben.sends(
            f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_CONFIGURATION}'><subject>soup</subject></query></iq>"
        )
        await self.settle()
        self.assertEqual([destroyed(BEN), error(BEN, "item-not-found")], self.heard()[BEN])
        self.assertEqual({}, await self.members())


class Again(DestructionTestCase):
    """A room with the name of one that was destroyed, or left by all."""

    async def past(self, session: Any) -> list[str]:
        """What is in the room's archive."""
        reply = await self.set(session, LOBBY, NS_MAM)
        self.assertEqual("result", reply["type"], reply.toXml())
        bodies = [
            str(message.result.forwarded.message.body)
            for message in session.received
            if message.name == "message" and message.result is not None
        ]
        session.received.clear()
        return bodies

    async def begins_anew(self) -> None:
        reply = await self.create(self.dan, BEN)
        self.assertEqual("result", reply["type"], reply.toXml())
        await self.settle()
        self.assertEqual({BEN, DAN}, set(self.heard()))
        self.assertEqual({BEN: "member", DAN: "owner"}, await self.members())
        info = await self.get(self.dan, LOBBY, NS_INFO)
        self.assertEqual("Untitled", str(info.query.configuration.roomname))
        self.assertEqual("", str(info.query.configuration.subject))
        self.assertEqual([""], await self.past(self.dan), "the notice of the creation")
        self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.ann, LOBBY, NS_INFO)))
        self.dan.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>new</body></message>")
        await self.settle()
        self.assertEqual({BEN, DAN}, set(self.heard()))
        self.assertEqual(["", "new"], await self.past(self.ben))

    async def lives(self) -> None:
        await self.room(config="<roomname>Den</roomname><subject>soup</subject>")
        self.cat.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>old</body></message>")
        await self.settle()
        self.forget()
        self.assertEqual(["", "old"], await self.past(self.ann))
        await self.settle()

    async def test_after_a_destruction(self) -> None:
        await self.lives()
        await self.hear(self.ann, NS_DESTROY)
        await self.begins_anew()

    async def test_after_all_have_left(self) -> None:
        await self.lives()
        for session in (self.ann, self.ben, self.cat):
            await self.affiliate(session, (session.jid.bare, "none"))
        await self.settle()
        self.forget()
        await self.begins_anew()

    async def test_old_versions_mean_nothing(self) -> None:
        await self.lives()
        old = await self.version()
        await self.hear(self.ann, NS_DESTROY)
        await self.room()
        reply = await self.get(self.ann, LOBBY, NS_INFO, f"<version>{old}</version>")
        self.assertEqual(await self.version(), str(reply.query.version))

    async def test_at_once(self) -> None:
        """A request for the name may come while the room still goes."""
        await self.lives()
        self.ann.sends(f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_DESTROY}'/></iq>")
        reply = await self.create(self.dan, BEN)
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual({BEN: "member", DAN: "owner"}, await self.members())
        await self.settle()
        self.assertEqual([destroyed(BEN)], self.heard()[BEN][:1])
        self.assertEqual([""], await self.past(self.dan))


class Equals(RoomTestCase):
    config = MucLightConfig(equal_occupants=True)

    async def test_nobody_can_destroy(self) -> None:
        await self.room()
        for session in (self.ann, self.ben):
            heard = await self.hear(session, NS_DESTROY)
            self.assertEqual({session.jid.bare: [error(session.jid.bare, "not-allowed")]}, heard)
        self.assertEqual({ANN: "member", BEN: "member", CAT: "member"}, await self.members())


class SeveralOwners(RoomTestCase):
    config = MucLightConfig(allow_multiple_owners=True)

    async def test_each_of_them_can_destroy(self) -> None:
        await self.room()
        await self.affiliate(self.ann, (BEN, "owner"))
        heard = await self.hear(self.ben, NS_DESTROY)
        self.assertEqual({ANN: [destroyed(ANN)], BEN: [destroyed(BEN), result(BEN)], CAT: [destroyed(CAT)]}, heard)
