"""What a user may have of what is kept of him: his memberships and his blocking list."""

from typing import Any

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.names import NS_BLOCKING
from tests.muclight.support import ANN, BEN, LOBBY, SERVICE, RoomTestCase

ATTIC = f"attic@{SERVICE}"


class PersonalData(RoomTestCase):
    async def data(self, user: str) -> dict[str, list[Any]]:
        tables = await self.rooms.personal_data(JID.parse(user))
        return {table.name: [row async for page in table.pages for row in page] for table in tables}

    async def test_rooms_and_blocking_list(self) -> None:
        await self.room(BEN)
        await self.create(self.ben, ANN, room=ATTIC)
        await self.set(self.ben, SERVICE, NS_BLOCKING, f"<user action='deny'>{ANN}</user>")
        found = await self.data(BEN)
        self.assertEqual([(LOBBY, "member"), (ATTIC, "owner")], found["rooms"])
        self.assertEqual([(2, ANN)], found["muc_light_blocking"])

    async def test_of_who_is_nowhere(self) -> None:
        await self.room(BEN)
        self.assertEqual({"rooms": [], "muc_light_blocking": []}, await self.data("eve@example.org"))
