"""What is kept of an account, for the person whose it is (GDPR, article 15): tables by name, read page by page.

A page is a statement of its own, so nothing is held open between two, however slowly they are asked for. Rows that come
or go meanwhile are there or not; one that stays is there once.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynxmpp.core.interfaces import Database, Stored
from dynxmpp.jid import JID

__all__ = ["PAGE_ROWS", "PersonalTable", "Row", "read_stored"]

#: As the database gives it: texts, numbers, times, lists of them; whoever shows it finds a form for each.
Row = tuple[Any, ...]

#: Rows of a page of a declared table. One may have a quarter of a megabyte, a vCard for example.
PAGE_ROWS: Final = 100

# Columns in their order, and their places in the primary key.
_COLUMNS: Final = """
SELECT a.attname, array_position(i.indkey::smallint[], a.attnum)
FROM pg_attribute AS a LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class PersonalTable:
    """Rows that are kept of an account; `pages` can be gone through once and raises what the database raises."""

    name: str
    columns: tuple[str, ...]
    pages: AsyncIterator[Sequence[Row]]


async def read_stored(database: Database, stored: Stored, account: JID, hidden: Collection[str]) -> PersonalTable:
    """The rows of a declared table that belong to an account, without its name and the columns that are `hidden`.

    `stored` must have a `user`. Raises Unavailable.
    """
    found = await database.query(_COLUMNS, (_quoted(stored.table),))
    owner = (stored.domain, stored.user)
    columns = tuple(name for name, _ in found if name not in owner and name not in hidden)
    places = {name: place for name, place in found if place is not None and name not in owner}
    key = sorted(places, key=lambda name: int(places[name]))
    return PersonalTable(stored.table, columns, _pages(database, stored, account, columns, key))


async def _pages(
    database: Database, stored: Stored, account: JID, columns: Sequence[str], key: Sequence[str]
) -> AsyncIterator[Sequence[Row]]:
    """In the order of the primary key. Without more of a key than the account there is one row, and one page."""
    selected = ", ".join([_name(column) for column in columns] + [f"{_name(column)}::text" for column in key])
    sql = f"SELECT {selected} FROM {_name(stored.table)} AS t WHERE {_name(stored.domain)} = %s"
    sql += f" AND {_name(stored.user or '')} = %s"
    owner = (account.domain, account.local)
    if not key:
        yield await database.query(sql, owner)
        return
    # Not the column's text, which has its name too.
    names = ", ".join(f"t.{_name(column)}" for column in key)
    order = f" ORDER BY {names} LIMIT {PAGE_ROWS}"
    # A text is taken for a value of the column's type, whatever that is.
    following = f"{sql} AND ({names}) > ({', '.join(['%s'] * len(key))}){order}"
    rows = await database.query(sql + order, owner)
    while rows:
        yield [row[: len(columns)] for row in rows]
        if len(rows) < PAGE_ROWS:
            return
        rows = await database.query(following, (*owner, *rows[-1][len(columns) :]))


def _quoted(name: str) -> str:
    """A declared name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _name(name: str) -> str:
    """The same in a statement with parameters."""
    return _quoted(name).replace("%", "%%")
