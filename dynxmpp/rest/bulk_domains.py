"""Many domains with one request: a line of JSON for each, in batches of one transaction."""

from collections.abc import Sequence
from typing import Final

from dynxmpp.domains.errors import (
    DomainExists,
    DomainIsStatic,
    InvalidDomain,
    ServiceDisabled,
    UnknownHostType,
)
from dynxmpp.domains.service import DomainService, prepare_name
from dynxmpp.rest.dialect import Dialect
from dynxmpp.rest.errors import RequestError
from dynxmpp.rest.lines import DATABASE_ERRORS, Line, Result, answer_lines, member, object_of, refusal
from dynxmpp.rest.operation import JSON_LINES, Call, Reply, Schema, object_schema, operation

__all__ = ["BATCH_LINES", "OUTCOMES", "BulkDomainsApi"]

#: Domains of one transaction.
BATCH_LINES: Final = 500
#: What a line can come to.
OUTCOMES: Final[Schema] = {
    "result": {"type": "string", "enum": ["created", "exists", "error"]},
    "error": {"type": "string", "description": "Why, with the result `error`."},
}


class BulkDomainsApi:
    """Adding by {path}/domains."""

    def __init__(self, service: DomainService, dialect: Dialect) -> None:
        self._service = service
        self._dialect = dialect

    @operation(
        "POST",
        "/domains",
        summary="Add many domains",
        description="A line of the answer for each line of the request, in the same order; blank lines are skipped. A "
        "domain that is there already with this host type stays as it is, and is told by `exists`. A line that is "
        "wrong harms no other. The answer is written while the request is read: read it while you send, or send no "
        "more than 2,000 lines at once. If the database fails after the beginning, the connection is cut before the "
        "end of the body.",
        upload=JSON_LINES,
        body=object_schema(
            {
                "domain": {"type": "string", "minLength": 1, "format": "xmpp-domain", "examples": ["example.org"]},
                "host_type": {"type": "string", "examples": ["basic"]},
            }
        ),
        success=200,
        answer=object_schema({"domain": {"type": ["string", "null"]}, **OUTCOMES}, optional=("error",)),
        media_type=JSON_LINES,
        raises=(ServiceDisabled,),
    )
    async def insert(self, call: Call) -> Reply:
        return Reply(200, chunks=answer_lines(call.upload, BATCH_LINES, self._insert))

    async def _insert(self, lines: Sequence[Line]) -> tuple[list[Result], Exception | None]:
        results: list[Result] = []
        entries: dict[int, tuple[str, str]] = {}
        for number, line in enumerate(lines):
            read = self._read(line)
            if isinstance(read, tuple):
                entries[number] = read
                results.append({})
            else:
                results.append(read)
        end: Exception | None = None
        try:
            outcomes: Sequence[object] = await self._service.insert_many(list(entries.values()))
        except (*DATABASE_ERRORS, ServiceDisabled) as error:
            outcomes, end = [error] * len(entries), error
        for (number, (domain, _)), outcome in zip(entries.items(), outcomes, strict=True):
            results[number] = {"domain": domain, **self._told(outcome)}
        return results, end

    def _read(self, line: Line) -> tuple[str, str] | Result:
        """The prepared name and the host type of a line, or what is wrong with it."""
        domain: str | None = None
        try:
            given = object_of(line)
            domain = member(given, "domain")
            host_type = member(given, "host_type")
            return prepare_name(domain), host_type
        except (RequestError, InvalidDomain) as error:
            return {"domain": domain, **refusal(self._dialect, error)}

    def _told(self, outcome: object) -> dict[str, str]:
        match outcome:
            case bool():
                return {"result": "created" if outcome else "exists"}
            case DomainIsStatic() | UnknownHostType() | DomainExists() | Exception():
                return refusal(self._dialect, outcome)
        raise AssertionError(outcome)
