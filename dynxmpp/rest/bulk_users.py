"""Many accounts with one request: a line of JSON for each, of any domains that this node serves."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from dynxmpp.auth.base import AccountError, AccountExists
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.domains.errors import DomainNotFound, InvalidDomain
from dynxmpp.domains.service import prepare_name
from dynxmpp.jid import JID
from dynxmpp.rest.bulk_domains import OUTCOMES
from dynxmpp.rest.dialect import Dialect
from dynxmpp.rest.errors import RequestError
from dynxmpp.rest.lines import DATABASE_ERRORS, Line, Result, answer_lines, member, object_of, refusal
from dynxmpp.rest.operation import (
    JSON_LINES,
    Call,
    Reply,
    account_address,
    object_schema,
    operation,
    prepared_username,
)

__all__ = ["AT_ONCE", "BATCH_LINES", "BulkUsersApi"]

#: Accounts of which the results are written at once; deriving the keys of one takes some hundredths of a second.
BATCH_LINES: Final = 50
#: Keys that are derived at the same time: those who log in need the threads too.
AT_ONCE: Final = 4


class _Wanted:
    """An account of a batch, and what came of it: True, or the reason why it was not created."""

    def __init__(self, jid: JID, password: str) -> None:
        self.jid = jid
        self.password = password
        self.outcome: bool | Exception = False


class BulkUsersApi:
    """Adding by {path}/users."""

    def __init__(self, table: DomainTable[HostType], dialect: Dialect) -> None:
        self._table = table
        self._dialect = dialect

    @operation(
        "POST",
        "/users",
        summary="Create many accounts",
        description="A line of the answer for each line of the request, in the same order; blank lines are skipped. A "
        "line has the account's `jid`, or its `username` and `domain`. An account that is there already keeps its "
        "password, and is told by `exists`. A line that is wrong harms no other. The answer is written while the "
        "request is read: read it while you send, or send no more than 2,000 lines at once. If the database fails "
        "after the beginning, the connection is cut before the end of the body.",
        upload=JSON_LINES,
        body=object_schema(
            {
                "jid": {"type": "string", "format": "xmpp-account", "examples": ["alice@example.org"]},
                "username": {"type": "string", "minLength": 1, "format": "xmpp-localpart", "examples": ["alice"]},
                "domain": {"type": "string", "minLength": 1, "format": "xmpp-domain", "examples": ["example.org"]},
                "password": {"type": "string", "minLength": 1, "format": "xmpp-password"},
            },
            optional=("jid", "username", "domain"),
        ),
        success=200,
        answer=object_schema({"jid": {"type": ["string", "null"]}, **OUTCOMES}, optional=("error",)),
        media_type=JSON_LINES,
    )
    async def create(self, call: Call) -> Reply:
        return Reply(200, chunks=answer_lines(call.upload, BATCH_LINES, self._create))

    async def _create(self, lines: Sequence[Line]) -> tuple[list[Result], Exception | None]:
        read = [self._read(line) for line in lines]
        first: dict[JID, _Wanted] = {}
        again: list[_Wanted] = []
        for wanted in read:
            if isinstance(wanted, _Wanted) and first.setdefault(wanted.jid, wanted) is not wanted:
                again.append(wanted)
        failures: list[Exception] = []
        await self._create_all(list(first.values()), failures)
        # Of an account that stands there twice the lines are tried in their order.
        await self._work(iter(again), failures)
        return [self._result(wanted) for wanted in read], failures[0] if failures else None

    def _read(self, line: Line) -> _Wanted | Result:
        """What a line asks for, or what is wrong with it."""
        address: str | None = None
        try:
            given = object_of(line)
            if "jid" in given:
                address = member(given, "jid")
                jid = account_address(address, "user")
                prepare_name(jid.domain)
            else:
                username, domain = member(given, "username"), member(given, "domain")
                address = f"{username}@{domain}"
                jid = JID.of(prepared_username(username), prepare_name(domain))
            return _Wanted(jid, member(given, "password"))
        except (RequestError, InvalidDomain) as error:
            return {"jid": address, **refusal(self._dialect, error)}

    def _result(self, wanted: _Wanted | Result) -> Result:
        if not isinstance(wanted, _Wanted):
            return wanted
        jid, outcome = str(wanted.jid), wanted.outcome
        if isinstance(outcome, AccountExists):
            return {"jid": jid, "result": "exists"}
        if isinstance(outcome, Exception):
            return {"jid": jid, **refusal(self._dialect, outcome)}
        return {"jid": jid, "result": "created"}

    async def _create_all(self, accounts: Sequence[_Wanted], failures: list[Exception]) -> None:
        """Creates some at a time."""
        left = iter(accounts)
        workers = [Deferred.fromCoroutine(self._work(left, failures)) for _ in range(AT_ONCE)]
        results: Any = await DeferredList(workers, consumeErrors=True)
        for success, result in results:
            if not success:
                result.raiseException()

    async def _work(self, left: Iterator[_Wanted], failures: list[Exception]) -> None:
        """Creates what is left, unless the database has failed: what with is added to `failures`."""
        for wanted in left:
            if failures:
                wanted.outcome = failures[0]
                continue
            try:
                await self._create_one(wanted)
            except (AccountError, DomainNotFound) as error:
                wanted.outcome = error
            except DATABASE_ERRORS as error:
                wanted.outcome = error
                failures.append(error)

    async def _create_one(self, wanted: _Wanted) -> None:
        jid = wanted.jid
        served = self._table.get(jid.domain)
        if served is None:
            raise DomainNotFound(jid.domain)
        assert jid.local is not None
        accounts: Any = served.host_type.accounts
        await accounts.create(jid.domain, jid.local, wanted.password)
        wanted.outcome = True
