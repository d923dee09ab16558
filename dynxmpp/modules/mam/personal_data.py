"""What archives have of an account, for its owner: the own archive, its preferences, and what was said in rooms.

Messages in the archives of others are theirs; the own archive has its copy of each.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from dynxmpp.module import JID, Database, PersonalTable
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.mam.schema import ACCOUNT, ROOM
from dynxmpp.modules.mam.store import ArchiveStore

#: Messages of a page, and their bytes; the first is there whatever its size.
PAGE_ROWS: Final = 500
PAGE_BYTES: Final = 1 << 20
#: Rooms that are looked into at a time.
PAGE_ROOMS: Final = 500

FIND: Final = "SELECT id FROM mam_archive WHERE server = %s AND kind = %s AND name = %s"
_PREFERENCES: Final = """
SELECT nullif(remote, ''), CASE behaviour WHEN 'A' THEN 'always' WHEN 'N' THEN 'never' ELSE 'roster' END
FROM mam_preference WHERE archive = %s ORDER BY remote
"""
_MESSAGES: Final = f"""
SELECT id, source, stanza FROM (
    SELECT *, sum(octet_length(stanza)) OVER (ORDER BY id) - octet_length(stanza) AS passed FROM (
        SELECT id, source, stanza FROM mam_message
        WHERE archive = %s AND id > %s {{author}} ORDER BY id LIMIT {PAGE_ROWS}
    ) AS page
) AS measured
WHERE passed < {PAGE_BYTES} ORDER BY id
"""
_ALL: Final = _MESSAGES.format(author="")
_OF_AUTHOR: Final = _MESSAGES.format(author="AND remote = %s")
# A look into the index for each room.
_ROOMS: Final = f"""
SELECT id, name, (SELECT true FROM mam_message AS m WHERE m.archive = room.id AND m.remote = %s LIMIT 1) FROM (
    SELECT id, name FROM mam_archive WHERE kind = {ROOM} AND id > %s ORDER BY id LIMIT {PAGE_ROOMS}
) AS room
ORDER BY id
"""

Page = Sequence[tuple[Any, ...]]


async def tables_of(account: JID, database: Database, store: ArchiveStore) -> Sequence[PersonalTable]:
    """What is in the database, once all that `store` had taken before is there. Raises Unavailable."""
    found = await database.query(FIND, (account.domain, ACCOUNT, account.local))
    await store.flush()
    rooms = PersonalTable("room messages", ("id", "room", "message"), _said_in_rooms(database, account.bare))
    if not found:
        return [rooms]
    archive = found[0][0]
    return [
        PersonalTable("archive", ("id", "from", "message"), _archive(database, archive)),
        PersonalTable("preferences", ("jid", "behaviour"), _preferences(database, archive)),
        rooms,
    ]


async def _archive(database: Database, archive: int) -> AsyncIterator[Page]:
    async for rows in message_pages(database, archive):
        yield [(to_text(id_), source, stanza) for id_, source, stanza in rows]


async def _preferences(database: Database, archive: int) -> AsyncIterator[Page]:
    """All at once: their number is bounded. The row without an address says what holds for all others."""
    yield await database.query(_PREFERENCES, (archive,))


async def _said_in_rooms(database: Database, author: str) -> AsyncIterator[Page]:
    """What `author`, a bare address, wrote in any room whose archive is in this database."""
    after = 0
    while rooms := await database.query(_ROOMS, (author, after)):
        for archive, room, has_spoken in rooms:
            if has_spoken:
                async for rows in message_pages(database, archive, author):
                    yield [(to_text(id_), room, stanza) for id_, _, stanza in rows]
        after = rooms[-1][0]


async def message_pages(database: Database, archive: int, author: str | None = None) -> AsyncIterator[Page]:
    """(id, source, stanza) of an archive's messages, oldest first."""
    after = -1
    sql, more = (_ALL, ()) if author is None else (_OF_AUTHOR, (author,))
    while rows := await database.query(sql, (archive, after, *more)):
        yield rows
        after = rows[-1][0]
