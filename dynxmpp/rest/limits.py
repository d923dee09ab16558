"""The limits of single domains."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Final, cast

from cattrs.errors import BaseValidationError

from dynxmpp.config.limits import LIMITS, Limits
from dynxmpp.config.reader import Reader
from dynxmpp.config.report import mistakes_in, problems_of
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import DomainLimits
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.domains.limits import HostTypeLimits, Overrides, in_force
from dynxmpp.domains.service import DomainService
from dynxmpp.rest.errors import BadLimit
from dynxmpp.rest.operation import Call, Reply, Schema, object_schema, operation
from dynxmpp.rest.usage import host_type_of

__all__ = ["LimitsApi"]

_LIMIT: Final[Schema] = {"oneOf": [{"type": "integer", "minimum": 0}, {"const": "infinity"}]}
_CHANGE: Final[Schema] = {"oneOf": [*_LIMIT["oneOf"], {"type": "null"}]}
_CHANGES: Final = object_schema(
    dict.fromkeys(LIMITS, _CHANGE), optional=LIMITS, description="null takes back what the domain has of its own."
)
_ANSWER: Final = object_schema(
    {
        "limits": object_schema(dict.fromkeys(LIMITS, _LIMIT), description="Those that are in force."),
        "own": object_schema(
            dict.fromkeys(LIMITS, _LIMIT), optional=LIMITS, description="Those that are not its host type's."
        ),
    }
)
#: Relative paths count from somewhere; limits have none.
_READER: Final = Reader(Path("/"))


class LimitsApi:
    """The resource {path}/domains/{domain}/limits."""

    def __init__(
        self,
        service: DomainService,
        table: DomainTable[HostType],
        host_types: Mapping[str, HostType],
        overrides: Overrides,
    ) -> None:
        self._service = service
        self._table = table
        self._host_types = host_types
        self._overrides = overrides

    @operation(
        "GET",
        "/domains/{domain}/limits",
        summary="Say what a domain may use",
        success=200,
        answer=_ANSWER,
        raises=(DomainNotFound,),
    )
    async def describe(self, call: Call) -> Reply:
        domain = call.domain()
        host_type = await host_type_of(domain, self._table, self._service, self._host_types)
        return Reply(200, self._answer(domain, host_type))

    @operation(
        "PATCH",
        "/domains/{domain}/limits",
        summary="Change what a domain may use",
        description="In force at this node when the answer is there. What is above a new limit stays.",
        body=_CHANGES,
        success=200,
        answer=_ANSWER,
        raises=(DomainNotFound, BadLimit),
    )
    async def change(self, call: Call) -> Reply:
        domain, changes = call.domain(), _changes(call.whole_body())
        host_type = await host_type_of(domain, self._table, self._service, self._host_types)
        if changes:
            await self._overrides.change(domain, changes, is_static=host_type.is_static)
        return Reply(200, self._answer(domain, host_type))

    def _answer(self, domain: str, host_type: HostType) -> Schema:
        own = self._overrides.of(domain)
        limits = cast("HostTypeLimits", host_type.require(DomainLimits))
        return {"limits": _shown(in_force(limits.defaults, own)), "own": _shown(own)}


def _changes(body: Mapping[str, Any]) -> dict[str, float | None]:
    """Raises BadLimit, with the words that the configuration file is told of the same mistake."""
    given = {name: value for name, value in body.items() if value is not None or name not in LIMITS}
    try:
        limits = _READER.structure(given, Limits)
    except BaseValidationError as error:
        raise BadLimit("; ".join(map(str, problems_of("", mistakes_in(error))))) from None
    return {name: getattr(limits, name) for name in body}


def _shown(limits: Mapping[str, float]) -> dict[str, Any]:
    return {name: "infinity" if limits[name] == inf else limits[name] for name in LIMITS if name in limits}
