"""Domains in the dialect of MongooseIM 6.0 to 6.5. Beyond it: domains can be listed."""

from typing import Final

from dynxmpp.domains.errors import (
    DomainDeleted,
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    ServiceDisabled,
    UnknownHostType,
    WrongHostType,
)
from dynxmpp.domains.service import STRICT, DomainService
from dynxmpp.domains.store import DomainRow
from dynxmpp.rest.domains import ENABLED_BODY, HOST_TYPE_BODY, LIST_QUERY, list_schema, page_of
from dynxmpp.rest.operation import Call, Reply, Schema, object_schema, operation

__all__ = ["DomainsV6Api"]

_STATE: Final = {
    "host_type": {"type": "string"},
    "status": {"type": "string", "enum": ["enabled", "disabled", "deleting"]},
}
_DELETE_BODY: Final = object_schema(
    {
        "host_type": {"type": "string", "examples": ["basic"]},
        "request": {"type": "boolean", "default": False, "description": "Answer at once, remove in the background."},
    },
    optional=("request",),
)


class DomainsV6Api:
    """The resource {path}/domains/{domain}, and the list above it."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    @operation(
        "PUT",
        "/domains/{domain}",
        summary="Add a domain",
        body=HOST_TYPE_BODY,
        success=204,
        raises=(ServiceDisabled, DomainIsStatic, UnknownHostType, DomainExists),
    )
    async def insert(self, call: Call) -> Reply:
        await self._service.insert(call.domain(), call.text("host_type"), STRICT)
        return Reply(204)

    @operation(
        "PATCH",
        "/domains/{domain}",
        summary="Enable or disable a domain",
        description="Disabling ends the domain's sessions; no data are lost.",
        body=ENABLED_BODY,
        success=204,
        raises=(ServiceDisabled, DomainIsStatic, DomainNotFound, UnknownHostType, DomainDeleted),
    )
    async def set_enabled(self, call: Call) -> Reply:
        await self._service.set_enabled(call.domain(), call.flag("enabled"), STRICT)
        return Reply(204)

    @operation(
        "GET",
        "/domains/{domain}",
        summary="Look a domain up",
        success=200,
        answer=object_schema(_STATE),
        raises=(ServiceDisabled, DomainIsStatic, DomainNotFound),
    )
    async def describe(self, call: Call) -> Reply:
        return Reply(200, _state(await self._service.describe(call.domain(), STRICT)))

    @operation(
        "DELETE",
        "/domains/{domain}",
        summary="Delete a domain with all its data",
        description="The host type must be given, as a safety catch. After an error the domain may be left in the "
        "state `deleting`; the request can be repeated.",
        body=_DELETE_BODY,
        success=204,
        also={202: "The domain is no longer served; its data are being removed."},
        raises=(ServiceDisabled, DomainIsStatic, UnknownHostType, WrongHostType, DomainNotFound),
    )
    async def delete(self, call: Call) -> Reply:
        domain, host_type = call.domain(), call.text("host_type")
        in_background = call.flag("request", default=False)
        await self._service.delete(domain, host_type, STRICT, in_background=in_background)
        return Reply(202 if in_background else 204)

    @operation(
        "GET",
        "/domains",
        summary="List the dynamic domains by name",
        query=LIST_QUERY,
        success=200,
        answer=list_schema("domains", object_schema({"domain": {"type": "string"}, **_STATE})),
        raises=(ServiceDisabled,),
    )
    async def browse(self, call: Call) -> Reply:
        rows, following = await page_of(self._service, call, rules=STRICT)
        return Reply(200, {"domains": [{"domain": row.domain, **_state(row)} for row in rows], "next": following})


def _state(row: DomainRow) -> Schema:
    return {"host_type": row.host_type, "status": row.status.name.lower()}
