"""Writing messages into archives: rows of many of them in one statement, and readers that see what was taken before.

One flush follows the other at once, so a row waits for the batch in flight and no longer; when nothing is in flight, it
waits two milliseconds for company. Tickets stay open until the row is committed.
"""

from collections.abc import Sequence

from dynxmpp.module import JID, BatchWriter, Clock, CommitTicket, Database
from dynxmpp.modules.mam.config import AsyncWriter
from dynxmpp.modules.mam.ids import ArchiveIds

INSERT = """
INSERT INTO mam_message (archive, id, remote, resource, outgoing, groupchat, source, origin_id, stanza)
SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::text[], %s::text[], %s::boolean[], %s::boolean[], %s::text[],
    %s::text[], %s::text[])
ON CONFLICT DO NOTHING
"""

#: Seconds that a row waits for company when nothing is in flight.
GATHER_S = 0.002
#: Rows of a batch: fewer than the first are written dearly, more than the second keep others waiting.
MIN_ROWS = 30
MAX_ROWS = 500
#: Rows that wait to be committed, when the database is away or slow.
MAX_WAITING = 50_000


class ArchiveStore:
    """Writes into the archives of a host type; in the order of `write()`."""

    def __init__(self, database: Database, clock: Clock, ids: ArchiveIds, options: AsyncWriter) -> None:
        self.ids = ids
        #: Without the asynchronous writer a message does not go on before it is committed.
        self.at_once = not options.enabled
        self.flushed = Flushed(database, clock)
        self._writer = BatchWriter(
            self.flushed,
            INSERT,
            clock=clock,
            max_rows=min(max(options.batch_size, MIN_ROWS), MAX_ROWS),
            max_waiting=MAX_WAITING,
            gather_s=min(options.flush_interval / 1000, GATHER_S) if options.enabled else 0,
        )
        self._pending = _Pending()

    def write(
        self,
        archive: int,
        id_: int,
        remote: JID | None,
        stanza: bytes,
        ticket: CommitTicket,
        *,
        source: str,
        outgoing: bool = False,
        groupchat: bool = False,
        origin_id: str | None = None,
    ) -> None:
        """Takes a message; `ticket` is held until it is committed. Raises Unavailable when too much waits already.

        `remote` is the other side, None for a room itself; `source` who sent it, in full; `stanza` begins with
        `<message xmlns='jabber:client' `.
        """
        if remote is None:
            bare = resource = ""
        else:
            bare, resource = remote.bare, remote.resource or ""
        row = (archive, id_, bare, resource, outgoing, groupchat, source, origin_id, stanza.decode())
        self._writer.write(row, _RowTicket(ticket, self._pending, archive), len(stanza))

    @property
    def waiting(self) -> int:
        """Rows that were taken and are not committed yet."""
        return sum(self._pending.values())

    @property
    def dropped(self) -> int:
        """Rows that were taken and never will be committed."""
        return self._pending.failed

    async def written(self, archive: int) -> None:
        """Returns when what was taken for an archive before is committed, or has failed; at once if that is so."""
        if archive in self._pending:
            await self._writer.flush()

    async def flush(self) -> None:
        """Returns when all that was taken before is committed, or has failed."""
        await self._writer.flush()

    async def stop(self) -> None:
        """Writes what was taken, and takes no more."""
        await self._writer.stop()


class Flushed:
    """The database as the writer uses it, and how much went there: batches, their rows, the seconds that they took."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.batches = self.rows = 0
        self.seconds = 0.0

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        since = self._clock.seconds()
        rows = await self._database.execute(sql, params)
        self.seconds += max(0.0, self._clock.seconds() - since)  # the clock may have been set
        self.batches += 1
        self.rows += rows
        return rows


class _Pending(dict[int, int]):
    """Rows of each archive that were taken and are not committed yet. `failed`: those that are given up."""

    failed = 0


class _RowTicket(CommitTicket):
    """The ticket of a message as the writer of one of its rows holds it: counts what is pending of the archive."""

    __slots__ = ("_archive", "_pending", "_ticket")

    def __init__(self, ticket: CommitTicket, pending: _Pending, archive: int) -> None:
        super().__init__()
        self._ticket = ticket
        self._pending = pending
        self._archive = archive

    def hold(self) -> None:
        self._pending[self._archive] = self._pending.get(self._archive, 0) + 1
        self._ticket.hold()

    def release(self) -> None:
        self._settle()
        self._ticket.release()

    def fail(self) -> None:
        self._settle()
        self._pending.failed += 1
        self._ticket.fail()

    def _settle(self) -> None:
        left = self._pending[self._archive] - 1
        if left:
            self._pending[self._archive] = left
        else:
            del self._pending[self._archive]
