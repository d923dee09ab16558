"""Lists of rooms, out of the database: of a user, of a service, of a domain's users."""

from collections.abc import Sequence
from typing import Any, Final

from dynxmpp.module import JID, Database
from dynxmpp.modules.muc_light.room import Affiliation

#: The condition of a room that has not been removed.
THERE: Final = "version <> ''"

_ROOMS_OF: Final = """
SELECT r.server, r.service, r.name, r.version, r.config
FROM muc_light_occupants AS o JOIN muc_light_rooms AS r ON r.id = o.room
WHERE o.server = %s AND o.username = %s
"""

_MEMBERSHIPS: Final = """
SELECT r.service, r.name, o.affiliation FROM muc_light_occupants AS o JOIN muc_light_rooms AS r ON r.id = o.room
WHERE o.server = %s AND o.username = %s ORDER BY r.id
"""

_DESCRIBE: Final = f"""
SELECT name, version, config FROM muc_light_rooms
WHERE server = %s AND service = %s AND name = ANY(%s::text[]) AND {THERE}
"""

_LIST: Final = f"""
SELECT name FROM muc_light_rooms
WHERE server = %s AND service = %s AND name > %s AND {THERE} ORDER BY name LIMIT %s
"""

_COUNT: Final = f"SELECT count(*) FROM muc_light_rooms WHERE server = %s AND {THERE}"

_WITH_DOMAIN: Final = """
SELECT server, service, name, id FROM muc_light_rooms
WHERE server <> %s AND id > %s AND id IN (SELECT room FROM muc_light_occupants WHERE server = %s)
ORDER BY id LIMIT %s
"""


def places(rows: Sequence[Sequence[Any]]) -> list[tuple[str, JID]]:
    """Addresses of rooms, each with its server."""
    return [(server, JID(name, service)) for server, service, name, *_ in rows]


class RoomLists:
    """Of all services on one database. All methods raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rooms_of(self, server: str, service: str, user: JID) -> list[JID]:
        """The rooms of one service in which a user is, ordered by address."""
        sql = f"{_ROOMS_OF} AND r.server = %s AND r.service = %s"
        rows = await self._database.query(sql, (user.domain, user.local or "", server, service))
        return sorted((room for _, room in places(rows)), key=lambda room: room.full)

    async def all_rooms_of(self, user: JID) -> list[tuple[str, JID]]:
        """The rooms of all services in which a user is, each with its server, the oldest first."""
        return places(await self._database.query(f"{_ROOMS_OF} ORDER BY r.id", (user.domain, user.local or "")))

    async def described_rooms_of(self, user: JID) -> list[tuple[JID, str, dict[str, str]]]:
        """As `all_rooms_of`: address, version and stored configuration."""
        rows = await self._database.query(f"{_ROOMS_OF} ORDER BY r.id", (user.domain, user.local or ""))
        return [(JID(name, service), version, config) for _, service, name, version, config in rows]

    async def memberships(self, user: JID) -> list[tuple[JID, Affiliation]]:
        """The rooms of all services in which a user is, the oldest first, and what he is there."""
        rows = await self._database.query(_MEMBERSHIPS, (user.domain, user.local or ""))
        return [(JID(name, service), Affiliation(affiliation)) for service, name, affiliation in rows]

    async def describe(self, server: str, service: str, rooms: Sequence[JID]) -> dict[JID, tuple[str, dict[str, str]]]:
        """Version and stored configuration of those of the rooms that there are."""
        if not rooms:
            return {}
        rows = await self._database.query(_DESCRIBE, (server, service, [room.local for room in rooms]))
        return {JID(name, service): (version, config) for name, version, config in rows}

    async def list_rooms(self, server: str, service: str, after: str | None, limit: int) -> list[JID]:
        """At most `limit` rooms of a service, ordered by localpart; those after a localpart."""
        rows = await self._database.query(_LIST, (server, service, after or "", limit))
        return [JID(name, service) for (name,) in rows]

    async def count_rooms(self, server: str) -> int:
        """How many rooms there are below a domain, of all services."""
        ((count,),) = await self._database.query(_COUNT, (server,))
        return int(count)

    async def rooms_with_domain(self, domain: str, after: int, limit: int) -> tuple[list[tuple[str, JID]], int]:
        """At most `limit` of the rooms below other domains in which accounts of a domain are; else as `going`."""
        rows = await self._database.query(_WITH_DOMAIN, (domain, after, domain, limit))
        return places(rows), rows[-1][-1] if rows else after
