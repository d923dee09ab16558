"""An account's personal data as JSON lines: one object for each row of each table of each module."""

import base64
import json
import math
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from typing import Any, Final

from dynxmpp.core.host_type import HostType
from dynxmpp.domains.personal_data import Row
from dynxmpp.jid import JID
from dynxmpp.module import Module
from dynxmpp.protocol.timestamps import format_utc

__all__ = ["LINE", "lines_of"]

#: The JSON schema of a line.
LINE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "module": {"type": "string", "examples": ["mod_roster"]},
        "table": {"type": "string", "examples": ["rosters"]},
        "row": {"type": "object", "description": "Values by column."},
    },
    "required": ["module", "table", "row"],
}


async def lines_of(account: JID, host_types: Iterable[HostType]) -> AsyncGenerator[bytes, None]:
    """What the modules of these host types keep of an account, in lines that end with a newline; a page at a time.

    Raises what the database raises.
    """
    tables = [
        (module.name, table) for module in _modules_of(host_types) for table in await module.personal_data(account)
    ]
    for module, table in tables:
        async for rows in table.pages:
            if rows:
                yield "".join(_lines(module, table.name, table.columns, rows)).encode()


def _modules_of(host_types: Iterable[HostType]) -> Iterator[Module]:
    """Those of all host types, but each once for a database: that of the first host type that has it."""
    seen: set[tuple[str, int]] = set()
    for host_type in host_types:
        for module in host_type:
            if isinstance(module, Module) and (module.name, id(module.database)) not in seen:
                seen.add((module.name, id(module.database)))
                yield module


def _lines(module: str, table: str, columns: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        values = {column: _json(value) for column, value in zip(columns, row, strict=True)}
        yield json.dumps({"module": module, "table": table, "row": values}, ensure_ascii=False) + "\n"


def _json(value: Any) -> Any:
    """A value of the database as one of JSON: texts for times (ISO 8601) and for all that JSON has no form for."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return _text(value)
        case datetime():
            return format_utc(value, 6) if value.tzinfo is not None else value.isoformat()
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return [_json(item) for item in value]
        case dict():
            return {str(key): _json(item) for key, item in value.items()}
        case _:
            return str(value)


def _text(value: bytes) -> Any:
    """Most of what is stored as bytes is a text; what is not is told apart from one."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
