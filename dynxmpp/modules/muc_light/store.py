"""Rooms in the database.

All changes of one room come one after the other: each locks the room's row, reads the room, decides, and writes the
difference. Nobody holds the rows of two rooms, and what else is locked (`Facts.full`) is locked after the room and in
one order, so that no two changes wait for each other.

Every change notifies CHANNEL, at the commit.

A room that is removed has no members from then on, and is found by nobody. But its row stays, with an empty version,
and keeps its address until `finish_removal`: what others keep of the room goes before that, also after a crash.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dynxmpp.module import JID, Transaction
from dynxmpp.modules.muc_light.blocking_store import LIMITS, BlockingLists, blockers, columns, users, wait_for
from dynxmpp.modules.muc_light.room import Affiliation, Members, Room, in_order
from dynxmpp.modules.muc_light.room_lists import THERE, RoomLists, places

#: Where it is notified that a room has changed, for nodes that have it in memory: `announcement`.
CHANNEL: Final = "dynxmpp_muc_light"
#: First half of the advisory locks that order the creation of rooms in a domain with a limit.
_ROOMS_LOCK: Final = 0x726F6F6D

_OCCUPANTS: Final = """
CROSS JOIN LATERAL (
    SELECT array_agg(server) AS servers, array_agg(username) AS usernames, array_agg(affiliation) AS affiliations
    FROM muc_light_occupants WHERE room = r.id
) AS o
"""

_KEY: Final = "server = %s AND service = %s AND name = %s"
#: Not the rows of those that are being removed.

_LOAD: Final = f"""
SELECT r.id, r.version, r.config, o.servers, o.usernames, o.affiliations
FROM muc_light_rooms AS r {_OCCUPANTS} WHERE {_KEY} AND {THERE}
"""

# The lock is of the newest row, what is read beside it of the time when the statement began: the last column says
# whether somebody has changed the room while we waited, so that it must be read again.
_LOCK: Final = f"""
WITH locked AS (SELECT id, ctid AS place FROM muc_light_rooms WHERE {_KEY} AND {THERE} FOR UPDATE)
SELECT r.id, r.version, r.config, o.servers, o.usernames, o.affiliations, r.ctid = locked.place
FROM locked JOIN muc_light_rooms AS r USING (id) {_OCCUPANTS}
"""

_CREATE: Final = f"""
WITH created AS (
    INSERT INTO muc_light_rooms (server, service, name, version, config)
    VALUES (%s, %s, %s, %s, jsonb_object(%s::text[], %s::text[]))
    ON CONFLICT DO NOTHING RETURNING id
), came AS (
    INSERT INTO muc_light_occupants (room, server, username, affiliation)
    SELECT created.id, come.* FROM created, unnest(%s::text[], %s::text[], %s::smallint[]) AS come
)
SELECT id, pg_notify('{CHANNEL}', %s) FROM created
"""

_CHANGE: Final = f"""
WITH changed AS (
    UPDATE muc_light_rooms SET version = %s, config = config || jsonb_object(%s::text[], %s::text[]) WHERE id = %s
), went AS (
    DELETE FROM muc_light_occupants
    WHERE room = %s AND (server, username) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
), came AS (
    INSERT INTO muc_light_occupants (room, server, username, affiliation)
    SELECT %s, come.* FROM unnest(%s::text[], %s::text[], %s::smallint[]) AS come
    ON CONFLICT (room, server, username) DO UPDATE SET affiliation = excluded.affiliation
)
SELECT pg_notify('{CHANNEL}', %s)
"""

_REMOVE: Final = f"""
WITH went AS (
    DELETE FROM muc_light_occupants WHERE room = %s
), removed AS (
    UPDATE muc_light_rooms SET version = '', config = '{{}}' WHERE id = %s
)
SELECT pg_notify('{CHANNEL}', %s)
"""

_IS_GOING: Final = f"SELECT FROM muc_light_rooms WHERE {_KEY} AND NOT {THERE}"
_GOING: Final = f"""
SELECT server, service, name, id FROM muc_light_rooms WHERE NOT {THERE} AND id > %s ORDER BY id LIMIT %s
"""
_FINISH: Final = f"DELETE FROM muc_light_rooms WHERE {_KEY} AND NOT {THERE}"

# Counting ends at the limit, so that its cost is bounded by it.
_AT_LEAST: Final = f"""
SELECT count(*) FROM (SELECT FROM muc_light_rooms WHERE server = %s AND {THERE} LIMIT %s) AS counted
"""

_FULL: Final = """
SELECT server, username FROM muc_light_occupants
WHERE (server, username) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
GROUP BY server, username HAVING count(*) >= %s
"""


def announcement(room: JID, version: str) -> str:
    """What nodes are told of a change: the new version, empty when the room is removed, and the address."""
    return f"{version} {room.full}"


class RoomExists(Exception):
    """There is a room with this address already, or one that is being removed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision makes of a room."""

    #: The whole new list; None: as it was; empty: the room is removed.
    members: Members | None = None
    #: By internal key, the fields that change; others stay.
    config: Mapping[str, str] = field(default_factory=dict)
    #: The new version, not empty; of a removal it says nothing.
    version: str = ""


class Facts:
    """What a decision may ask, inside of its transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._limits_locked = False

    async def blockers(self, candidates: Iterable[JID], *, requester: JID, room: JID) -> set[JID]:
        """Those of the candidates whose blocking list has the requester or the room (section 11)."""
        return await blockers(self._transaction, candidates, requester, room)

    async def full(self, candidates: Iterable[JID], limit: float) -> set[JID]:
        """Those of the candidates who are in `limit` rooms or more, of whatever service.

        Until the transaction ends nobody else gets an answer about them, so that the limit holds for who is added to
        two rooms at once. To be asked once, about all candidates together (RuntimeError). Without a limit it costs
        nothing.
        """
        candidates = list(candidates)
        if not candidates or limit == float("inf"):
            return set()
        if self._limits_locked:
            raise RuntimeError("decisions that ask twice could wait for each other")
        self._limits_locked = True
        await wait_for(self._transaction, LIMITS, candidates)
        return users(await self._transaction.query(_FULL, (*columns(candidates), limit)))

    async def has_rooms(self, server: str, limit: float) -> bool:
        """Are there `limit` rooms or more below a domain?

        Until the transaction ends nobody else gets an answer about the domain. To be asked before `full`. Without a
        limit it costs nothing.
        """
        if limit == float("inf"):
            return False
        await self._transaction.query("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_ROOMS_LOCK, server))
        ((count,),) = await self._transaction.query(_AT_LEAST, (server, int(limit)))
        return bool(count >= limit)


#: What shall become of a room; None: nothing. What it raises is raised, and nothing has happened.
Decide = Callable[[Room, Facts], Awaitable[Change | None]]
#: Members and configuration of a new room.
DecideNew = Callable[[Facts], Awaitable[tuple[Members, Mapping[str, str]]]]


class RoomStore(RoomLists, BlockingLists):
    """Rooms of all services on one database, with lists of them, and blocking lists. All methods raise Unavailable.

    `server` is the domain that the service of a room is below.
    """

    # One room

    async def load(self, server: str, jid: JID) -> Room | None:
        """A room as it is now; None if there is none."""
        rows = await self._database.query(_LOAD, _key(server, jid))
        return _room(jid, rows[0]) if rows else None

    async def create(self, server: str, jid: JID, version: str, decide: DecideNew) -> Room:
        """The new room. Raises RoomExists, also when somebody else makes it just now, and what `decide` raises.

        `decide` gives at least one member; it is asked before it is known whether the address is free.
        """

        _check(version)

        async def work(transaction: Transaction) -> Room:
            members, config = await decide(Facts(transaction))
            values = (
                *_key(server, jid),
                version,
                *_texts(config),
                *columns(members),
                list(members.values()),
                announcement(jid, version),
            )
            rows = await transaction.query(_CREATE, values)
            if not rows:
                raise RoomExists(jid.full)
            return Room(jid, rows[0][0], version, in_order(members), dict(config))

        return await self._database.transaction(work)

    async def change(self, server: str, jid: JID, decide: Decide) -> tuple[Room, Room | None] | None:
        """The room before and after; None if there is none.

        After is the same object as before when `decide` gave None, and None when the room was removed. Raises what
        `decide` raises; nothing has happened then.
        """

        async def work(transaction: Transaction) -> tuple[Room, Room | None] | None:
            before = await _lock(transaction, server, jid)
            if before is None:
                return None
            change = await decide(before, Facts(transaction))
            if change is None:
                return before, before
            return before, await _write(transaction, before, change)

        return await self._database.transaction(work)

    async def remove(self, server: str, jid: JID) -> Room | None:
        """Removes a room; what it was, None if there was none."""

        async def decide(room: Room, facts: Facts) -> Change:
            return Change(members={})

        result = await self.change(server, jid, decide)
        return result[0] if result else None

    async def is_going(self, server: str, jid: JID) -> bool:
        """Has a room with this address been removed, and its removal not been finished?"""
        return bool(await self._database.query(_IS_GOING, _key(server, jid)))

    async def going(self, after: int, limit: int) -> tuple[list[tuple[str, JID]], int]:
        """At most `limit` of the rooms whose removal is not finished, each with its server, the oldest first.

        The number is what `after` has to be for the next ones; 0 begins.
        """
        rows = await self._database.query(_GOING, (after, limit))
        return places(rows), rows[-1][-1] if rows else after

    async def finish_removal(self, server: str, jid: JID, elsewhere: Callable[[Transaction], Awaitable[None]]) -> bool:
        """Frees the address of a room that has been removed; a room that is there stays, and False is given.

        `elsewhere` takes the address from what others keep of the room, in the same transaction: it cannot hit a room
        that has the address next.
        """

        async def work(transaction: Transaction) -> bool:
            if not await transaction.query(f"{_IS_GOING} FOR UPDATE", _key(server, jid)):
                return False
            await elsewhere(transaction)
            await transaction.execute(_FINISH, _key(server, jid))
            return True

        return await self._database.transaction(work)


async def _lock(transaction: Transaction, server: str, jid: JID) -> Room | None:
    """The room as it is, locked until the transaction ends."""
    rows = await transaction.query(_LOCK, _key(server, jid))
    if not rows:
        return None
    if not rows[0][-1]:
        rows = await transaction.query(_LOAD, _key(server, jid))
    return _room(jid, rows[0])


async def _write(transaction: Transaction, room: Room, change: Change) -> Room | None:
    """Writes the difference; the room that results, None when it is removed."""
    if change.members is not None and not change.members:
        await transaction.query(_REMOVE, (room.number, room.number, announcement(room.jid, "")))
        return None
    _check(change.version)
    members = room.members if change.members is None else in_order(change.members)
    gone = [jid for jid in room.members if jid not in members]
    come = {jid: affiliation for jid, affiliation in members.items() if room.members.get(jid) != affiliation}
    await transaction.query(
        _CHANGE,
        (
            *(change.version, *_texts(change.config), room.number),
            *(room.number, *columns(gone)),
            *(room.number, *columns(come), list(come.values())),
            announcement(room.jid, change.version),
        ),
    )
    return Room(room.jid, room.number, change.version, members, {**room.config, **change.config})


def _key(server: str, room: JID) -> tuple[str, str, str]:
    return server, room.domain, room.local or ""


def _room(jid: JID, row: Sequence[Any]) -> Room:
    number, version, config, servers, usernames, affiliations = row[:6]
    occupants = zip(usernames or (), servers or (), affiliations or (), strict=True)
    members = {JID(username, server): Affiliation(affiliation) for username, server, affiliation in occupants}
    return Room(jid, number, version, in_order(members), config)


def _check(version: str) -> None:
    if not version:
        raise ValueError("a room needs a version")


def _texts(config: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Keys and values. Not one JSON text: that would hide from the pool what PostgreSQL cannot store."""
    return list(config), list(config.values())
