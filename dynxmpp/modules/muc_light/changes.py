"""What changes rooms: creation, configuration, affiliations, destruction. Members are told in the order of versions.

In all of these `id_` is the id that the notices of a change have, the one of the request; `ticket` is that of the
request, and collects what the archive writes. `who` asks: a bare address, or None for the server itself, who may do
anything. They raise StanzaError and Unavailable, and nothing has happened then.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from secrets import token_hex

from dynxmpp.module import JID, CommitTicket, StanzaError
from dynxmpp.modules.muc_light import affiliations, notices
from dynxmpp.modules.muc_light.affiliations import NotAllowed, Outcome, Refused, Rules
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.requests import Create
from dynxmpp.modules.muc_light.room import Affiliation, Changes, Members, Room
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.modules.muc_light.rooms import Rooms, new_version
from dynxmpp.modules.muc_light.sending import Sending
from dynxmpp.modules.muc_light.store import Change, Decide, Facts, RoomExists
from dynxmpp.modules.muc_light.walls import Walls

Then = Callable[[Room, Room | None], None]

#: The internal key of the field that every member may change when it is alone in the request.
_SUBJECT = "subject"


def affiliation_of(room: Room, who: JID) -> Affiliation:
    """Raises the same error for who is not in a room that there is for a room which does not exist."""
    affiliation = room.members.get(who)
    if affiliation is None:
        raise StanzaError("item-not-found")
    return affiliation


class RoomChanges:
    """The changes that are possible in the rooms of a host type."""

    def __init__(
        self,
        rooms: Rooms,
        sending: Sending,
        walls: Walls,
        options: MucLightConfig,
        schema: RoomSchema,
        *,
        max_rooms: Callable[[str], float] = lambda domain: float("inf"),
    ) -> None:
        """`max_rooms`: how many rooms there may be below a domain."""
        self._rooms = rooms
        self._walls = walls
        self._sending = sending
        self._options = options
        self._schema = schema
        self._max_rooms = max_rooms
        self._rules = Rules(
            allow_multiple_owners=options.allow_multiple_owners,
            promote=options.promote_on_last_owner_leave,
            max_occupants=options.max_occupants,
        )

    # -- creation (section 5)

    async def create(self, creator: JID, jid: JID, wanted: Create, id_: str, ticket: CommitTicket) -> Room:
        """A new room with this address."""

        async def decide(facts: Facts) -> tuple[Members, Mapping[str, str]]:
            return await self._decide_new(creator, jid, wanted, facts), self._schema.filled(wanted.config)

        def then(room: Room) -> None:
            self._sending.archived(jid, notices.affiliations_notice(room.members), id_, ticket)
            for member, affiliation in room.members.items():
                own = notices.affiliations_notice({member: affiliation}, version=room.version)
                self._sending.notice(jid, member, own, id_, ticket)

        try:
            return await self._rooms.create(jid, decide, then=then)
        except RoomExists:
            raise StanzaError("conflict", text="Room already exists") from None

    async def _decide_new(self, creator: JID, jid: JID, wanted: Create, facts: Facts) -> Members:
        server = self._rooms.server_of(jid)
        if await facts.has_rooms(server, self._max_rooms(server)):
            raise StanzaError("resource-constraint", text="The domain has as many rooms as it may have")
        try:
            affiliations.check_occupants(creator, wanted.occupants)
            occupants = self._within_reach(jid, wanted.occupants)
            full = await facts.full([creator, *occupants], self._options.rooms_per_user)
            if creator in full:
                raise Refused("rooms_per_user_reached")
            dropped = full | await self._blockers(occupants, creator, jid, facts)
            occupants = {user: wish for user, wish in occupants.items() if user not in dropped}
            equal = self._options.equal_occupants
            return affiliations.initial(creator, occupants, equal_occupants=equal, rules=self._rules)
        except Refused as refused:
            raise StanzaError("bad-request", text=str(refused)) from None

    @staticmethod
    def new_address(service: JID) -> JID:
        """The address of a room that the server names: 128 random bits."""
        return JID.of(token_hex(16), service.domain)

    # -- configuration (section 8)

    async def configure(
        self, jid: JID, who: JID | None, fields: Mapping[str, str], id_: str, ticket: CommitTicket
    ) -> None:
        """Changes fields, which are given by internal key."""

        async def decide(room: Room, facts: Facts) -> Change:
            if not self._may_configure(room, who, fields):
                raise StanzaError("not-allowed")
            return Change(config=fields, version=new_version())

        def then(before: Room, after: Room | None) -> None:
            assert after is not None
            printed = self._schema.printed(fields)
            plain = notices.configuration_notice(printed, version=after.version, previous=before.version)
            notice = self._sending.archived(jid, plain, id_, ticket)
            for member in after.members:
                self._sending.notice(jid, member, notice, id_, ticket)

        await self._change(jid, decide, then)

    def _may_configure(self, room: Room, who: JID | None, fields: Mapping[str, str]) -> bool:
        if who is None or affiliation_of(room, who) is Affiliation.OWNER:
            return True
        everybody = self._options.all_can_configure or self._schema.flag(room.config, "all_can_configure")
        return everybody or list(fields) == [_SUBJECT]

    # -- affiliations (sections 9 and 10)

    async def affiliate(self, jid: JID, who: JID | None, wanted: Changes, id_: str, ticket: CommitTicket) -> None:
        """Changes affiliations; a room that nobody is left in is removed."""

        async def outcome_of(room: Room, facts: Facts) -> Outcome | None:
            try:
                if who is not None:
                    self._check_permission(room, who, wanted)
                affiliations.check_request(room.members, wanted)
                willing = await self._willing(room, who, wanted, facts)
                return affiliations.change(room.members, willing, self._rules) if willing else None
            except NotAllowed:
                raise StanzaError("not-allowed") from None
            except Refused as refused:
                raise StanzaError("bad-request", text=str(refused)) from None

        await self._change_members(jid, outcome_of, id_, ticket)

    async def leave(
        self,
        jid: JID,
        is_gone: Callable[[JID], bool],
        id_: str,
        ticket: CommitTicket,
        *,
        server: str,
        quiet: bool,
    ) -> None:
        """Takes members out of a room who exist no more; `quiet`: the others are not told.

        The room may be one that is not served now: `server` is the domain that it is kept under.
        """
        rules = replace(self._rules, promote=True)

        async def outcome_of(room: Room, facts: Facts) -> Outcome | None:
            gone = dict.fromkeys((member for member in room.members if is_gone(member)), Affiliation.NONE)
            return affiliations.change(room.members, gone, rules) if gone else None

        await self._change_members(jid, outcome_of, id_, ticket, server=server, quiet=quiet)

    async def _change_members(
        self,
        jid: JID,
        outcome_of: Callable[[Room, Facts], Awaitable[Outcome | None]],
        id_: str,
        ticket: CommitTicket,
        *,
        server: str | None = None,
        quiet: bool = False,
    ) -> None:
        outcome: Outcome | None = None

        async def decide(room: Room, facts: Facts) -> Change | None:
            nonlocal outcome
            outcome = await outcome_of(room, facts)
            if outcome is None or not outcome.changes:
                return None
            return Change(members=outcome.members, version=new_version())

        def then(before: Room, after: Room | None) -> None:
            assert outcome is not None
            if not quiet:
                self._tell_affiliations(before, after, outcome.changes, id_, ticket)

        await self._change(jid, decide, then, server)

    def _check_permission(self, room: Room, who: JID, wanted: Changes) -> None:
        affiliation_of(room, who)
        all_can_invite = self._options.all_can_invite or self._schema.flag(room.config, "all_can_invite")
        affiliations.check_permission(room.members, who, wanted, all_can_invite=all_can_invite)

    async def _willing(self, room: Room, who: JID | None, wanted: Changes, facts: Facts) -> Changes:
        """Without those who would be added and do not want to be, or cannot, or are in too many rooms already."""
        wanted = self._within_reach(room.jid, wanted, room.members)
        joining = [user for user, wish in wanted.items() if wish is not Affiliation.NONE and user not in room.members]
        dropped = await facts.full(joining, self._options.rooms_per_user)
        dropped |= await self._blockers(joining, who, room.jid, facts)
        return {user: wish for user, wish in wanted.items() if user not in dropped}

    def _within_reach(self, jid: JID, wanted: Changes, members: Collection[JID] = ()) -> Changes:
        return {user: wish for user, wish in wanted.items() if user in members or not self._walls.separate(jid, user)}

    async def _blockers(self, joining: Collection[JID], who: JID | None, jid: JID, facts: Facts) -> set[JID]:
        if who is None or not joining or not self._options.blocking:
            return set()
        return await facts.blockers(joining, requester=who, room=jid)

    def _tell_affiliations(
        self, before: Room, after: Room | None, changes: Changes, id_: str, ticket: CommitTicket
    ) -> None:
        jid = before.jid
        for member in changes:
            if changes[member] is Affiliation.NONE:
                gone = notices.affiliations_notice({member: Affiliation.NONE})
                self._sending.notice(jid, member, gone, id_, ticket)
        if after is None:
            return
        archived = notices.affiliations_notice(changes, version=after.version)
        stays = notices.affiliations_notice(changes, version=after.version, previous=before.version)
        stays = self._sending.archived(jid, archived, id_, ticket, shown=stays)
        for member, affiliation in after.members.items():
            if member in before.members:
                self._sending.notice(jid, member, stays, id_, ticket)
            else:
                comes = notices.affiliations_notice({member: affiliation}, version=after.version)
                self._sending.notice(jid, member, comes, id_, ticket)

    # -- destruction (section 12)

    async def destroy(self, jid: JID, who: JID | None, id_: str, ticket: CommitTicket) -> None:
        """Removes a room and its archive."""

        async def decide(room: Room, facts: Facts) -> Change:
            if who is not None and affiliation_of(room, who) is not Affiliation.OWNER:
                raise StanzaError("not-allowed")
            return Change(members={})

        def then(before: Room, after: Room | None) -> None:
            for member in before.members:
                self._sending.notice(jid, member, notices.destroy_notice(member), id_, ticket)

        await self._change(jid, decide, then)

    async def _change(self, jid: JID, decide: Decide, then: Then, server: str | None = None) -> None:
        if not await self._rooms.change(jid, decide, then=then, server=server):
            raise StanzaError("item-not-found")
