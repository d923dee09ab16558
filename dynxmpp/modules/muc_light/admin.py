"""The administration of rooms (core.interfaces.RoomAdmin; section 21)."""

from collections.abc import Collection, Mapping, Sequence
from secrets import token_hex

from twisted.internet.defer import Deferred

from dynxmpp.config.checks import HOST_PLACEHOLDER
from dynxmpp.core.interfaces import RoomDescription
from dynxmpp.module import JID, CommitTicket, RoutingContext, Stanza, StanzaError, Unavailable, qualified
from dynxmpp.modules.muc_light.changes import RoomChanges
from dynxmpp.modules.muc_light.requests import MAX_CHANGES, Create
from dynxmpp.modules.muc_light.room import Affiliation, Room
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.modules.muc_light.rooms import Rooms
from dynxmpp.modules.muc_light.sending import Sending
from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_CLIENT

_AFFILIATIONS = {affiliation.text: affiliation for affiliation in Affiliation}
_TWICE = "Cannot change affiliation for the same user twice in the same request"


class Administration:
    """For the rooms of a host type."""

    def __init__(self, pattern: str, rooms: Rooms, changes: RoomChanges, sending: Sending, schema: RoomSchema) -> None:
        """`pattern` is the template of the service's name."""
        self._pattern = pattern
        self._rooms = rooms
        self._changes = changes
        self._sending = sending
        self._schema = schema

    def address(self, domain: str, name: str) -> JID:
        return JID.of(name, self._pattern.replace(HOST_PLACEHOLDER, domain))

    async def list_rooms(self, domain: str, after: str | None, limit: int) -> Sequence[JID]:
        service = self.address(domain, "service").to_domain()
        # A service with one full name is below no domain.
        return await self._rooms.store.list_rooms(self._rooms.server_of(service), service.domain, after, limit)

    async def count_rooms(self, domain: str) -> int:
        return await self._rooms.store.count_rooms(domain)

    async def describe(self, room: JID) -> RoomDescription:
        return self._described(await self._room(room))

    def _described(self, room: Room) -> RoomDescription:
        members = {member: affiliation.text for member, affiliation in room.members.items()}
        return RoomDescription(room.jid, room.version, members, self._schema.values(room.config))

    async def _room(self, jid: JID) -> Room:
        room = await self._rooms.get(jid)
        if room is None:
            raise StanzaError("item-not-found")
        return room

    async def create(
        self, domain: str, name: str | None, owner: JID, members: Collection[JID], config: Mapping[str, object]
    ) -> RoomDescription:
        occupants = dict.fromkeys(members, Affiliation.MEMBER)
        if len(members) > MAX_CHANGES:
            raise StanzaError("bad-request", text=f"More than {MAX_CHANGES} entries")
        if len(occupants) < len(members):
            raise StanzaError("bad-request", text=_TWICE)
        wanted = Create(self._fields(config), occupants)
        service = self.address(domain, "service").to_domain()
        jid = self._changes.new_address(service) if name is None else self.address(domain, name)
        ticket = CommitTicket()
        room = await self._changes.create(owner, jid, wanted, token_hex(8), ticket)
        await _committed(ticket)
        return self._described(room)

    def _fields(self, config: Mapping[str, object]) -> dict[str, str]:
        try:
            return self._schema.read_values(config)
        except ValueError as problem:
            raise StanzaError("bad-request", text=str(problem)) from None

    async def configure(self, room: JID, config: Mapping[str, object]) -> None:
        ticket = CommitTicket()
        await self._changes.configure(room, None, self._fields(config), token_hex(8), ticket)
        await _committed(ticket)

    async def affiliate(self, room: JID, wanted: Mapping[JID, str], *, by: JID | None = None) -> None:
        changes = {user: _AFFILIATIONS[affiliation] for user, affiliation in wanted.items()}
        ticket = CommitTicket()
        await self._changes.affiliate(room, by, changes, token_hex(8), ticket)
        await _committed(ticket)

    async def send(self, room: JID, sender: JID, body: str) -> None:
        content = f"<body>{escape.text(body)}</body>".encode()
        stanza = Stanza("message", {"type": "groupchat"}, content, (qualified(NS_CLIENT, "body"),))
        context = RoutingContext(sender, room)
        self._sending.message(await self._room(room), stanza, context)
        await _committed(context.open_ticket())

    async def destroy(self, room: JID) -> None:
        ticket = CommitTicket()
        await self._changes.destroy(room, None, token_hex(8), ticket)
        await _committed(ticket)


async def _committed(ticket: CommitTicket) -> None:
    """Returns when all that a call has written is durable. Raises Unavailable when it never will be."""
    settled: Deferred[None] = Deferred()
    ticket.when_settled(lambda _: settled.callback(None))
    await settled
    if ticket.failed:
        raise Unavailable("the archive of the room could not be written")
