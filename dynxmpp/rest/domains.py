"""Domains in the dialect of MongooseIM 5.0: what `PUT /api/domains/example.org` of the article talks to.

Beyond 5.0: domains can be listed, and a domain whose deletion is not finished is shown as not enabled.
"""

from collections.abc import Sequence
from typing import Any, Final

from dynxmpp.domains.errors import (
    DomainDeleted,
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    ServiceDisabled,
    UnknownHostType,
    WrongHostType,
)
from dynxmpp.domains.service import REPEATABLE, DomainService
from dynxmpp.domains.store import DomainRow, DomainStatus
from dynxmpp.rest.operation import AFTER, LIMIT, PREFIX, Call, Parameter, Reply, Schema, object_schema, operation

__all__ = ["HOST_TYPE_BODY", "LIST_QUERY", "DomainsApi", "list_schema", "next_of"]

HOST_TYPE_BODY: Final = object_schema({"host_type": {"type": "string", "examples": ["basic"]}})
ENABLED_BODY: Final = object_schema({"enabled": {"type": "boolean"}})
LIST_QUERY: Final = (
    Parameter("host_type", "Only domains of this host type.", {"type": "string"}),
    PREFIX,
    AFTER,
    LIMIT,
)
_STATE: Final = {"host_type": {"type": "string"}, "enabled": {"type": "boolean"}}


def list_schema(name: str, entry: Schema) -> Schema:
    """A page of a list."""
    return object_schema(
        {
            name: {"type": "array", "items": entry},
            "next": {"type": ["string", "null"], "description": "The `after` of the next page; null on the last."},
        }
    )


def next_of(names: Sequence[str], limit: int) -> str | None:
    """The `next` of a page for which `limit + 1` entries were asked."""
    return names[limit - 1] if len(names) > limit else None


class DomainsApi:
    """The resource {path}/domains/{domain}, and the list above it."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    @operation(
        "PUT",
        "/domains/{domain}",
        summary="Add a domain",
        description="A new domain is enabled. Adding it again changes nothing: a disabled domain stays disabled.",
        body=HOST_TYPE_BODY,
        success=204,
        raises=(DomainIsStatic, UnknownHostType, ServiceDisabled, DomainExists),
    )
    async def insert(self, call: Call) -> Reply:
        await self._service.insert(call.domain(), call.text("host_type"), REPEATABLE)
        return Reply(204)

    @operation(
        "PATCH",
        "/domains/{domain}",
        summary="Enable or disable a domain",
        description="Disabling ends the domain's sessions; no data are lost.",
        body=ENABLED_BODY,
        success=204,
        raises=(DomainIsStatic, ServiceDisabled, DomainNotFound, UnknownHostType, DomainDeleted),
    )
    async def set_enabled(self, call: Call) -> Reply:
        await self._service.set_enabled(call.domain(), call.flag("enabled"), REPEATABLE)
        return Reply(204)

    @operation(
        "GET",
        "/domains/{domain}",
        summary="Look a domain up",
        description="Static domains are not found here: they stand in the configuration file.",
        success=200,
        answer=object_schema(_STATE),
        raises=(DomainNotFound,),
    )
    async def describe(self, call: Call) -> Reply:
        return Reply(200, _state(await self._service.describe(call.domain(), REPEATABLE)))

    @operation(
        "DELETE",
        "/domains/{domain}",
        summary="Delete a domain with all its data",
        description="Answers when everything is gone. The host type must be given, as a safety catch. "
        "After an error the domain may be left disabled with part of its data; the request can be repeated.",
        body=HOST_TYPE_BODY,
        success=204,
        raises=(DomainIsStatic, UnknownHostType, ServiceDisabled, WrongHostType),
    )
    async def delete(self, call: Call) -> Reply:
        await self._service.delete(call.domain(), call.text("host_type"), REPEATABLE)
        return Reply(204)

    @operation(
        "GET",
        "/domains",
        summary="List the dynamic domains by name",
        query=LIST_QUERY,
        success=200,
        answer=list_schema("domains", object_schema({"domain": {"type": "string"}, **_STATE})),
    )
    async def browse(self, call: Call) -> Reply:
        rows, following = await page_of(self._service, call)
        return Reply(200, {"domains": [{"domain": row.domain, **_state(row)} for row in rows], "next": following})


async def page_of(service: DomainService, call: Call, **options: Any) -> tuple[list[DomainRow], str | None]:
    """The rows that a list's query asks for, and the `next`."""
    host_type, prefix, after, limit = call.parameter("host_type"), call.parameter("prefix"), call.after(), call.limit()
    if "\0" in (host_type or "") + (prefix or ""):
        return [], None  # nothing has such a name, and PostgreSQL knows no such text
    # Names are kept in lower case. The text is no whole name, so it cannot be prepared as one.
    rows = await service.browse(
        host_type=host_type, prefix=(prefix or "").lower(), after=after, limit=limit + 1, **options
    )
    return rows[:limit], next_of([row.domain for row in rows], limit)


def _state(row: DomainRow) -> Schema:
    return {"host_type": row.host_type, "enabled": row.status is DomainStatus.ENABLED}
