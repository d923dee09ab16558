"""Pages out of the tables: what a query asks for, found at the price of a page.

A page is a walk along an index from one of its ends. The message beside which a page lies is read too, and must be
there: that tells an unknown id from one at the end. Only in simple queries it is not.

Counted is what is not known from the page itself: a page that is not full has seen the end of the set.
"""

from typing import Any, Final

from dynxmpp.module import Database, LookupCombiner
from dynxmpp.modules.mam.conditions import CONDITIONS, conditions
from dynxmpp.modules.mam.counts import FEW, IN_ORDER, Counts
from dynxmpp.modules.mam.paging import (
    NOTHING,
    PAGE_BYTES,
    Found,
    Row,
    is_complete,
    place,
    within_bytes,
)
from dynxmpp.modules.mam.query import Filters, Page, Query, unknown_id
from dynxmpp.modules.mam.search import Search

# What is too much for one page comes without its stanza. The message at the edge is not sent and does not count.
_ROWS: Final = """
    SELECT id, source, CASE WHEN passed IS NULL OR passed + octet_length(stanza) <= {bytes} THEN stanza END FROM (
        SELECT id, source, stanza, sum(CASE WHEN id <> q.edge THEN octet_length(stanza) END)
            OVER (ORDER BY id {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS passed
        FROM (
            SELECT m.id, m.source, m.stanza FROM mam_message AS m
            WHERE m.archive = q.archive {remote} AND m.id BETWEEN q.low AND q.high {more}
            ORDER BY m.id {order} LIMIT q.size OFFSET q.skip
        ) AS page
    ) AS measured
"""
_PAGE: Final = (
    """
SELECT q.n, found.* FROM unnest(
    %s::integer[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
    %s::boolean[]
) WITH ORDINALITY AS q (archive, remote, low, high, edge, size, skip, resource, individual, n)
CROSS JOIN LATERAL ("""
    + _ROWS
    + ") AS found"
)
_MORE: Final = "AND (q.resource IS NULL OR m.resource = q.resource) AND NOT (q.individual AND m.groupchat)"
_FEW: Final = """
        (SELECT count(*) FROM (
            SELECT FROM mam_message AS m
            WHERE m.archive = q.archive {remote} AND m.id BETWEEN q.since_{name} AND q.upto_{name} LIMIT {limit}
        ) AS few)"""
# The page, and in a row of its own what has to be counted for it: messages before its edge, before the end of the set,
# before the beginning of the set, and the first id of all.
_COUNTED: Final = (
    """
SELECT q.n, found.* FROM unnest(
    %s::integer[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]
) WITH ORDINALITY AS q (
    archive, remote, low, high, edge, size, skip, since_a, upto_a, since_b, upto_b, since_c, upto_c, n
)
CROSS JOIN LATERAL (
    SELECT * FROM ("""
    + _ROWS
    + """) AS rows
    UNION ALL SELECT -1, concat_ws(' ', {counts},
        (SELECT m.id FROM mam_message AS m WHERE m.archive = q.archive {remote} ORDER BY m.id LIMIT 1)), NULL
) AS found"""
)
_COUNT: Final = f"SELECT count(*) FROM mam_message WHERE archive = %s AND id BETWEEN %s AND %s AND {CONDITIONS}"
_PRESENT: Final = "SELECT count(*) FROM mam_message WHERE archive = %s AND id = ANY(%s::bigint[])"
_FITTING: Final = f"""
SELECT id FROM mam_message WHERE archive = %s AND id = ANY(%s::bigint[]) AND id BETWEEN %s AND %s AND {CONDITIONS}
"""
_THESE: Final = "SELECT id, source, stanza FROM mam_message WHERE archive = %s AND id = ANY(%s::bigint[])"
_ENDS: Final = f"""
{IN_ORDER}
SELECT (SELECT id FROM mam_message WHERE archive = %s ORDER BY id LIMIT 1),
    (SELECT id FROM mam_message WHERE archive = %s ORDER BY id DESC LIMIT 1)
"""


def _pages(database: Database, order: str, remote: str) -> LookupCombiner:
    return LookupCombiner(database, IN_ORDER + _PAGE.format(order=order, remote=remote, bytes=PAGE_BYTES, more=_MORE))


def _counted_pages(database: Database, order: str, remote: str) -> LookupCombiner:
    counts = ",".join(_FEW.format(remote=remote, name=name, limit=FEW + 1) for name in "abc")
    sql = _COUNTED.format(order=order, remote=remote, bytes=PAGE_BYTES, more="", counts=counts)
    return LookupCombiner(database, IN_ORDER + sql)


class Lookups:
    """Pages of all archives. What they raise besides StanzaError is the database's."""

    def __init__(self, database: Database, counts: Counts, search: Search) -> None:
        self._database = database
        self._counts = counts
        self._search = search
        conversation = "AND m.remote = q.remote"
        #: By (backward, narrowed to a conversation): each has an index of its own to walk.
        self._pages = {
            (False, False): _pages(database, "ASC", ""),
            (True, False): _pages(database, "DESC", ""),
            (False, True): _pages(database, "ASC", conversation),
            (True, True): _pages(database, "DESC", conversation),
        }
        self._counted_pages = {
            (False, False): _counted_pages(database, "ASC", ""),
            (True, False): _counted_pages(database, "DESC", ""),
            (False, True): _counted_pages(database, "ASC", conversation),
            (True, True): _counted_pages(database, "DESC", conversation),
        }

    async def find(self, archive: int | None, query: Query) -> Found:
        """The page that `query` asks for; `archive` is None for an owner who has none yet.

        Raises StanzaError: item-not-found for an id that is not in the archive or, as the edge of a page, not in the
        result set.
        """
        filters, page = query.filters, query.page
        if archive is None:
            if filters.ids or ((filters.named or page.edge is not None) and not query.simple):
                raise unknown_id()
            return Found((), None, None, True) if query.simple else NOTHING
        named = filters.ids or (filters.named if not query.simple else ())
        if named:
            await self._check_present(archive, named)
        if filters.ids is not None:
            return await self._page_of(archive, await self._fitting(archive, filters), query)
        if filters.words:
            return await self._page_of(archive, await self._search.hits(archive, filters), query)
        if query.simple:
            return await self._simple_page(archive, filters, page)
        if filters.resource is None and not filters.individual and page.skip <= FEW:
            found = await self._at_once(archive, filters, page)
            if found is not None:
                return found
        return await self._counted_page(archive, filters, page)

    async def ends(self, archive: int) -> tuple[int, int] | None:
        """The ids of the first and the last message; None for an empty archive."""
        first, last = (await self._database.query(_ENDS, (archive, archive)))[0]
        return None if first is None or last is None else (first, last)

    async def _check_present(self, archive: int, named: tuple[int, ...]) -> None:
        rows = await self._database.query(_PRESENT, (archive, list(named)))
        if rows[0][0] != len(set(named)):
            raise unknown_id()

    # -- pages of what the tables have in order

    async def _simple_page(self, archive: int, filters: Filters, page: Page) -> Found:
        low, high = filters.low, filters.high
        if page.edge is not None and page.backward:
            high = min(high, page.edge - 1)
        elif page.edge is not None:
            low = max(low, page.edge + 1)
        if low > high:  # the one may be beyond what the database's integers can be
            return Found((), None, None, True)
        rows = await self._read(archive, filters, page, low, high, page.size + 1)
        complete = len(rows) <= page.size
        extra = len(rows) - page.size if not complete else 0
        rows = rows[extra:] if page.backward else rows[: len(rows) - extra]
        sent = _whole(rows, backward=page.backward)
        return Found(sent, None, None, complete and len(sent) == len(rows))

    async def _at_once(self, archive: int, filters: Filters, page: Page) -> Found | None:
        """A page and its counts by one statement; None when too much would have to be walked for the counts."""
        remote, low, high, edge = filters.remote, filters.low, filters.high, page.edge
        if edge is not None and not low <= edge <= high:
            raise unknown_id()
        walk = self._counts.walk
        walks = [walk(archive, remote, id_) for id_ in (edge or 0, high + 1, low)]
        size = page.size
        if edge is not None:
            low, high, size = (low, edge, size + 1) if page.backward else (edge, high, size + 1)
        bounds = [bound for since, upto, _ in walks for bound in (since, upto)]
        answer = await self._counted_pages[page.backward, remote is not None].lookup(
            (archive, remote, low, high, edge or 0, size, page.skip, *bounds)
        )
        answer.sort()
        walked, rows = [int(text) for text in answer[0][1].split()], answer[1:]
        first = walked[3] if len(walked) > 3 else None
        if max(walked[:3]) > FEW or not self._counts.confirms(archive, remote, first):
            return None
        before_edge, before_end, before = (more + count for (_, _, more), count in zip(walks, walked[:3], strict=True))
        if edge is not None:
            at_edge = rows[-1 if page.backward else 0][0] if rows else None
            if at_edge != edge:
                raise unknown_id()
            rows = rows[:-1] if page.backward else rows[1:]
        sent = _whole(rows, backward=page.backward)
        count = max(0, before_end - before)
        if page.backward:
            passed = count if edge is None else before_edge - before
            index, place = passed - len(sent), max(0, passed - page.size)
        else:
            index = place = page.skip if edge is None else before_edge + 1 - before
        complete = is_complete(page, place, len(rows), count)
        return Found(sent, index, count, complete and len(sent) == len(rows))

    async def _counted_page(self, archive: int, filters: Filters, page: Page) -> Found:
        low, high = filters.low, filters.high
        rows = await self._rows(archive, filters, page)
        full = len(rows) == page.size
        sent = _whole(rows, backward=page.backward)
        if page.backward:
            # From the end of the page backwards: what precedes its last message, then what follows it.
            upto = high if page.edge is None else page.edge - 1
            first_unread = rows[0][0] - 1 if rows else upto
            passed = len(rows) + (await self._count(archive, filters, low, first_unread) if full else 0)
            count = passed + (0 if page.edge is None else await self._count(archive, filters, page.edge, high))
            complete = is_complete(page, max(0, passed - page.size), len(rows), count)
            return Found(sent, passed - len(sent), count, complete and len(sent) == len(rows))
        if page.edge is not None:
            index = await self._count(archive, filters, low, page.edge)
        else:
            index = page.skip
        if rows or page.edge is not None:
            next_unread = (rows[-1][0] if rows else page.edge or 0) + 1
            count = index + len(rows) + (await self._count(archive, filters, next_unread, high) if full else 0)
        else:
            count = await self._count(archive, filters, low, high) if page.skip or full else 0
        complete = is_complete(page, index, len(rows), count)
        return Found(sent, index, count, complete and len(sent) == len(rows))

    async def _rows(self, archive: int, filters: Filters, page: Page) -> list[Row]:
        """The rows of a page, oldest first, without the one at its edge, which must be there."""
        low, high = filters.low, filters.high
        if page.edge is None:
            return await self._read(archive, filters, page, low, high, page.size) if page.size else []
        if not low <= page.edge <= high:
            raise unknown_id()
        if page.backward:
            high = page.edge
        else:
            low = page.edge
        rows = await self._read(archive, filters, page, low, high, page.size + 1)
        at_edge = rows[-1 if page.backward else 0][0] if rows else None
        if at_edge != page.edge:
            raise unknown_id()
        return rows[:-1] if page.backward else rows[1:]

    async def _read(self, archive: int, filters: Filters, page: Page, low: int, high: int, size: int) -> list[Row]:
        """Rows, oldest first; those that are too much for the page without their stanza."""
        skip = page.skip
        if skip and filters.resource is None and not filters.individual:
            low, skip = await self._counts.start(archive, filters.remote, low, skip)
        conversation = filters.remote is not None
        edge = page.edge or 0
        rows: list[Row] = await self._pages[page.backward, conversation].lookup(
            (archive, filters.remote, low, high, edge, size, skip, filters.resource, filters.individual)
        )
        rows.sort()
        return rows

    async def _count(self, archive: int, filters: Filters, low: int, high: int) -> int:
        if low > high:
            return 0
        if filters.resource is None and not filters.individual:
            return await self._counts.between(archive, filters.remote, low, high)
        return int((await self._database.query(_COUNT, (archive, low, high, *conditions(filters))))[0][0])

    # -- pages of what was found as a whole

    async def _fitting(self, archive: int, filters: Filters) -> list[int]:
        """Which of the ids that were asked for the other filters let pass, in the order asked."""
        assert filters.ids is not None
        params = (archive, list(filters.ids), filters.low, filters.high, *conditions(filters))
        fitting = {id_ for (id_,) in await self._database.query(_FITTING, params)}
        if filters.words:
            fitting &= set(await self._search.hits(archive, filters))
        return [id_ for id_ in filters.ids if id_ in fitting]

    async def _page_of(self, archive: int, items: list[int], query: Query) -> Found:
        start, stop = place(query.page, items)
        chosen = items[start:stop]
        order = {id_: number for number, id_ in enumerate(chosen)}
        rows: list[Row] = []
        if chosen:
            rows = [(row[0], row[1], row[2]) for row in await self._database.query(_THESE, (archive, chosen))]
            rows.sort(key=lambda row: order[row[0]])
        sent = within_bytes(rows, backward=query.page.backward)
        complete = is_complete(query.page, start, len(chosen), len(items)) and len(sent) == len(rows)
        if query.simple:
            return Found(sent, None, None, complete)
        return Found(sent, start + (len(rows) - len(sent) if query.page.backward else 0), len(items), complete)


def _whole(rows: list[Any], *, backward: bool) -> list[Any]:
    """The rows up to the first that came without its stanza, from the side where the page begins."""
    step = -1 if backward else 1
    kept = next((number for number, row in enumerate(rows[::step]) if row[2] is None), len(rows))
    return rows[len(rows) - kept :] if backward else rows[:kept]
