"""What becomes of the members of a room: who may ask for it, what is refused, who is owner afterwards.

Sections 5, 9 and 10 of the description of MUC Light. Nothing here waits: facts that have to be asked for, such as who
blocks whom, have been asked for before, and whoever is not to be added is no longer in the request.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.room import Affiliation, Changes, Members, in_order

_NONE, _OWNER, _MEMBER = Affiliation.NONE, Affiliation.OWNER, Affiliation.MEMBER


class Refused(Exception):
    """The whole request is a bad-request; the text says why."""


class NotAllowed(Exception):
    """The requester has not the right to all that the request has."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Options. `promote`: a room that loses its last owner gets a new one; else the change is refused."""

    allow_multiple_owners: bool = False
    promote: bool = True
    max_occupants: float = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change has made, both in order.

    `members`: empty when the room is to be destroyed. `changes`: by how much they differ from those before, which may
    be more than what was requested, or less, or nothing.
    """

    members: dict[JID, Affiliation]
    changes: dict[JID, Affiliation]


def check_permission(members: Members, requester: JID, requested: Changes, *, all_can_invite: bool) -> None:
    """Section 9: owners may do anything, members may leave, and add members where all can.

    Raises NotAllowed for the whole request when an entry is of another kind, and for those who are not in the room.
    """
    if requester not in members:
        raise NotAllowed
    if members[requester] == _OWNER:
        return
    for jid, wanted in requested.items():
        leaves = wanted == _NONE and jid == requester
        invites = all_can_invite and wanted == _MEMBER and members.get(jid) != _OWNER
        if not (leaves or invites):
            raise NotAllowed


def check_request(members: Members, requested: Changes) -> None:
    """What can be said of a request before anybody is left out of it. Raises Refused."""
    if any(members.get(jid, _NONE) == wanted for jid, wanted in requested.items()):
        raise Refused("Meaningless change")
    if _OWNER in requested.values() and _OWNER not in members.values():
        raise Refused("Ownerless room")


def check_occupants(creator: JID, occupants: Changes) -> None:
    """The same of the occupants that a room shall begin with (section 5). Raises Refused."""
    if creator in occupants:
        raise Refused("The creator is not to be listed")
    if _NONE in occupants.values():
        raise Refused("Meaningless change")


def initial(creator: JID, occupants: Changes, *, equal_occupants: bool, rules: Rules) -> dict[JID, Affiliation]:
    """The members of a new room, in order: the creator was there first, and adds the others. Raises Refused."""
    check_occupants(creator, occupants)
    return change({creator: _MEMBER if equal_occupants else _OWNER}, occupants, rules).members


def change(members: Members, requested: Changes, rules: Rules) -> Outcome:
    """What `requested` makes of a room, by the steps of section 10. Raises Refused."""
    # 1. Nobody becomes owner in a room without owners, and so steps 3 and 4 find nothing to do there.
    check_request(members, requested)
    has_owners = _OWNER in members.values()
    # 2. The request as it stands.
    after = {jid: affiliation for jid, affiliation in {**members, **requested}.items() if affiliation != _NONE}
    # 3. A new owner instead of the old one.
    if not rules.allow_multiple_owners:
        _demote_old_owner(members, after)
    # 4. An empty room needs no owner.
    if has_owners and after and _OWNER not in after.values():
        if not rules.promote:
            raise Refused("Cannot remove the last owner")
        after[_successor(members, requested, after)] = _OWNER
    # 5. A room that is too full already, by a limit that was higher once, may still be left.
    if len(after) > rules.max_occupants and not after.keys() <= members.keys():
        raise Refused("max_occupants_reached")
    return Outcome(in_order(after), _difference(members, after))


def _demote_old_owner(members: Members, after: dict[JID, Affiliation]) -> None:
    """Makes the owner of before a member, when somebody else becomes owner. Raises Refused if that leaves several.

    A room with several from a time when that was allowed keeps them while it gets no new one: everybody may leave.
    """
    owners = [jid for jid, affiliation in after.items() if affiliation == _OWNER]
    old = [jid for jid in owners if members.get(jid) == _OWNER]
    if len(owners) <= 1 or owners == old:
        return
    if len(owners) > 2 or not old:
        raise Refused("Failed to demote old owner")
    after[old[0]] = _MEMBER


def _successor(members: Members, requested: Changes, after: Members) -> JID:
    """Who becomes owner of a room that has lost all its owners; the first in order of the first kind that there is.

    Nobody is of another kind: a member in `after` who was in the room before, and was spoken of, was owner.
    """
    untouched = [jid for jid in after if jid not in requested]
    joining = [jid for jid in after if jid not in members]
    demoted = [jid for jid in after if members.get(jid) == _OWNER]
    return _first(untouched or joining or demoted)


def _first(jids: Iterable[JID]) -> JID:
    return min(jids, key=lambda jid: jid.full)


def _difference(before: Members, after: Members) -> dict[JID, Affiliation]:
    gone = {jid: _NONE for jid in before if jid not in after}
    changed = {jid: affiliation for jid, affiliation in after.items() if before.get(jid) != affiliation}
    return in_order(gone | changed)
