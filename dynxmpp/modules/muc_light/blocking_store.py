"""Who does not want to be added by whom, and where: blocking lists in the database (section 11 of MUC Light).

Also the locks that order decisions about the same accounts.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

from dynxmpp.module import JID, Database, Transaction
from dynxmpp.modules.muc_light.requests import Blocked, BlockingItem

#: What `wait_for` orders: the first of the two numbers of an advisory lock, whose second is a bucket of accounts.
LIMITS: Final = 0x6D756C
LISTS: Final = 0x6D756D
# Enough that accounts rarely meet in one; few, because PostgreSQL has room for some thousands of locks in all.
_BUCKETS: Final = 32

_WAIT_FOR: Final = "SELECT pg_advisory_xact_lock(%s, bucket) FROM unnest(%s::integer[]) AS bucket"

_BLOCKERS: Final = """
SELECT server, username FROM muc_light_blocking
WHERE (server, username) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND (kind, who) IN ((%s, %s), (%s, %s))
"""

_LOAD: Final = "SELECT kind, who FROM muc_light_blocking WHERE server = %s AND username = %s ORDER BY kind, who"

_CHANGE: Final = """
WITH allowed AS (
    DELETE FROM muc_light_blocking
    WHERE server = %s AND username = %s AND (kind, who) IN (SELECT * FROM unnest(%s::smallint[], %s::text[]))
)
INSERT INTO muc_light_blocking (server, username, kind, who)
SELECT %s, %s, denied.* FROM unnest(%s::smallint[], %s::text[]) AS denied ON CONFLICT DO NOTHING
"""

_FORGET: Final = "DELETE FROM muc_light_blocking WHERE server = %s AND username = %s"


class BlockingLists:
    """One list for each user, whatever the service. All methods raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def blocking(self, user: JID) -> list[tuple[Blocked, JID]]:
        """What a user has denied: rooms before users, each ordered by address."""
        rows = await self._database.query(_LOAD, _key(user))
        return [(Blocked(kind), JID.parse(who)) for kind, who in rows]

    async def change_blocking(self, user: JID, items: Sequence[BlockingItem]) -> None:
        """Adds what is denied and removes what is allowed; of several items about one address the last counts."""
        final = {(int(item.kind), item.jid.bare): item.deny for item in items}
        allowed, denied = (_columns_of(final, wanted) for wanted in (False, True))

        async def work(transaction: Transaction) -> None:
            # Two requests of one user that have the same entries in different orders would wait for each other.
            await wait_for(transaction, LISTS, [user])
            await transaction.execute(_CHANGE, (*_key(user), *allowed, *_key(user), *denied))

        await self._database.transaction(work)

    async def forget_blocking(self, user: JID) -> None:
        """Erases the list of a user."""
        await self._database.execute(_FORGET, _key(user))


async def blockers(transaction: Transaction, candidates: Iterable[JID], requester: JID, room: JID) -> set[JID]:
    """Those of the candidates whose list has the requester or the room."""
    servers, usernames = columns(candidates)
    if not servers:
        return set()
    who = (Blocked.ROOM, room.bare, Blocked.USER, requester.bare)
    return users(await transaction.query(_BLOCKERS, (servers, usernames, *who)))


async def wait_for(transaction: Transaction, what: int, accounts: Iterable[JID]) -> None:
    """Until the transaction ends nobody else gets past here with one of these accounts.

    Once for each transaction: the locks are taken in one order, so that no two wait for each other.
    """
    buckets = sorted({crc32(account.bare.encode()) % _BUCKETS for account in accounts})
    await transaction.query(_WAIT_FOR, (what, buckets))


def columns(accounts: Iterable[JID]) -> tuple[list[str], list[str]]:
    """Servers and usernames."""
    keys = [_key(account) for account in accounts]
    return [server for server, _ in keys], [username for _, username in keys]


def users(rows: Sequence[Sequence[str]]) -> set[JID]:
    """The accounts that rows of servers and usernames are."""
    return {JID(username, server) for server, username in rows}


def _key(account: JID) -> tuple[str, str]:
    return account.domain, account.local or ""


def _columns_of(items: dict[tuple[int, str], bool], wanted: bool) -> tuple[list[int], list[str]]:
    chosen = [item for item, deny in items.items() if deny is wanted]
    return [kind for kind, _ in chosen], [who for _, who in chosen]
