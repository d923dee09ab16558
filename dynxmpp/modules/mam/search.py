"""XEP-0431 Full Text Search in MAM, version 0.2.0: messages with words that begin as those of a query do.

An archive that is never searched costs nothing: words are taken out of its messages when it is searched, and kept in
mam_search up to `mam_archive.search_upto`. Messages of the last ten minutes are looked at one by one, as others with
lower ids may still be on their way to the table. The first search of a large archive may take longer than a request
should; then the work goes on, and the client is told to ask again.

A word is kept as `archive:word`, so that the index is walked within one archive only.
"""

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from dynxmpp.module import Clock, Database, StanzaError, StreamError, Transaction
from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.conditions import CONDITIONS, conditions
from dynxmpp.modules.mam.counts import SETTLED_S
from dynxmpp.modules.mam.query import Filters
from dynxmpp.modules.mam.schema import REMOVED
from dynxmpp.modules.mam.shared import Shared
from dynxmpp.modules.mam.words import has_all, words_of
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.parse import parse_stanza

#: Messages that are looked into at a time; 40 us each.
CHUNK: Final = 200
#: A search finds the newest so many, and looks so far among the messages that are not in mam_search yet.
MAX_HITS: Final = 10_000
MAX_RECENT: Final = 5_000
#: Seconds that a search waits for the words of an archive.
PATIENCE_S: Final = 5.0

_STATE: Final = """
SELECT search_upto,
    EXISTS (SELECT FROM mam_message AS m WHERE m.archive = a.id AND m.id > a.search_upto AND m.id < %s)
FROM mam_archive AS a WHERE a.id = %s
"""
_LOCK: Final = "SELECT search_upto FROM mam_archive WHERE id = %s AND kind <> %s FOR UPDATE"
# Locked, so that a message that is being retracted does not leave its words behind.
_NEXT: Final = """
SELECT id, stanza FROM mam_message WHERE archive = %s AND id > %s AND id < %s ORDER BY id LIMIT %s FOR SHARE
"""
_KEEP: Final = """
INSERT INTO mam_search (archive, id, words)
SELECT %s, kept.id, array_to_tsvector(string_to_array(kept.words, ' '))
FROM unnest(%s::bigint[], %s::text[]) AS kept (id, words)
ON CONFLICT DO NOTHING
"""
_MOVE_ON: Final = "UPDATE mam_archive SET search_upto = %s WHERE id = %s"
_HITS: Final = f"""
WITH hit AS MATERIALIZED (SELECT archive, id FROM mam_search WHERE words @@ %s::tsquery AND id BETWEEN %s AND %s)
SELECT m.id FROM hit JOIN mam_message AS m ON m.archive = hit.archive AND m.id = hit.id
WHERE m.archive = %s AND {CONDITIONS} ORDER BY m.id DESC LIMIT %s
"""
_RECENT: Final = f"""
SELECT id, stanza FROM mam_message WHERE archive = %s AND id BETWEEN %s AND %s AND {CONDITIONS}
ORDER BY id DESC LIMIT %s
"""


class Search:
    """Searches in all archives."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reading: Shared[int, None] = Shared()

    async def hits(self, archive: int, filters: Filters) -> list[int]:
        """The ids of the messages that `filters` let pass and that have all of its words, ascending.

        Raises StanzaError (resource-constraint) while the words of a large archive are not all known.
        """
        upto = await self._kept_upto(archive)
        words = filters.words or ()
        wanted = " & ".join(f"'{archive}:{word}':*" for word in words)  # letters, digits and underscores only
        found = await self._recent(archive, words, filters, upto + 1)
        within = (filters.low, min(filters.high, upto))
        rows = await self._database.query(_HITS, (wanted, *within, archive, *conditions(filters), MAX_HITS))
        found += [id_ for (id_,) in rows]
        found.reverse()
        return found

    async def _recent(self, archive: int, words: tuple[str, ...], filters: Filters, since: int) -> list[int]:
        """The newest first."""
        found: list[int] = []
        low, high = max(filters.low, since), filters.high
        for _ in range(MAX_RECENT // CHUNK):
            rows = await self._database.query(_RECENT, (archive, low, high, *conditions(filters), CHUNK))
            found += [id_ for id_, stanza in rows if has_all(body_words(stanza), words)]
            if len(rows) < CHUNK:
                break
            high = rows[-1][0] - 1
        return found

    async def _kept_upto(self, archive: int) -> int:
        """Up to which id the words of messages are kept: of all that are old enough."""
        rows = await self._state(archive)
        if rows and rows[0][1]:
            work = Deferred.fromCoroutine(self._reading.run(archive, lambda: self._keep_words(archive)))
            try:
                await work.addTimeout(PATIENCE_S, self._clock)
            except DeferredTimeoutError:
                raise StanzaError(
                    "resource-constraint", type="wait", text="The archive is being prepared for searching"
                ) from None
            rows = await self._state(archive)
        return rows[0][0] if rows else ids.MAX_ID - 1

    async def _state(self, archive: int) -> list[tuple[Any, ...]]:
        return await self._database.query(_STATE, (self._settled(), archive))

    def _settled(self) -> int:
        return ids.first_of(int((self._clock.seconds() - SETTLED_S) * 1_000_000))

    async def _keep_words(self, archive: int) -> None:
        settled = self._settled()

        async def chunk(transaction: Transaction) -> bool:
            rows = await transaction.query(_LOCK, (archive, REMOVED))
            if not rows:
                return False
            messages = await transaction.query(_NEXT, (archive, rows[0][0], settled, CHUNK))
            if not messages:
                return False
            kept = [(id_, words) for id_, stanza in messages if (words := body_words(stanza))]
            if kept:
                texts = [" ".join(f"{archive}:{word}" for word in words) for _, words in kept]
                await transaction.execute(_KEEP, (archive, [id_ for id_, _ in kept], texts))
            await transaction.execute(_MOVE_ON, (messages[-1][0], archive))
            return len(messages) == CHUNK

        while await self._database.transaction(chunk):
            pass


def body_words(stanza: str) -> frozenset[str]:
    """The words under which a stored message is found; none for what is no message any more."""
    try:
        body = parse_stanza(stanza.encode()).child(NS_CLIENT, "body")
    except StreamError:
        return frozenset()
    return frozenset() if body is None else words_of(str(body))
