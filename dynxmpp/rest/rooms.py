"""Rooms of MUC Light below the domains that this node serves. What can become of them is for their module to say."""

import re
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import RoomAdmin, RoomDescription
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.jid import JID
from dynxmpp.rest.domains import list_schema, next_of
from dynxmpp.rest.errors import (
    InvalidAddress,
    InvalidRoomName,
    MissingField,
    NoRooms,
    NoSuchMember,
    NoSuchRoom,
    NotAMember,
    RequestError,
    RoomExists,
    RoomForbidden,
    RoomRefused,
    TooManyRooms,
)
from dynxmpp.rest.operation import (
    AFTER,
    LIMIT,
    Call,
    Reply,
    Schema,
    account_address,
    object_schema,
    operation,
    prepared_room,
)
from dynxmpp.rest.room_schemas import (
    ACCOUNT,
    AFFILIATIONS,
    DESCRIPTION,
    FIELDS,
    NAMES,
    NEW_ROOM,
    NOT_NEEDED,
    ROOM_NAME,
    TEXT,
)
from dynxmpp.wire.errors import StanzaError

__all__ = ["RoomsApi"]

#: What a member would be told, and what an administrator is.
_REFUSALS: Final[Mapping[str, type[RequestError]]] = {
    "item-not-found": NoSuchRoom,
    "conflict": RoomExists,
    "not-allowed": RoomForbidden,
    "bad-request": RoomRefused,
    "resource-constraint": TooManyRooms,
}
#: From members of a body to fields.
_FIELD_NAMES: Final = {"name": "roomname", "subject": "subject"}
_is_text: Final = re.compile(TEXT["pattern"]).fullmatch


class RoomsApi:
    """The resources below {path}/muc-lights/{domain}, where the domain is the one that the service is below."""

    def __init__(self, table: DomainTable[HostType]) -> None:
        self._table = table

    def _domain(self, call: Call) -> str:
        """The domain that a path names; the name of the service below it will do, as programs of the field give it."""
        domain = call.domain()
        subdomain = None if domain in self._table else self._table.find_subdomain(domain)
        return domain if subdomain is None or subdomain.parent is None else subdomain.parent

    def _admin(self, domain: str) -> RoomAdmin:
        """Raises DomainNotFound, NoRooms."""
        served = self._table.get(domain)
        if served is None:
            raise DomainNotFound(domain)
        admin = served.host_type.find(RoomAdmin)
        if admin is None:
            raise NoRooms(domain)
        return admin

    def _room(self, call: Call) -> tuple[RoomAdmin, JID]:
        """The room that a path names, and by whom it is administered."""
        domain, name = self._domain(call), call.room()
        admin = self._admin(domain)
        return admin, admin.address(domain, name)

    # -- rooms

    @operation(
        "POST",
        "/muc-lights/{domain}",
        summary="Create a room with a name of the server's making",
        description="The answer is the room as it has become: those who have blocked the owner are not in it.",
        body=object_schema(NEW_ROOM, optional=NOT_NEEDED),
        success=201,
        answer=DESCRIPTION,
        raises=(DomainNotFound, NoRooms, InvalidAddress, RoomRefused, TooManyRooms),
    )
    async def create(self, call: Call) -> Reply:
        return await self._create(call, self._domain(call), None)

    @operation(
        "PUT",
        "/muc-lights/{domain}",
        summary="Create a room with a given name",
        description="`id` is the name: the part of the address before the @. The answer is the room as it has become.",
        body=object_schema({"id": ROOM_NAME, **NEW_ROOM}, optional=NOT_NEEDED),
        success=201,
        answer=DESCRIPTION,
        raises=(DomainNotFound, NoRooms, InvalidRoomName, InvalidAddress, RoomRefused, RoomExists, TooManyRooms),
    )
    async def create_named(self, call: Call) -> Reply:
        return await self._create(call, self._domain(call), prepared_room(call.text("id")))

    async def _create(self, call: Call, domain: str, name: str | None) -> Reply:
        admin = self._admin(domain)
        owner = account_address(call.text("owner"), "owner")
        with _refusals():
            room = await admin.create(domain, name, owner, _members(call), _config(call))
        location = f"{quote(domain)}/{quote(room.jid.local or '', safe='')}"
        return Reply(201, _described(room), {"Location": location})

    @operation(
        "GET",
        "/muc-lights/{domain}",
        summary="List the rooms of a domain by name",
        query=(AFTER, LIMIT),
        success=200,
        answer=list_schema("rooms", object_schema(NAMES)),
        raises=(DomainNotFound, NoRooms),
    )
    async def browse(self, call: Call) -> Reply:
        domain, limit = self._domain(call), call.limit()
        rooms = await self._admin(domain).list_rooms(domain, call.after(), limit + 1)
        names = [room.local or "" for room in rooms]
        listed = [{"id": room.local, "jid": room.full} for room in rooms[:limit]]
        return Reply(200, {"rooms": listed, "next": next_of(names, limit)})

    @operation(
        "GET",
        "/muc-lights/{domain}/{room}",
        summary="Look a room up",
        success=200,
        answer=DESCRIPTION,
        raises=(DomainNotFound, NoRooms, NoSuchRoom),
    )
    async def describe(self, call: Call) -> Reply:
        admin, room = self._room(call)
        with _refusals():
            return Reply(200, _described(await admin.describe(room)))

    @operation(
        "DELETE",
        "/muc-lights/{domain}/{room}",
        summary="Remove a room with its archive",
        description="Its members are told.",
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom),
    )
    async def remove(self, call: Call) -> Reply:
        admin, room = self._room(call)
        with _refusals():
            await admin.destroy(room)
        return Reply(204)

    @operation(
        "DELETE",
        "/muc-lights/{domain}/{room}/management",
        summary="Remove a room with its archive",
        description="The same as without `management`.",
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom),
    )
    async def remove_managed(self, call: Call) -> Reply:
        return await self.remove(call)

    @operation(
        "PATCH",
        "/muc-lights/{domain}/{room}/config",
        summary="Change fields of a room's configuration",
        description="Fields that are not named stay. The members are told.",
        body={**FIELDS, "minProperties": 1},
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom, RoomRefused),
    )
    async def configure(self, call: Call) -> Reply:
        admin, room = self._room(call)
        fields = call.whole_body()
        if not fields:
            raise RoomRefused("An empty request")
        with _refusals():
            await admin.configure(room, fields)
        return Reply(204)

    # -- members

    @operation(
        "POST",
        "/muc-lights/{domain}/{room}/participants",
        summary="Add a user in a member's name",
        description="`sender` is the member and needs the right to do it. A `recipient` who has blocked the sender or "
        "the room, or is in as many rooms as one may be, is left out without a word, as he is where members ask.",
        body=object_schema({"sender": ACCOUNT, "recipient": ACCOUNT}),
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom, InvalidAddress, NotAMember, RoomForbidden, RoomRefused),
    )
    async def invite(self, call: Call) -> Reply:
        admin, room = self._room(call)
        sender = account_address(call.text("sender"), "sender")
        recipient = account_address(call.text("recipient"), "recipient")
        await _as_member(admin, room, admin.affiliate(room, {recipient: "member"}, by=sender))
        return Reply(204)

    @operation(
        "PUT",
        "/muc-lights/{domain}/{room}/participants/{user}",
        summary="Make a user owner or member of a room, or take him out",
        description="Nobody's right is needed. Nothing changes for who is that already, nor for who would be added and "
        "is in as many rooms as one may be. A room can get another owner for its old one, and is removed with its "
        "last member.",
        body=object_schema({"affiliation": {"type": "string", "enum": list(AFFILIATIONS)}}),
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom, RoomRefused),
    )
    async def affiliate(self, call: Call) -> Reply:
        admin, room = self._room(call)
        user, affiliation = call.user(), call.text("affiliation")
        if affiliation not in AFFILIATIONS:
            raise MissingField("affiliation")
        await _affiliate(admin, room, user, affiliation)
        return Reply(204)

    @operation(
        "DELETE",
        "/muc-lights/{domain}/{room}/participants/{user}",
        summary="Take a user out of a room",
        description="A room is removed with its last member.",
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom, NoSuchMember, RoomRefused),
    )
    async def kick(self, call: Call) -> Reply:
        admin, room = self._room(call)
        if not await _affiliate(admin, room, call.user(), "none"):
            raise NoSuchMember
        return Reply(204)

    # -- messages

    @operation(
        "POST",
        "/muc-lights/{domain}/{room}/messages",
        summary="Say something in a member's name",
        description="When the answer is there, the message is in the archive of the room, if it has one.",
        body=object_schema({"from": ACCOUNT, "body": TEXT}),
        success=204,
        raises=(DomainNotFound, NoRooms, NoSuchRoom, InvalidAddress, NotAMember, RoomRefused),
    )
    async def say(self, call: Call) -> Reply:
        admin, room = self._room(call)
        sender, body = account_address(call.text("from"), "sender"), call.text("body")
        if not _is_text(body):
            raise RoomRefused("Characters that XML does not have")
        await _as_member(admin, room, admin.send(room, sender, body))
        return Reply(204)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raises what the dialects have texts for instead of StanzaError."""
    try:
        yield
    except StanzaError as refused:
        error = _REFUSALS.get(refused.condition)
        if error is None:
            raise
        raise error(refused.text or refused.condition) from None


async def _as_member(admin: RoomAdmin, room: JID, work: Awaitable[None]) -> None:
    """Waits for what is done in a member's name. Raises NotAMember, NoSuchRoom: members are told the same of both."""
    try:
        with _refusals():
            await work
    except NoSuchRoom:
        with _refusals():
            await admin.describe(room)
        raise NotAMember from None


async def _affiliate(admin: RoomAdmin, room: JID, user: JID, affiliation: str) -> bool:
    """Makes a user this; False when he is that already, as far as can be said after a refusal. Raises RoomRefused."""
    try:
        with _refusals():
            await admin.affiliate(room, {user: affiliation})
    except RoomRefused:
        with _refusals():
            members = (await admin.describe(room)).members
        if members.get(user, "none") != affiliation:
            raise
        return False
    return True


def _members(call: Call) -> list[JID]:
    """Who shall be in a room besides its owner. Raises MissingField, InvalidAddress."""
    texts = call.optional("members", list) or []
    if not all(isinstance(text, str) for text in texts):
        raise MissingField("members")
    return [account_address(text, "member") for text in texts]


def _config(call: Call) -> dict[str, Any]:
    """Values by the names of fields. Raises MissingField."""
    fields = dict(call.optional("config", dict) or {})
    for member, field in _FIELD_NAMES.items():
        text = call.optional(member, str)
        if text is not None:
            fields[field] = text
    return fields


def _described(room: RoomDescription) -> Schema:
    return {
        "id": room.jid.local,
        "jid": room.jid.full,
        "version": room.version,
        "members": [{"user": user.full, "affiliation": affiliation} for user, affiliation in room.members.items()],
        "config": dict(room.config),
    }
