"""Rooms in the rosters of their members (section 13), for clients that know of nothing else."""

from collections.abc import Sequence

from twisted.words.xish import domish

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.names import NS_MUC_LIGHT
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.modules.muc_light.store import RoomStore
from dynxmpp.modules.muc_light.walls import Walls
from dynxmpp.wire.ns import NS_ROSTER


class Rostered:
    """Provides core.interfaces.RosterRooms."""

    def __init__(self, store: RoomStore, walls: Walls, schema: RoomSchema) -> None:
        self._store = store
        self._walls = walls
        self._schema = schema

    async def rostered(self, account: JID) -> Sequence[domish.Element]:
        items = []
        for room, version, config in await self._store.described_rooms_of(account.to_bare()):
            if self._walls.separate(room, account):
                continue
            item = domish.Element((NS_ROSTER, "item"))
            item["jid"], item["name"], item["subscription"] = room.full, self._schema.room_name(config, room), "to"
            item.addElement("group", content=NS_MUC_LIGHT)
            item.addElement("version", content=version)
            items.append(item)
        return items
