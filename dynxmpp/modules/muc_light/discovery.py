"""What the service and its rooms say of themselves (section 4; XEP-0030 2.5.0), and who is in which rooms."""

from twisted.words.xish import domish

from dynxmpp.module import IQ, JID, Answer, Stanza, StanzaError, Unavailable, qualified
from dynxmpp.modules.muc_light.names import NS_MUC_LIGHT
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.modules.muc_light.rooms import Rooms
from dynxmpp.protocol.disco_info import NS_DISCO_INFO, NS_DISCO_ITEMS, DiscoInfo, Identity
from dynxmpp.protocol.rsm import FIRST_PAGE, NS_RSM, InvalidSet, PageRequest, page_element, page_request
from dynxmpp.wire import escape

IDENTITY = Identity("conference", "text", name="MUC Light")


class Discovery:
    """Answers for the services of a host type and their rooms; `features` are those besides its own."""

    def __init__(self, rooms: Rooms, schema: RoomSchema, rooms_per_page: float) -> None:
        self._rooms = rooms
        self._schema = schema
        self._page_size = rooms_per_page
        #: Announced besides the features of MUC Light itself.
        self.features: tuple[str, ...] = ()

    def info(self, iq: IQ) -> domish.Element:
        """The same of the service and of any address below it: who is in no room learns of none."""
        features = {NS_MUC_LIGHT, NS_DISCO_INFO, NS_DISCO_ITEMS, *self.features}
        return DiscoInfo((IDENTITY,), tuple(sorted(features))).to_element(_node(iq))

    async def items(self, iq: IQ) -> Answer:
        """The rooms of the service that the asker is in, ordered by address, in pages (XEP-0059)."""
        node = _node(iq)
        attributes = {"node": node} if node else {}
        try:
            request = page_request(iq.payload)
        except InvalidSet:
            raise StanzaError("item-not-found") from None
        try:
            count, first, rooms = await self._some_rooms(iq, request)
        except Unavailable:  # the word of section 15 for it
            raise StanzaError("internal-server-error") from None
        if not count:
            return Stanza("query", attributes, uri=NS_DISCO_ITEMS)
        items = [self._item(*room) for room in rooms]
        ends = (rooms[0][0].full, rooms[-1][0].full, first) if rooms else (None, None, None)
        # Who has sent a <set/>, though an empty one, gets one back.
        is_whole = self._page_size == float("inf") and request is FIRST_PAGE
        rsm = b"" if is_whole else page_element(first=ends[0], last=ends[1], index=ends[2], count=count)
        keys = (*(() if is_whole else (qualified(NS_RSM, "set"),)), *(qualified(NS_DISCO_ITEMS, "item"),) * len(items))
        return Stanza("query", attributes, rsm + "".join(items).encode(), keys, NS_DISCO_ITEMS)

    async def _some_rooms(self, iq: IQ, request: PageRequest) -> tuple[int, int, list[tuple[JID, str, dict[str, str]]]]:
        """How many rooms there are, the place of the first on the page, those on it. Raises StanzaError, Unavailable.

        A room that goes while they are looked up is not on the page.
        """
        store, service = self._rooms.store, iq.recipient.domain
        server = self._rooms.server_of(iq.recipient)
        rooms = await store.rooms_of(server, service, iq.sender.to_bare())
        if not rooms:
            return 0, 0, []
        first, last = self._page(rooms, request)
        page = rooms[first:last]
        described = await store.describe(server, service, page)
        return len(rooms), first, [(room, *described[room]) for room in page if room in described]

    def _page(self, rooms: list[JID], request: PageRequest) -> tuple[int, int]:
        """From where to where. Raises item-not-found for a place that there is not."""
        count = len(rooms)
        size = int(min(self._page_size, count if request.maximum is None else request.maximum))
        if request.before is not None:
            last = _place(rooms, request.before) if request.before else count
            return max(0, last - size), last
        first = 0
        if request.after is not None:
            first = _place(rooms, request.after) + 1
        elif request.index is not None:
            first = request.index
            if first >= count:
                raise StanzaError("item-not-found")
        return first, min(count, first + size)

    def _item(self, room: JID, version: str, config: dict[str, str]) -> str:
        name = escape.attribute(self._schema.room_name(config, room))
        return f"<item jid='{escape.attribute(room.full)}' name='{name}' version='{escape.attribute(version)}'/>"


def _node(iq: IQ) -> str:
    """The node that is asked for: none, or the one under which domains list the service. Raises StanzaError."""
    node = str(iq.payload.getAttribute("node", ""))
    if node and (node != NS_MUC_LIGHT or iq.recipient.local is not None):
        raise StanzaError("item-not-found")
    return node


def _place(rooms: list[JID], address: str) -> int:
    for place, room in enumerate(rooms):
        if room.full == address:
            return place
    raise StanzaError("item-not-found")
