"""Section 13: rooms in the rosters of their members, and what clients may do with them there."""

from typing import Any, ClassVar

from twisted.words.xish import domish

from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_DESTROY, NS_MUC_LIGHT
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.roster import Roster, RosterConfig
from tests.fixtures.dialogue import canonical
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, RoomTestCase, refusal, seen

NS_ROSTER = "jabber:iq:roster"
NS_DISCO_INFO = "http://jabber.org/protocol/disco#info"
ATTIC = f"attic@{SERVICE}"


def item(jid: str, name: str, version: str) -> Any:
    inner = f"<group>{NS_MUC_LIGHT}</group><version>{version}</version>"
    return seen(f"<item xmlns='{NS_ROSTER}' jid='{jid}' name='{name}' subscription='to'>{inner}</item>")


class RosterTestCase(RoomTestCase):
    migrations = (*Roster.migrations, *Mam.migrations, *MucLight.migrations)
    config = MucLightConfig(rooms_in_rosters=True)
    modules: ClassVar[tuple[Any, ...]] = (Presence, Roster, Disco)

    async def answer(self, session: Any, version: str | None = None) -> domish.Element:
        ver = "" if version is None else f" ver='{version}'"
        return await session.asks(
            f"<iq type='get' id='r' to='{session.jid.bare}'><query xmlns='{NS_ROSTER}'{ver}/></iq>"
        )

    async def items(self, session: Any) -> list[Any]:
        """What is in the roster of a session's account."""
        reply = await self.answer(session)
        self.assertEqual("result", reply["type"], reply.toXml())
        return [canonical(element, NS_ROSTER) for element in reply.query.elements()]

    async def rosters(self, session: Any, item: str) -> domish.Element:
        """The answer to a change of the roster."""
        return await session.asks(f"<iq type='set' id='r'><query xmlns='{NS_ROSTER}'>{item}</query></iq>")


class Items(RosterTestCase):
    async def test_an_item_for_each_room(self) -> None:
        """The oldest room comes first."""
        await self.room(config="<roomname>The &lt;Lobby&gt;</roomname>")
        await self.room(BEN, room=ATTIC)
        lobby = item(LOBBY, "The &lt;Lobby&gt;", await self.version())
        attic = item(ATTIC, "Untitled", await self.version(ATTIC))
        self.assertEqual([lobby, attic], await self.items(self.ann))
        self.assertEqual([lobby, attic], await self.items(self.ben))
        self.assertEqual([lobby], await self.items(self.cat))
        self.assertEqual([], await self.items(self.dan))

    async def test_contacts_come_first(self) -> None:
        await self.room()
        await self.rosters(self.ann, f"<item jid='{DAN}' name='Dan'/>")
        contact = seen(f"<item xmlns='{NS_ROSTER}' jid='{DAN}' name='Dan' subscription='none'/>")
        self.assertEqual([contact, item(LOBBY, "Untitled", await self.version())], await self.items(self.ann))

    async def test_rooms_of_all_services(self) -> None:
        hall = "hall@muclight.other.example"
        zoe = self.online("zoe@other.example/p")
        await self.room()
        self.assertEqual("result", (await self.create(zoe, ANN, room=hall))["type"])
        self.assertEqual([LOBBY, hall], [dict(attributes)["jid"] for _, _, attributes, _ in await self.items(self.ann)])

    async def test_it_is_as_the_room_is_now(self) -> None:
        await self.room()
        await self.configure(self.ann, "<roomname>Den</roomname>")
        self.assertEqual([item(LOBBY, "Den", await self.version())], await self.items(self.ben))
        await self.affiliate(self.ann, (CAT, "none"))
        self.assertEqual([item(LOBBY, "Den", await self.version())], await self.items(self.ben))
        self.assertEqual([], await self.items(self.cat))
        await self.set(self.ann, LOBBY, NS_DESTROY)
        self.assertEqual([], await self.items(self.ben))

    async def test_nothing_is_pushed(self) -> None:
        await self.room()
        for session in (self.ann, self.ben, self.cat):
            await self.items(session)
        self.forget()
        await self.configure(self.ann, "<roomname>Den</roomname>")
        await self.affiliate(self.ann, (CAT, "none"), (DAN, "member"))
        await self.set(self.ann, LOBBY, NS_DESTROY)
        await self.settle()
        for session in (self.ann, self.ben, self.cat, self.dan):
            self.assertEqual({"message"}, {element.name for element in session.received})


class WithoutName(RosterTestCase):
    config = MucLightConfig(rooms_in_rosters=True, config_schema=(RoomField(field="subject", string_value=""),))

    async def test_the_localpart_is_the_name(self) -> None:
        await self.room()
        self.assertEqual([item(LOBBY, "lobby", await self.version())], await self.items(self.ann))


class SwitchedOff(RosterTestCase):
    config = MucLightConfig()

    async def test_there_are_no_rooms(self) -> None:
        await self.room()
        self.assertEqual([], await self.items(self.ann))


class Versioned(RosterTestCase):
    modules = (Presence, (Roster, RosterConfig(versioning=True)), Disco)

    async def test_all_of_it_is_sent_each_time(self) -> None:
        """Versions know nothing of rooms: a client with the newest one may have old rooms, or lack new ones."""
        await self.rosters(self.ann, f"<item jid='{DAN}'/>")
        await self.room()
        first = await self.answer(self.ann)
        await self.configure(self.ann, "<roomname>Den</roomname>")
        self.forget()
        again = await self.answer(self.ann, first.query["ver"])
        self.assertEqual(first.query["ver"], again.query["ver"])
        contact = seen(f"<item xmlns='{NS_ROSTER}' jid='{DAN}' subscription='none'/>")
        room = item(LOBBY, "Den", await self.version())
        self.assertEqual([contact, room], [canonical(e, NS_ROSTER) for e in again.query.elements()])
        await self.host.silence(self.ann)

    async def test_an_empty_version_too(self) -> None:
        await self.room()
        self.assertEqual(1, len(list((await self.answer(self.ann, "")).query.elements())))


class Contacts(RosterTestCase):
    """Clients take the items for contacts."""

    async def test_presence(self) -> None:
        await self.room()
        for session in (self.ann, self.ben):
            await self.items(session)
            for presence in (
                "<presence/>",
                "<presence><show>away</show></presence>",
                f"<presence to='{LOBBY}'/>",
                f"<presence to='{LOBBY}/nick'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
                f"<presence type='probe' to='{LOBBY}'/>",
                f"<presence type='unavailable' to='{LOBBY}'/>",
                f"<presence type='subscribed' to='{LOBBY}'/>",
                f"<presence type='unsubscribe' to='{LOBBY}'/>",
                f"<presence type='unsubscribed' to='{LOBBY}'/>",
                "<presence type='unavailable'/>",
                "<presence/>",
            ):
                session.sends(presence)
        await self.settle()
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual([], [e.toXml() for e in session.received if e["from"] != session.jid.full])
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members())

    async def test_a_subscription_is_never_answered(self) -> None:
        """The contact stays one that has been asked; what the room is does not change."""
        await self.room()
        await self.items(self.ann)
        self.ann.sends(f"<presence type='subscribe' to='{LOBBY}'/>")
        await self.settle()
        self.assertEqual(["iq"], [element.name for element in self.ann.received], "the push of the own request")
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members())

    async def test_disco(self) -> None:
        await self.room()
        for session in (self.ann, self.dan):
            reply = await self.get(session, LOBBY, NS_DISCO_INFO)
            self.assertEqual("result", reply["type"], reply.toXml())
            self.assertEqual("MUC Light", reply.query.identity["name"])

    async def test_removing_one_is_no_way_to_leave(self) -> None:
        await self.room()
        await self.items(self.ben)
        reply = await self.rosters(self.ben, f"<item jid='{LOBBY}' subscription='remove'/>")
        self.assertEqual(("cancel", "item-not-found", None), refusal(without_request(reply)))
        self.assertEqual("member", (await self.members())[BEN])
        self.assertEqual([item(LOBBY, "Untitled", await self.version())], await self.items(self.ben))
        await self.host.silence(self.ann, self.ben, self.cat)

    async def test_editing_one_does_not_change_the_room(self) -> None:
        await self.room()
        version = await self.version()
        await self.items(self.ben)
        reply = await self.rosters(self.ben, f"<item jid='{LOBBY}' name='Mine'><group>x</group></item>")
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual(version, await self.version())
        self.assertEqual([item(LOBBY, "Untitled", version)], await self.items(self.ben))
        self.assertEqual([item(LOBBY, "Untitled", version)], await self.items(self.ann))
        reply = await self.rosters(self.ben, f"<item jid='{LOBBY}' subscription='remove'/>")
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual([item(LOBBY, "Untitled", version)], await self.items(self.ben))
        await self.host.silence(self.ann, self.cat)
        self.assertEqual(["iq", "iq"], [element.name for element in self.ben.received], "pushes of the own changes")

    async def test_messages_to_one(self) -> None:
        """As to a contact: it is refused, and what a room takes is of another type."""
        await self.room()
        self.ann.sends(f"<message type='chat' id='m' to='{LOBBY}'><body>hi</body></message>")
        reply = await self.ann.receives("message")
        self.assertEqual(("modify", "bad-request", "Uncategorized bad request"), refusal(reply))


def without_request(reply: domish.Element) -> domish.Element:
    """An error of an account's, which repeats the request."""
    reply.children = [child for child in reply.elements() if child.name == "error"]
    return reply
