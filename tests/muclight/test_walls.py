"""Rooms and users of domains that nothing comes into from elsewhere: they stay apart in what is stored too."""

from typing import Any, ClassVar

from dynxmpp.core.host_type import HostType
from dynxmpp.modules.isolation import DomainIsolation
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.roster import Roster
from dynxmpp.wire.ns import NS_ROSTER
from tests.muclight.support import ANN, BEN, LOBBY, RoomTestCase, refusal

EVE = "eve@other.example"
FAY = "fay@open.example"


class Walled(RoomTestCase):
    """example.org and other.example are isolated; open.example is of another host type, and is not."""

    migrations = (*RoomTestCase.migrations, *Roster.migrations)
    modules: ClassVar[tuple[Any, ...]] = (DomainIsolation, Roster)
    config: ClassVar[MucLightConfig] = MucLightConfig(rooms_in_rosters=True, rooms_per_user=1)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.open: HostType = self.host.add_host_type("open", [], ["open.example"])
        self.eve, self.fay = self.online(f"{EVE}/p"), self.online(f"{FAY}/p")

    async def test_who_is_out_of_reach_is_not_added(self) -> None:
        reply = await self.create(self.ann, BEN, EVE, FAY)
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual({ANN: "owner", BEN: "member", FAY: "member"}, await self.members())
        reply = await self.affiliate(self.ann, (EVE, "member"))
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertNotIn(EVE, await self.members())
        # What is meaningless is so for those whom no wall parts too.
        reply = await self.affiliate(self.ann, (EVE, "none"))
        self.assertEqual(("modify", "bad-request", "Meaningless change"), refusal(reply))
        await self.settle()
        self.assertFalse(self.eve.received)
        self.assertTrue(self.fay.received)

    async def test_nobody_is_counted_for_rooms_that_are_out_of_reach(self) -> None:
        await self.create(self.ann, EVE)
        reply = await self.create(self.eve, room="attic@muclight.other.example")
        self.assertEqual("result", reply["type"], reply.toXml())

    async def test_rosters_show_none_of_before_the_wall(self) -> None:
        await self.room(BEN)
        await self.db.execute(
            "INSERT INTO muc_light_occupants (room, server, username, affiliation)"
            " SELECT id, 'other.example', 'eve', 2 FROM muc_light_rooms"
        )
        rosters = {}
        for session in (self.ben, self.eve):
            reply = await session.asks(f"<iq type='get' id='r'><query xmlns='{NS_ROSTER}'/></iq>")
            rosters[session.jid.bare] = [item["jid"] for item in reply.query.elements()]
        self.assertEqual({BEN: [LOBBY], EVE: []}, rosters)
