"""The option `host` as one full name: one service for the users of all domains, and below none of them."""

from typing import Any, ClassVar

from dynxmpp.core.interfaces import RoomAdmin
from dynxmpp.module import JID
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_MUC_LIGHT
from dynxmpp.protocol.disco_info import NS_DISCO_ITEMS
from tests.muclight.support import ANN, BEN
from tests.muclight.test_removal import RemovalTestCase

SERVICE = "rooms.example.net"
DEN, HALL = f"den@{SERVICE}", f"hall@{SERVICE}"
EVE = "eve@other.example"


class FixedName(RemovalTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(host=SERVICE)
    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive(host=SERVICE))
    modules: ClassVar[tuple[Any, ...]] = (Disco,)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.eve = self.online(f"{EVE}/p")
        await self.make(ANN, EVE, room=DEN)
        await self.make(EVE, room=HALL)

    async def test_it_is_the_service_of_each_domain(self) -> None:
        for domain in self.domains:
            (item,) = (await self.get(self.ann, domain, NS_DISCO_ITEMS)).query.elements()
            self.assertEqual({"jid": SERVICE, "node": NS_MUC_LIGHT}, item.attributes)
        for session, expected in ((self.ann, [DEN]), (self.eve, [DEN, HALL])):
            items = (await self.get(session, SERVICE, NS_DISCO_ITEMS)).query.elements()
            self.assertEqual(expected, [item["jid"] for item in items if item.name == "item"])

    async def test_its_rooms_are_listed_for_each_domain(self) -> None:
        """Those that administer a domain have the addresses of its rooms, and so must find them."""
        admin = self.host.host_types[0].find(RoomAdmin)
        assert admin is not None
        for domain in self.domains:
            self.assertEqual([JID.parse(DEN), JID.parse(HALL)], await admin.list_rooms(domain, None, 10))
            self.assertEqual([JID.parse(HALL)], await admin.list_rooms(domain, "den", 10))
            self.assertEqual(JID.parse(HALL), admin.address(domain, "hall"))

    async def test_rooms_are_archived(self) -> None:
        reply = await self.set(self.ann, DEN, "urn:xmpp:mam:2")
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual(2, len(self.ann.received), "the creation and a message")

    async def test_a_domain_goes_and_the_service_stays(self) -> None:
        self.assertEqual({}, await self.remove_domain("other.example"))
        self.assertEqual({ANN: "owner"}, await self.members(DEN))
        self.assertEqual({}, await self.members(HALL))
        self.assertEqual({DEN}, await self.archives())
        self.assertEqual("result", (await self.affiliate(self.ann, (BEN, "member"), room=DEN))["type"])
