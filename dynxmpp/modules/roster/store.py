"""Rosters: their tables, the ones in memory, and how they change.

Every change of an account's roster is one statement, and makes the roster's version grow. It goes through only if the
version is still the one that the decision was based on; otherwise somebody else has written (another server on the same
database, an administrator), the roster is read anew and the decision made again.
"""

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dynxmpp.module import JID, Database, LookupCombiner, SessionTable, Turns, Unavailable
from dynxmpp.modules.roster.items import AccountRoster, RosterItem
from dynxmpp.protocol.subscription import State

T = TypeVar("T")

CREATE = """
CREATE TABLE roster_versions (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    removed bigint NOT NULL,
    PRIMARY KEY (server, username)
);
CREATE TABLE rosters (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    contact text COLLATE "C" NOT NULL,
    name text NOT NULL,
    groups text[] NOT NULL,
    subscription text NOT NULL CHECK (subscription IN ('none', 'to', 'from', 'both')),
    ask boolean NOT NULL,
    listed boolean NOT NULL,
    request bytea,
    version bigint NOT NULL,
    PRIMARY KEY (server, username, contact),
    CHECK (NOT (ask AND subscription IN ('to', 'both'))),
    CHECK (NOT (request IS NOT NULL AND subscription IN ('from', 'both')))
)
"""

# OFFSET 0: one look into the index for each, whatever the planner thinks of the number of accounts.
_LOAD = """
SELECT q.n, found.* FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS q (server, username, n)
CROSS JOIN LATERAL (
    SELECT v.version, v.removed, r.contact, r.name, r.groups, r.subscription, r.ask, r.listed, r.request, r.version
    FROM (SELECT q.server, q.username) AS account (server, username)
    LEFT JOIN roster_versions AS v USING (server, username)
    LEFT JOIN rosters AS r USING (server, username)
    ORDER BY r.contact OFFSET 0
) AS found
"""

# A version is the time of the change in milliseconds, or one more than the last: so it grows even over the removal of
# an account and the making of another of the same name, whose clients still remember an old one.
_NEXT_VERSION = """
WITH next AS (
    INSERT INTO roster_versions AS present (server, username, version, removed)
    SELECT %s, %s, now, now FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS clock (now)
    ON CONFLICT (server, username) DO UPDATE SET
        version = greatest(present.version + 1, excluded.version),
        removed = CASE WHEN %s THEN greatest(present.version + 1, excluded.version) ELSE present.removed END
    WHERE present.version = %s
    RETURNING version, removed
)
"""

_WRITE = (
    _NEXT_VERSION
    + """
INSERT INTO rosters (server, username, contact, name, groups, subscription, ask, listed, request, version)
SELECT %s, %s, %s, %s, %s::text[], %s, %s, %s, %s::bytea, next.version FROM next
ON CONFLICT (server, username, contact) DO UPDATE SET
    name = excluded.name, groups = excluded.groups, subscription = excluded.subscription, ask = excluded.ask,
    listed = excluded.listed, request = excluded.request, version = excluded.version
RETURNING version, (SELECT removed FROM next)
"""
)

# Groups come as JSON: PostgreSQL knows no arrays of rows of different lengths.
_WRITE_ALL = (
    _NEXT_VERSION
    + """
INSERT INTO rosters (server, username, contact, name, groups, subscription, ask, listed, request, version)
SELECT %s, %s, item.contact, item.name, ARRAY(SELECT jsonb_array_elements_text(item.groups::jsonb)),
    item.subscription, item.ask, item.listed, item.request, next.version
FROM next, unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::boolean[], %s::bytea[])
    AS item (contact, name, groups, subscription, ask, listed, request)
ON CONFLICT (server, username, contact) DO UPDATE SET
    name = excluded.name, groups = excluded.groups, subscription = excluded.subscription, ask = excluded.ask,
    listed = excluded.listed, request = excluded.request, version = excluded.version
RETURNING version, (SELECT removed FROM next)
"""
)

_PAGE = """
SELECT contact, name, groups, subscription, ask, listed, request, version FROM rosters
WHERE server = %s AND username = %s AND contact > %s AND {condition} ORDER BY contact LIMIT {limit}
"""
_LISTED_PAGE = _PAGE.format(condition="(listed OR ask OR subscription <> 'none')", limit=200)
_REQUESTS_PAGE = _PAGE.format(condition="request IS NOT NULL", limit=20)

_ERASE = (
    _NEXT_VERSION
    + """
DELETE FROM rosters USING next
WHERE rosters.server = %s AND rosters.username = %s AND rosters.contact = %s
RETURNING next.version, next.removed
"""
)

#: Rosters that are read in one statement: large ones take their time.
ROSTERS = 20
#: How often a decision is made again because of somebody else's writing.
_ATTEMPTS = 3


class _Outdated(Exception):
    """The roster in memory is not the one in the database."""


class Rosters:
    """The rosters of a host type: those of accounts with sessions, and the least recently used of others."""

    def __init__(self, database: Database, sessions: SessionTable, cache_size: int) -> None:
        """`cache_size` bounds the rosters of accounts without sessions."""
        self._database = database
        self._rows = LookupCombiner(database, _LOAD, max_rows=ROSTERS)
        self._sessions = sessions
        self._cache_size = cache_size
        self._online: dict[str, AccountRoster] = {}
        self._others: OrderedDict[str, AccountRoster] = OrderedDict()
        #: Who waits for a roster that is being read.
        self._loading: dict[str, list[Deferred[AccountRoster]]] = {}
        self._turns: Turns[str] = Turns()

    # -- memory

    def get(self, account: JID) -> AccountRoster | None:
        """The roster of an account, if it is in memory."""
        roster = self._online.get(account.bare)
        if roster is None:
            roster = self._others.get(account.bare)
            if roster is not None:
                self._others.move_to_end(account.bare)
        return roster

    def settle(self, account: JID) -> None:
        """The account has got its first session, or lost its last: keeps its roster accordingly."""
        roster = self._online.get(account.bare) or self._others.get(account.bare)
        if roster is not None:
            self._keep(roster)

    def forget(self, bare: str) -> None:
        """Drops a roster from memory; what is being read of it right now will not be kept."""
        self._online.pop(bare, None)
        self._others.pop(bare, None)
        self._loading.pop(bare, None)

    def forget_domain(self, domain: str) -> None:
        for bare in [*chain(self._online, self._others, self._loading)]:
            if bare.endswith("@" + domain):
                self.forget(bare)

    def _keep(self, roster: AccountRoster) -> None:
        bare = roster.account.bare
        self._online.pop(bare, None)
        self._others.pop(bare, None)
        if self._sessions.of(bare):
            self._online[bare] = roster
            return
        self._others[bare] = roster
        if len(self._others) > self._cache_size:
            self._others.popitem(last=False)

    # -- reading

    async def load(self, account: JID) -> AccountRoster:
        """The roster of an account; all who ask at once share one query. Raises Unavailable."""
        roster = self.get(account)
        if roster is not None:
            return roster
        answer: Deferred[AccountRoster] = Deferred()
        waiting = self._loading.get(account.bare)
        if waiting is not None:
            waiting.append(answer)
        else:
            waiting = self._loading[account.bare] = [answer]
            Deferred.fromCoroutine(self._read(account)).addBoth(self._loaded, account.bare, waiting)
        return await answer

    def _loaded(self, result: AccountRoster | Failure, bare: str, waiting: list[Deferred[AccountRoster]]) -> None:
        if self._loading.get(bare) is waiting:  # else it was dropped before it had arrived
            del self._loading[bare]
            if not isinstance(result, Failure):
                self._keep(result)
        for answer in waiting:
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)

    async def _read(self, account: JID) -> AccountRoster:
        rows = await self._rows.lookup((account.domain, account.local))
        version, removed = rows[0][:2]
        items = [_item(*row[2:]) for row in rows if row[2] is not None]
        return AccountRoster(account.to_bare(), version or 0, removed or 0, items)

    # -- changing

    async def change(self, account: JID, decide: Callable[[AccountRoster], Awaitable[T]]) -> T:
        """Runs `decide(roster)`, which may `write()` or `erase()` once, before it does anything else that shows.

        One decision about an account comes after the other. Raises what `decide` raises, and Unavailable.
        """

        async def work() -> T:
            for _ in range(_ATTEMPTS):
                try:
                    return await decide(await self.load(account))
                except _Outdated:
                    self.forget(account.bare)
            raise Unavailable("the roster is being changed by others all the time")

        return await self._turns.take(account.bare, work)

    async def write(self, roster: AccountRoster, item: RosterItem) -> RosterItem:
        """Stores an item, within `change()`; returns it with its version."""
        account, contact, state = roster.account, item.contact.full, item.state
        key = (account.domain, account.local)
        columns = (contact, item.name, list(item.groups), state.subscription, state.ask, item.listed, item.request)
        version, removed = await self._run(roster, _WRITE, (*key, False, roster.version, *key, *columns))
        written = replace(item, version=version)
        roster.put(written, removed)
        self._keep(roster)
        return written

    async def write_all(self, roster: AccountRoster, items: Sequence[RosterItem]) -> list[RosterItem]:
        """As `write`, for several items, at least one; they have the same version."""
        key = (roster.account.domain, roster.account.local)
        arrays = [list(column) for column in zip(*map(_columns, items), strict=True)]
        version, removed = await self._run(roster, _WRITE_ALL, (*key, False, roster.version, *key, *arrays))
        written = [replace(item, version=version) for item in items]
        for item in written:
            roster.put(item, removed)
        self._keep(roster)
        return written

    async def pages(self, account: JID, *, requests: bool) -> AsyncIterator[list[RosterItem]]:
        """What a roster has of its items, or of those with unanswered requests, past the memory. Raises Unavailable."""
        sql = _REQUESTS_PAGE if requests else _LISTED_PAGE
        after = ""
        while rows := await self._database.query(sql, (account.domain, account.local, after)):
            yield [_item(*row) for row in rows]
            after = rows[-1][0]

    async def erase(self, roster: AccountRoster, item: RosterItem) -> None:
        """Removes an item, within `change()`."""
        key = (roster.account.domain, roster.account.local)
        params = (*key, item.listed, roster.version, *key, item.contact.full)
        roster.remove(item, *await self._run(roster, _ERASE, params))
        self._keep(roster)

    async def _run(self, roster: AccountRoster, sql: str, params: tuple[object, ...]) -> tuple[int, int]:
        """The roster's version after a statement, and that of its last removal."""
        rows = None
        try:
            rows = await self._database.query(sql, params)
        finally:
            if rows is None:  # it may have been committed all the same
                self.forget(roster.account.bare)
        if not rows:
            raise _Outdated
        version, removed = rows[0]
        return version, removed


def _columns(item: RosterItem) -> tuple[object, ...]:
    state = item.state
    groups = json.dumps(item.groups)
    return item.contact.full, item.name, groups, state.subscription, state.ask, item.listed, item.request


def _item(
    contact: str,
    name: str,
    groups: list[str],
    subscription: str,
    ask: bool,
    listed: bool,
    request: bytes | None,
    version: int,
) -> RosterItem:
    state = State.of(subscription, ask=ask, pending_in=request is not None)
    return RosterItem(JID.parse(contact), name, tuple(groups), state, listed, request, version)
