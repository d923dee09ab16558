"""What domains use: of one domain all that is known, of all domains what grouped statements give."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol, cast

from dynxmpp.auth.base import NotSupported
from dynxmpp.core.domain_table import DomainOrigin, DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Clock, DomainLimits, RoomAdmin
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.domains.limits import Overrides
from dynxmpp.domains.remover import Place
from dynxmpp.domains.service import DomainService
from dynxmpp.domains.stored_sizes import StoredFigures, StoredSizes
from dynxmpp.domains.usage import UsageRecorder, Used
from dynxmpp.rest.operation import JSON_LINES, Call, Reply, Schema, object_schema, operation

__all__ = ["DomainUse", "UsageApi", "host_type_of"]

#: Domains of a page of the stream of all of them.
PAGE: Final = 1000

_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_MAYBE: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_MESSAGES: Final = {"messages": _NUMBER, "bytes": _NUMBER}
_FIGURES: Final = {
    "domain": {"type": "string"},
    "host_type": {"type": "string"},
    "accounts": {**_MAYBE, "description": "null where they are administered elsewhere."},
    "sessions": {**_NUMBER, "description": "Those of the node that was asked."},
    "day": object_schema({"date": {"type": "string", "format": "date"}, **_MESSAGES}),
    "month": object_schema({"month": {"type": "string", "examples": ["2026-11"]}, **_MESSAGES}),
}
_SIZE: Final = object_schema({"rows": _MAYBE, "bytes": _MAYBE})
_STORED: Final = object_schema(
    {
        "age_s": {**_NUMBER, "description": "How long ago this was measured."},
        "rows": _NUMBER,
        "bytes": _NUMBER,
        "modules": {"type": "object", "additionalProperties": _SIZE},
    },
)
_ALL: Final = {
    **_FIGURES,
    "rooms": {**_MAYBE, "description": "null where there are no rooms."},
    "stored": _STORED,
    "reached": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The limits that the domain has reached, by name.",
    },
}


class _Countable(Protocol):
    """What is needed of auth.accounts.Accounts."""

    async def count(self, domain: str) -> int: ...


@dataclass(frozen=True)
class DomainUse:
    """What the figures come from.

    `account_tables`: by host type the table of its accounts, for those that have one. `overrides`: limits of single
    domains, for who changes them.
    """

    recorder: UsageRecorder
    sizes: StoredSizes
    account_tables: Mapping[str, Place]
    clock: Clock
    overrides: Overrides | None = None


async def host_type_of(
    domain: str, table: DomainTable[HostType], service: DomainService, host_types: Mapping[str, HostType]
) -> HostType:
    """That of a domain, also of one that is disabled. Raises DomainNotFound."""
    served = table.get(domain)
    if served is not None:
        return served.host_type
    if not service.running:
        raise DomainNotFound(domain)
    row = await service.describe(domain)
    if row.host_type not in host_types:
        raise DomainNotFound(domain)
    return host_types[row.host_type]


class UsageApi:
    """The resources {path}/usage and {path}/domains/{domain}/usage."""

    def __init__(
        self,
        service: DomainService,
        table: DomainTable[HostType],
        sessions: SessionTable,
        host_types: Mapping[str, HostType],
        use: DomainUse,
    ) -> None:
        self._service = service
        self._table = table
        self._sessions = sessions
        self._host_types = host_types
        self._use = use

    # -- one domain

    @operation(
        "GET",
        "/domains/{domain}/usage",
        summary="Say what a domain uses",
        description="Messages are those that its sessions have sent, bytes those of their contents; of other nodes "
        "they may be a minute old. What is stored is measured again when that was ten minutes ago.",
        success=200,
        answer=object_schema(_ALL),
        raises=(DomainNotFound,),
    )
    async def describe(self, call: Call) -> Reply:
        domain = call.domain()
        host_type = await host_type_of(domain, self._table, self._service, self._host_types)
        accounts = await self._accounts(domain, host_type)
        rooms = host_type.find(RoomAdmin)
        number = None if rooms is None else await rooms.count_rooms(domain)
        stored = await self._use.sizes.of(domain, host_type)
        used = await self._use.recorder.of_domain(domain)
        entry = self._entry(domain, host_type.name, accounts, used)
        reached = _reached(host_type, domain, {**entry, "rooms": number, "stored_bytes": stored.bytes})
        return Reply(200, {**entry, "rooms": number, "stored": self._stored(stored), "reached": reached})

    async def _accounts(self, domain: str, host_type: HostType) -> int | None:
        try:
            return await cast("_Countable", cast("Any", host_type.accounts)).count(domain)
        except NotSupported:
            return None

    def _stored(self, figures: StoredFigures) -> Schema:
        return {
            "age_s": max(0, int(self._use.clock.seconds() - figures.measured_at)),
            "rows": figures.rows,
            "bytes": figures.bytes,
            "modules": {name: {"rows": size.rows, "bytes": size.bytes} for name, size in figures.modules.items()},
        }

    def _entry(self, domain: str, host_type: str, accounts: int | None, used: Used) -> Schema:
        today = self._use.recorder.today()
        return {
            "domain": domain,
            "host_type": host_type,
            "accounts": accounts,
            "sessions": self._sessions.count_domain(domain),
            "day": {"date": today.isoformat(), "messages": used.day_messages, "bytes": used.day_bytes},
            "month": {"month": f"{today:%Y-%m}", "messages": used.messages, "bytes": used.bytes},
        }

    # -- all domains

    @operation(
        "GET",
        "/usage",
        summary="Say what all domains use",
        description="A line for each domain, static ones included, in no particular order; without what is stored. "
        "If something fails after the beginning, the connection is cut before the end of the body.",
        success=200,
        answer=object_schema(_FIGURES),
        media_type=JSON_LINES,
    )
    async def browse(self, call: Call) -> Reply:
        return Reply(200, chunks=self._lines())

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        static = {name: served.host_type.name for name, served in self._static()}
        if static:
            yield await self._page(static, "", None)
        after: str | None = None
        while self._service.running:
            rows = await self._service.browse(after=after, limit=PAGE)
            upto = rows[-1].domain if len(rows) == PAGE else None
            if rows:
                yield await self._page({row.domain: row.host_type for row in rows}, after or "", upto)
            if upto is None:
                return
            after = upto

    def _static(self) -> Sequence[tuple[str, Any]]:
        """They stand in the configuration file, so there are few of them."""
        found = ((name, self._table.get(name)) for name in self._host_types)
        return [(name, served) for name, served in found if served and served.origin is DomainOrigin.STATIC]

    async def _page(self, domains: Mapping[str, str], after: str, upto: str | None) -> bytes:
        """The lines of domains (with their host types) whose names are behind `after` and not behind `upto`."""
        used = await self._use.recorder.between(after, upto, domains)
        accounts = await self._count_accounts(after, upto)
        return b"".join(
            json.dumps(
                self._entry(domain, host_type, self._counted(domain, host_type, accounts), used.get(domain, _NOTHING)),
                ensure_ascii=False,
            ).encode()
            + b"\n"
            for domain, host_type in domains.items()
        )

    def _counted(self, domain: str, host_type: str, accounts: Mapping[Place, Mapping[str, int]]) -> int | None:
        place = self._use.account_tables.get(host_type)
        return None if place is None else accounts[place].get(domain, 0)

    async def _count_accounts(self, after: str, upto: str | None) -> Mapping[Place, Mapping[str, int]]:
        counts: dict[Place, Mapping[str, int]] = {}
        for place in self._use.account_tables.values():
            if place not in counts:
                server, table = place.stored.domain, place.stored.table
                sql, values = f'SELECT "{server}", count(*) FROM "{table}" WHERE "{server}" > %s', [after]
                if upto is not None:
                    sql, values = f'{sql} AND "{server}" <= %s', [*values, upto]
                counts[place] = dict(await place.database.query(f'{sql} GROUP BY "{server}"', values))
        return counts


def _reached(host_type: HostType, domain: str, figures: Mapping[str, Any]) -> list[str]:
    limits = host_type.find(DomainLimits)
    if limits is None:
        return []
    found = ((name, figures[name]) for name in ("accounts", "sessions", "rooms", "stored_bytes"))
    return [
        name
        for name, value in found
        if value is not None and limits.limit(domain, name) != inf and value >= limits.limit(domain, name)
    ]


_NOTHING: Final = Used()
