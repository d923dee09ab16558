"""How many messages an archive has in a range of ids, at a price that does not grow with the archive.

PostgreSQL counts by walking: 100,000 messages take it about 15 ms, for every page. So of an archive that is counted and
not small, every 128th id is remembered. Then a count is a difference of two numbers, and a walk from the nearest
remembered id.

Remembered ids are older than ten minutes: no message with a lower id turns up later, as clocks of nodes differ by less
and rows are written within seconds. (One that a node could not write for longer, because the database was away, may be
missing in counts until the archive is forgotten here.) Messages go only from the old end of an archive, so that every
count looks whether the first id is still the first: another node may have removed some.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from dynxmpp.module import Clock, Database, LookupCombiner
from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.shared import Shared

#: Messages from one remembered id to the next.
STEP: Final = 128
#: So many are just walked.
FEW: Final = 2 * STEP
#: Seconds after which an id has its final place in the order.
SETTLED_S: Final = 600.0
#: Seconds after which newer ids are looked for again.
EXTEND_S: Final = 60.0
#: Remembered ids altogether, of 8 bytes each.
MAX_REMEMBERED: Final = 1_000_000

#: In front of a statement (and in its transaction): indexes are walked in their order. Where the planner knows little
#: of the table, it takes an archive for small, reads all of it and sorts: 300 ms for one of 500,000 messages.
IN_ORDER: Final = "SET LOCAL enable_sort = off;"

_WALK_FEW = """
SELECT q.n, (SELECT count(*) FROM (
    SELECT FROM mam_message AS m WHERE m.archive = q.archive {remote} AND m.id BETWEEN q.low AND q.high
    ORDER BY m.id LIMIT {limit}
) AS few)
FROM unnest(%s::integer[], %s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS q (archive, remote, low, high, n)
"""
_WALK = """
SELECT q.n,
    (SELECT count(*) FROM mam_message AS m WHERE m.archive = q.archive {remote} AND m.id BETWEEN q.low AND q.high),
    (SELECT m.id FROM mam_message AS m WHERE m.archive = q.archive {remote} ORDER BY m.id LIMIT 1)
FROM unnest(%s::integer[], %s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS q (archive, remote, low, high, n)
"""
_EVERY = """
SELECT id FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS place FROM mam_message
    WHERE archive = %s {remote} AND id >= %s AND id < %s
) AS settled
WHERE place %% {step} = 1 ORDER BY id
"""


class _Remembered:
    """Every 128th id of an archive (or of a conversation in it), from the first on."""

    __slots__ = ("extended_at", "ids")

    def __init__(self, first_ids: "array[int]", now: float) -> None:
        self.ids = first_ids
        self.extended_at = now

    def nearest(self, id_: int) -> tuple[int, int]:
        """(a remembered id up to `id_`, messages before it); -1 for an id before all."""
        number = bisect_right(self.ids, id_) - 1
        return (self.ids[number], number * STEP) if number >= 0 else (-1, 0)


class _Walks:
    """The statements: for all messages of an archive, or for those of one conversation, which have another index."""

    def __init__(self, database: Database, remote: str) -> None:
        condition = f"AND m.remote = q.{remote}" if remote else ""
        self.few = LookupCombiner(database, IN_ORDER + _WALK_FEW.format(remote=condition, limit=FEW + 1))
        self.walk = LookupCombiner(database, IN_ORDER + _WALK.format(remote=condition))
        self.every = _EVERY.format(remote="AND remote = %s" if remote else "", step=STEP)


class Counts:
    """Counts of the messages of all archives."""

    def __init__(self, database: Database, clock: Clock, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._database = database
        self._clock = clock
        self._max_remembered = max_remembered
        self._size = 0
        self._archives: OrderedDict[int, dict[str | None, _Remembered]] = OrderedDict()
        self._all = _Walks(database, "")
        self._conversation = _Walks(database, "remote")
        self._loading: Shared[tuple[int, str | None], _Remembered | None] = Shared()

    async def between(self, archive: int, remote: str | None, low: int, high: int) -> int:
        """How many messages have an id from `low` to `high`, both inclusive; `remote` narrows to one conversation."""
        if low > high:
            return 0
        remembered = self._remembered(archive, remote)
        if remembered is None:
            found = await self._walks(remote).few.lookup((archive, remote, low, high))
            few: int = found[0][0]
            if few <= FEW:
                return few
            remembered = await self._load_once(archive, remote)
        if remembered is not None:
            upto = await self._below(archive, remote, remembered, high + 1)
            before = await self._below(archive, remote, remembered, low) if low and upto is not None else 0
            if upto is not None and before is not None:
                return upto - before
        # All too new to be remembered, or what was remembered is wrong: from the beginning.
        rows = await self._walks(remote).walk.lookup((archive, remote, low, high))
        return int(rows[0][0])

    def walk(self, archive: int, remote: str | None, id_: int) -> tuple[int, int, int]:
        """How to count the messages before `id_`: (since, upto, more) for "those from `since` to `upto`, and `more`".

        What was remembered is right if `confirms()`; what was not is to be walked from the beginning.
        """
        remembered = self._remembered(archive, remote)
        upto = min(id_ - 1, ids.MAX_ID)
        if remembered is None:
            return 0, upto, 0
        since, before = remembered.nearest(id_ - 1)
        return since, upto, before

    def confirms(self, archive: int, remote: str | None, first: int | None) -> bool:
        """Does what was remembered fit an archive whose first message is `first`? If not, it is forgotten."""
        remembered = self._remembered(archive, remote)
        if remembered is None or remembered.ids[0] == first:
            return True
        self.forget(archive)
        return False

    async def start(self, archive: int, remote: str | None, low: int, skip: int) -> tuple[int, int]:
        """Where to begin when `skip` messages from `low` on are to be left out: (id, how many to leave out there)."""
        if skip <= FEW:
            return low, skip
        remembered = await self._load_once(archive, remote)
        before = None if remembered is None else await self._below(archive, remote, remembered, low)
        if remembered is None or before is None:
            return low, skip
        place = min((before + skip) // STEP, len(remembered.ids) - 1)
        return max(low, remembered.ids[place]), before + skip - max(before, place * STEP)

    def forget(self, archive: int) -> None:
        """Messages of the archive were removed."""
        for remembered in self._archives.pop(archive, {}).values():
            self._size -= len(remembered.ids)

    async def _below(self, archive: int, remote: str | None, remembered: _Remembered, id_: int) -> int | None:
        """The number of messages before `id_`; None when what was remembered is wrong, which is forgotten then."""
        since, before = remembered.nearest(id_ - 1)
        rows = await self._walks(remote).walk.lookup((archive, remote, since, min(id_ - 1, ids.MAX_ID)))
        more, first = rows[0]
        if first != remembered.ids[0]:
            self.forget(archive)
            return None
        if more > FEW and self._clock.seconds() >= remembered.extended_at + EXTEND_S:
            await self._loading.run((archive, remote), lambda: self._load(archive, remote))
        return before + int(more)

    def _walks(self, remote: str | None) -> _Walks:
        return self._all if remote is None else self._conversation

    def _remembered(self, archive: int, remote: str | None) -> _Remembered | None:
        of_archive = self._archives.get(archive)
        if of_archive is None:
            return None
        self._archives.move_to_end(archive)
        return of_archive.get(remote)

    async def _load_once(self, archive: int, remote: str | None) -> _Remembered | None:
        """What is remembered, maybe by the work of somebody else meanwhile; else it is read."""
        remembered = self._remembered(archive, remote)
        if remembered is None:
            remembered = await self._loading.run((archive, remote), lambda: self._load(archive, remote))
        return remembered

    async def _load(self, archive: int, remote: str | None) -> _Remembered | None:
        """Reads every 128th id, those after the last that is remembered; None when there is none old enough."""
        now = self._clock.seconds()
        remembered = self._remembered(archive, remote)
        since = 0 if remembered is None else remembered.ids[-1]
        conversation = () if remote is None else (remote,)
        settled = ids.first_of(int((now - SETTLED_S) * 1_000_000))
        rows = await self._database.query(self._walks(remote).every, (archive, *conversation, since, settled))
        found = array("q", [id_ for (id_,) in rows])
        if remembered is not None:
            remembered.extended_at = now
            if found and found[0] == remembered.ids[-1] and self._remembered(archive, remote) is remembered:
                remembered.ids.extend(found[1:])
                self._size += len(found) - 1
                self._shrink()
            return remembered
        if not found:
            return None
        remembered = _Remembered(found, now)
        self._archives.setdefault(archive, {})[remote] = remembered
        self._size += len(found)
        self._shrink()
        return remembered

    def _shrink(self) -> None:
        while self._size > self._max_remembered and len(self._archives) > 1:
            self.forget(next(iter(self._archives)))
