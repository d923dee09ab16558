"""How much of a domain is stored: rows and bytes by module, measured when somebody asks, and remembered a while.

Rows are counted with the index that leads with the domain. Bytes are those of the columns, as they are stored, without
indexes; of tables that name the domain by way of another (archives) they are estimated from the first rows, because
there may be millions.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import psycopg2
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Clock, Database, Measured, Stored
from dynxmpp.wire.errors import Unavailable

__all__ = ["MAX_AGE_S", "Size", "StoredFigures", "StoredSizes"]

#: Seconds until a figure is measured again.
MAX_AGE_S: Final = 600.0
#: The same where the figure says that nothing more may be stored: something may have been deleted.
FULL_AGE_S: Final = 60.0
#: Domains whose figures are remembered.
DOMAINS: Final = 50_000
#: Domains that are measured at the same time.
AT_ONCE: Final = 2
#: Rows from which bytes are estimated.
SAMPLE: Final = 1000

_COLUMNS: Final = """
SELECT string_agg(format('coalesce(pg_column_size(%%I), 0)', attname), ' + ') FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


class _Keeper(Protocol):
    """A module, as far as it is of interest here."""

    name: str
    database: Database
    stored: tuple[Stored, ...]
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of a module, and their bytes; None where the database did not say in time."""

    rows: int | None
    bytes: int | None


@dataclass(slots=True)
class StoredFigures:
    """What was found at a time, in seconds of the clock. `added`: bytes that were stored since, as far as we know."""

    measured_at: float
    modules: Mapping[str, Size]
    added: int = 0

    @property
    def bytes(self) -> int:
        return sum(size.bytes or 0 for size in self.modules.values()) + self.added

    @property
    def rows(self) -> int:
        return sum(size.rows or 0 for size in self.modules.values())


class StoredSizes:
    """One a node; the domains that were asked about last are remembered."""

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._figures: OrderedDict[str, StoredFigures] = OrderedDict()
        self._turns = DeferredSemaphore(AT_ONCE)
        self._columns: dict[tuple[int, str], str] = {}

    def known(self, domain: str, max_age_s: float = MAX_AGE_S) -> StoredFigures | None:
        """A figure that is in memory and not too old."""
        figures = self._figures.get(domain)
        if figures is None or self._clock.seconds() - figures.measured_at >= max_age_s:
            return None
        self._figures.move_to_end(domain)
        return figures

    async def of(self, domain: str, host_type: HostType, max_age_s: float = MAX_AGE_S) -> StoredFigures:
        """The figures of a domain, not older than that."""
        figures = self.known(domain, max_age_s)
        if figures is not None:
            return figures
        await self._turns.acquire()
        try:
            # Somebody else may have waited for the same.
            return self.known(domain, max_age_s) or await self._measure(domain, host_type)
        finally:
            self._turns.release()

    def forget(self, domain: str) -> None:
        self._figures.pop(domain, None)

    async def _measure(self, domain: str, host_type: HostType) -> StoredFigures:
        now = self._clock.seconds()
        figures = StoredFigures(now, {module.name: await self._size(domain, module) for module in _keepers(host_type)})
        self._figures[domain] = figures
        self._figures.move_to_end(domain)
        if len(self._figures) > DOMAINS:
            self._figures.popitem(last=False)
        return figures

    async def _size(self, domain: str, module: _Keeper) -> Size:
        rows = size = 0
        try:
            for stored in module.stored:
                condition = f"{_quoted(stored.domain)} = %s"
                found = await self._of_table(module.database, stored.table, condition, domain, exact=True)
                rows, size = rows + found[0], size + found[1]
            for measured in module.measured:
                found = await self._of_table(module.database, measured.table, measured.condition, domain, exact=False)
                rows, size = rows + found[0], size + found[1]
        except (Unavailable, psycopg2.Error) as problem:
            self.log.warn("domain_not_measured", domain=domain, module=module.name, reason=str(problem))
            return Size(None, None)
        return Size(rows, size)

    async def _of_table(
        self, database: Database, table: str, condition: str, domain: str, *, exact: bool
    ) -> tuple[int, int]:
        key = (id(database), table)
        if key not in self._columns:
            ((self._columns[key],),) = await database.query(_COLUMNS, (_quoted(table),))
        columns = self._columns[key].replace("%", "%%")
        source = f"FROM {_quoted(table)} WHERE {condition}"
        if exact:
            ((rows, size),) = await database.query(f"SELECT count(*), coalesce(sum({columns}), 0) {source}", (domain,))
            return rows, int(size)
        ((rows, average),) = await database.query(
            f"SELECT (SELECT count(*) {source}), avg(size) FROM (SELECT {columns} AS size {source} LIMIT %s) AS sample",
            (domain, domain, SAMPLE),
        )
        return rows, int(rows * (average or 0))


def _keepers(host_type: HostType) -> Iterator[_Keeper]:
    """The modules that keep something in tables."""
    for module in host_type:
        keeper = cast("Any", module)
        if getattr(keeper, "stored", ()) or getattr(keeper, "measured", ()):
            yield cast("_Keeper", keeper)


def _quoted(name: str) -> str:
    """A declared name as an SQL identifier, in a statement with parameters."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'
