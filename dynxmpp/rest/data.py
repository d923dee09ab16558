"""All that is stored of a domain, as a document of XEP-0227: to be had, and to be taken over."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, cast

from dynxmpp.auth.base import NotSupported
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.domains.errors import (
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    InvalidDomain,
    ServiceDisabled,
    UnknownHostType,
)
from dynxmpp.domains.service import REPEATABLE, DomainService, prepare_name
from dynxmpp.jid import JID
from dynxmpp.module import Module
from dynxmpp.portability.exporting import document_of
from dynxmpp.portability.importing import Importer, Options
from dynxmpp.portability.portable import PortableAccounts
from dynxmpp.portability.reader import DocumentError
from dynxmpp.rest.errors import BadDocument, BadParameter
from dynxmpp.rest.operation import XML, Call, Parameter, Reply, Schema, object_schema, operation

__all__ = ["DataApi"]

_BOOLEAN: Final[Schema] = {"type": "boolean", "default": False}
_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "integer"}}

REPORT: Final = object_schema(
    {
        "domain": {"type": "string"},
        "dry_run": {"type": "boolean"},
        "accounts": object_schema({what: {"type": "integer"} for what in ("created", "existing", "refused")}),
        "credentials": {**_COUNTS, "description": "What accounts got to log in with, by kind."},
        "taken": {**_COUNTS, "description": "What modules have taken, by kind."},
        "unknown": {**_COUNTS, "description": "Elements that no module takes, by name."},
        "other_hosts": {**_COUNTS, "description": "Hosts of the document that were left out."},
        "problems": {"type": "array", "items": {"type": "string"}},
        "problems_left_out": {"type": "integer", "description": "Problems beyond those that are told."},
    }
)


class DataApi:
    """The resource {path}/domains/{domain}/data.

    `remove_account` removes what modules keep of an account (DomainRemover.remove_account); `host_types` are those of
    this node.
    """

    def __init__(
        self,
        service: DomainService,
        table: DomainTable[HostType],
        *,
        remove_account: Callable[[JID], Awaitable[None]],
        host_types: Iterable[HostType] = (),
    ) -> None:
        self._service = service
        self._table = table
        self._remove_account = remove_account
        self._host_types = {host_type.name: host_type for host_type in host_types}

    @operation(
        "GET",
        "/domains/{domain}/data",
        summary="Hand out all that is stored of a domain's accounts",
        description="A document of XEP-0227, with what accounts log in with. If something fails after the beginning, "
        "the connection is cut before the end of the body.",
        success=200,
        answer={"type": "string"},
        media_type=XML,
        raises=(DomainNotFound, NotSupported),
    )
    async def export(self, call: Call) -> Reply:
        domain = call.domain()
        served = self._table.get(domain)
        if served is None:
            raise DomainNotFound(domain)
        return Reply(200, chunks=document_of(domain, _accounts(served.host_type), _modules(served.host_type)))

    @operation(
        "PUT",
        "/domains/{domain}/data",
        summary="Take over accounts and what is stored of them",
        description="A document of XEP-0227, read as it comes in. What an account has already stays; the request can "
        "be repeated. A document that breaks off is taken as far as its accounts are complete.",
        query=(
            Parameter("host", "Which host of the document; the domain itself unless given.", {"type": "string"}),
            Parameter("host_type", "Adds the domain with this host type if it is not there.", {"type": "string"}),
            Parameter("overwrite", "Accounts that are there get the passwords of the document.", _BOOLEAN),
            Parameter("dry_run", "Nothing is written; the answer says what would be.", _BOOLEAN),
        ),
        upload=XML,
        success=200,
        answer=REPORT,
        raises=(
            DomainNotFound,
            DomainExists,
            DomainIsStatic,
            UnknownHostType,
            ServiceDisabled,
            NotSupported,
            BadDocument,
        ),
    )
    async def take_over(self, call: Call) -> Reply:
        domain, wanted_type = call.domain(), call.parameter("host_type")
        options = Options(_host(call, domain), overwrite=_flag(call, "overwrite"), dry_run=_flag(call, "dry_run"))
        host_type = self._host_type(domain, wanted_type)

        async def begin() -> None:
            if wanted_type is not None and not options.dry_run and domain not in self._table:
                await self._service.insert(domain, wanted_type, REPEATABLE)

        importer = Importer(
            domain,
            _accounts(host_type),
            _modules(host_type),
            options,
            begin=begin,
            is_served=lambda: domain in self._table,
            remove_account=self._remove_account,
        )
        return Reply(200, await self._run(importer, call.upload))

    async def _run(self, importer: Importer, pieces: AsyncIterable[bytes]) -> Any:
        try:
            return (await importer.run(pieces)).to_json()
        except DocumentError as error:
            raise BadDocument(str(error)) from error

    def _host_type(self, domain: str, wanted: str | None) -> HostType:
        """That of the domain, or the one that it is going to have."""
        served = self._table.get(domain)
        if served is not None:
            if wanted not in (None, served.host_type.name):
                raise DomainExists(domain)
            return served.host_type
        if wanted is None:
            raise DomainNotFound(domain)
        if not self._table.accepts(wanted) or wanted not in self._host_types:
            raise UnknownHostType(wanted)
        return self._host_types[wanted]


def _accounts(host_type: HostType) -> PortableAccounts:
    accounts: Any = host_type.accounts
    return cast("PortableAccounts", accounts)


def _modules(host_type: HostType) -> list[Module]:
    return [module for module in host_type if isinstance(module, Module)]


def _host(call: Call, domain: str) -> str:
    """The host of the document that is asked for. Raises BadParameter."""
    text = call.parameter("host")
    try:
        return domain if text is None else prepare_name(text)
    except InvalidDomain as error:
        raise BadParameter("host") from error


def _flag(call: Call, name: str) -> bool:
    """A parameter that is `true` or `false`. Raises BadParameter."""
    text = call.parameter(name)
    if text not in (None, "true", "false"):
        raise BadParameter(name)
    return text == "true"
