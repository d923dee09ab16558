"""Accounts of the domains that this node serves, static ones included."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

from dynxmpp.auth.base import (
    AccountExists,
    InvalidPassword,
    Localparts,
    NoSuchAccount,
    NotSupported,
    TooManyAccounts,
)
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import AccountAdmin
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.jid import JID
from dynxmpp.rest.domains import list_schema, next_of
from dynxmpp.rest.errors import InvalidUsername
from dynxmpp.rest.operation import (
    AFTER,
    JSON_LINES,
    LIMIT,
    PREFIX,
    Call,
    Reply,
    Schema,
    object_schema,
    operation,
    prepared_username,
)
from dynxmpp.rest.personal_data import LINE, lines_of
from dynxmpp.wire.errors import StreamError

__all__ = ["UsersApi"]

USERNAME: Final[Schema] = {"type": "string", "minLength": 1, "format": "xmpp-localpart", "examples": ["alice"]}
PASSWORD: Final[Schema] = {"type": "string", "minLength": 1, "format": "xmpp-password"}


class ListedAccounts(AccountAdmin, Protocol):
    """What is needed of auth.accounts.Accounts."""

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts: ...


class UsersApi:
    """The resources below {path}/users/{domain}.

    `remove_account` removes what modules keep of an account (DomainRemover.remove_account). `host_types`: those whose
    modules may keep something of it, besides its domain's own.
    """

    def __init__(
        self,
        table: DomainTable[HostType],
        sessions: SessionTable,
        *,
        remove_account: Callable[[JID], Awaitable[None]],
        host_types: Iterable[HostType] = (),
    ) -> None:
        self._table = table
        self._sessions = sessions
        self._remove_account = remove_account
        self._host_types = tuple(host_types)

    def _host_type(self, domain: str) -> HostType:
        served = self._table.get(domain)
        if served is None:
            raise DomainNotFound(domain)
        return served.host_type

    def _accounts(self, domain: str) -> ListedAccounts:
        accounts: Any = self._host_type(domain).accounts
        return cast("ListedAccounts", accounts)

    @operation(
        "POST",
        "/users/{domain}",
        summary="Create an account",
        description="The answer has the name as it is kept, in its prepared form.",
        body=object_schema({"username": USERNAME, "password": PASSWORD}),
        success=201,
        answer=object_schema({"username": {"type": "string"}}),
        raises=(DomainNotFound, InvalidUsername, InvalidPassword, AccountExists, TooManyAccounts, NotSupported),
    )
    async def create(self, call: Call) -> Reply:
        domain = call.domain()
        username, password = prepared_username(call.text("username")), call.text("password")
        await self._accounts(domain).create(domain, username, password)
        return Reply(201, {"username": username}, {"Location": f"{quote(domain)}/{quote(username, safe='')}"})

    @operation(
        "GET",
        "/users/{domain}",
        summary="List the accounts of a domain by name",
        query=(PREFIX, AFTER, LIMIT),
        success=200,
        answer=list_schema("users", {"type": "string"}),
        raises=(DomainNotFound, NotSupported),
    )
    async def browse(self, call: Call) -> Reply:
        domain, limit = call.domain(), call.limit()
        names = await self._page(domain, call.parameter("prefix") or "", call.after(), limit + 1)
        return Reply(200, {"users": names[:limit], "next": next_of(names, limit)})

    async def _page(self, domain: str, prefix: str, after: str | None, limit: int) -> list[str]:
        accounts = self._accounts(domain)
        prefix = prefix.lower()
        if not prefix or "\0" in prefix:
            return [] if prefix else await accounts.list(domain, after, limit)
        # Names with the prefix lie behind it in one piece; it may be a name itself.
        first: list[str] = []
        if after is None or after < prefix:
            after = prefix
            first = [prefix] if await self._is_account(accounts, domain, prefix) else []
        found = await accounts.list(domain, after, limit)
        return (first + [name for name in found if name.startswith(prefix)])[:limit]

    async def _is_account(self, accounts: ListedAccounts, domain: str, name: str) -> bool:
        try:
            return prepared_username(name) == name and await accounts.exists(domain, name)
        except InvalidUsername:
            return False

    @operation(
        "GET",
        "/users/{domain}/{username}",
        summary="Look an account up",
        success=200,
        answer=object_schema(
            {
                "username": {"type": "string"},
                "sessions": {"type": "integer", "description": "Its sessions on the node that was asked."},
            }
        ),
        raises=(DomainNotFound, NoSuchAccount),
    )
    async def describe(self, call: Call) -> Reply:
        domain, username = call.domain(), call.username()
        if not await self._accounts(domain).exists(domain, username):
            raise NoSuchAccount(username)
        return Reply(200, {"username": username, "sessions": len(self._sessions.of(f"{username}@{domain}"))})

    @operation(
        "GET",
        "/users/{domain}/{username}/personal-data",
        summary="Hand out what is stored of an account",
        description="A line for each row of each table of each module. Passwords and what is derived from them are not "
        "among it. If something fails after the beginning, the connection is cut before the end of the body.",
        success=200,
        answer=LINE,
        media_type=JSON_LINES,
        raises=(DomainNotFound, NoSuchAccount),
    )
    async def personal_data(self, call: Call) -> Reply:
        domain, username = call.domain(), call.username()
        own = self._host_type(domain)
        if not await self._accounts(domain).exists(domain, username):
            raise NoSuchAccount(username)
        return Reply(200, chunks=lines_of(JID.of(username, domain), (own, *self._host_types)))

    @operation(
        "PUT",
        "/users/{domain}/{username}",
        summary="Give an account a new password",
        description="Sessions that are open stay open.",
        body=object_schema({"password": PASSWORD}),
        success=204,
        raises=(DomainNotFound, NoSuchAccount, InvalidPassword, NotSupported),
    )
    async def set_password(self, call: Call) -> Reply:
        domain, username, password = call.domain(), call.username(), call.text("password")
        await self._accounts(domain).set_password(domain, username, password)
        return Reply(204)

    @operation(
        "DELETE",
        "/users/{domain}/{username}",
        summary="Remove an account with all its data",
        description="Its sessions end with `not-authorized`. After an error the request can be repeated: it removes "
        "what is left even if it answers that there is no such account any more.",
        success=204,
        raises=(DomainNotFound, NoSuchAccount, NotSupported),
    )
    async def remove(self, call: Call) -> Reply:
        domain, username = call.domain(), call.username()
        account = JID.of(username, domain)
        missing: NoSuchAccount | None = None
        try:
            await self._accounts(domain).remove(domain, username)
        except NoSuchAccount as error:
            missing = error
        # Who was authenticated as this account is nobody any more (RFC 6120 4.9.3.12).
        for session in list(self._sessions.of(account.bare)):
            session.end(StreamError("not-authorized", "The account has been removed"))
        await self._remove_account(account)
        if missing is not None:
            raise missing
        return Reply(204)
