"""Takes a document over, an account at a time.

An account is made when its element is complete, and what modules have of it is stored then. Where that is more than is
held in memory, the modules get it while it comes; if the rest does not, or the account is refused, it is removed again,
unless the account was there before.

What an account has already stays: modules add to it what is not there. So a document can be taken over again, after an
error for example.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.auth.base import AccountError, AccountExists
from dynxmpp.auth.scram import InvalidScramRecord, ScramRecord
from dynxmpp.jid import JID, InvalidJID, prepare_domain, prepare_local
from dynxmpp.portability.credentials import SCRAM_KEY, mechanism_of, read_record, usable
from dynxmpp.portability.portable import Portable, PortableAccounts
from dynxmpp.portability.reader import (
    Child,
    DocumentError,
    DocumentReader,
    Event,
    Foreign,
    Host,
    LeftOut,
    User,
)
from dynxmpp.portability.renaming import renaming
from dynxmpp.portability.report import Report, shown
from dynxmpp.protocol.pie import Imported, NotImported
from dynxmpp.wire.errors import StanzaError

__all__ = ["Importer", "Options"]

#: Bytes of an account's elements in the document that are held until it is complete.
HELD_BYTES: Final = 1 << 20

log = Logger()


@dataclass(frozen=True, slots=True)
class Options:
    """`host`: the one of the document that is taken, by its prepared name. `overwrite`: new passwords for accounts that
    are there. `dry_run`: nothing is written."""

    host: str
    overwrite: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class _Arriving:
    """A <user/> as far as it has come in."""

    jid: JID
    password: str | None
    existed: bool
    records: list[ScramRecord] = field(default_factory=list)
    held: list[Child] = field(default_factory=list)
    size: int = 0
    #: Have modules been given something before the account was complete?
    has_begun: bool = False


class Importer:
    """Takes one document over into `domain`. `report` says how far it has come.

    `begin` is awaited once, when the host is found that is wanted, and may refuse; `is_served` is asked before each
    account; `remove_account` removes what modules have of one.
    """

    def __init__(
        self,
        domain: str,
        accounts: PortableAccounts,
        modules: Iterable[Portable],
        options: Options,
        *,
        begin: Callable[[], Awaitable[object]],
        is_served: Callable[[], bool],
        remove_account: Callable[[JID], Awaitable[None]],
    ) -> None:
        self.report = Report(domain, options.dry_run)
        self._domain = domain
        self._accounts = accounts
        self._options = options
        self._begin = begin
        self._is_served = is_served
        self._remove_account = remove_account
        self._rename = renaming(options.host, domain)
        self._takers: dict[str, list[tuple[Imported, Portable]]] = {}
        for module in modules:
            for imported in module.imported:
                self._takers.setdefault(imported.key, []).append((imported, module))
        self._reader = DocumentReader(wants_host=self._wants_host, comes_in_parts=self._comes_in_parts)
        self._user: _Arriving | None = None
        self._found_host = False

    def _wants_host(self, jid: str) -> bool:
        try:
            return prepare_domain(jid) == self._options.host
        except InvalidJID:
            return False

    def _comes_in_parts(self, key: str) -> bool:
        return any(imported.in_parts for imported, _ in self._takers.get(key, ()))

    async def run(self, pieces: AsyncIterable[bytes]) -> Report:
        """Takes over what comes in `pieces`. Raises DocumentError, and what the pieces, accounts and modules raise."""
        try:
            async for data in pieces:
                await self._handle(self._reader.feed(data))
            await self._handle(self._reader.close())
            if not self._found_host:
                hosts = ", ".join(self.report.other_hosts) or "none"
                raise DocumentError(f"the document has no host {self._options.host}; it has: {hosts}")
        except DocumentError as error:
            await self._withdraw()
            raise DocumentError(self._broken(str(error))) from error
        except BaseException:
            if self._user is not None:
                log.warn("import_stopped", account=self._user.jid.bare)
            await self._withdraw()
            raise
        return self.report

    def _broken(self, reason: str) -> str:
        """What is wrong with the document, and what has been done of it."""
        inside = "" if self._user is None else f", inside of the account {self._user.jid.local}, which was left out"
        return f"{reason}{inside}; done before: {self.report.summary()}"

    async def _withdraw(self) -> None:
        """Nothing stays of an account that has not arrived as a whole and was not there before."""
        user = self._user
        if user is not None and user.has_begun and not user.existed:
            await self._remove_account(user.jid)

    # -- events

    async def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            match event:
                case Child():
                    await self._child(event)
                case User():
                    await self._start_user(event)
                case Host(jid=jid, wanted=wanted):
                    await self._host(jid, wanted)
                case Foreign(key=key):
                    self.report.count_unknown(key)
                case LeftOut(key=key, reason=reason):
                    if self._user is not None:
                        self._problem(self._user, f"{shown(key)} is left out: {reason}")
                case _:
                    await self._end_user()

    async def _host(self, jid: str, wanted: bool) -> None:
        if not wanted:
            self.report.count_other_host(jid)
        elif not self._found_host:
            self._found_host = True
            await self._begin()

    async def _start_user(self, event: User) -> None:
        if not (self._options.dry_run or self._is_served()):
            raise DocumentError("the domain is served no longer")
        try:
            jid = JID.of(prepare_local(event.name), self._domain)
        except InvalidJID as error:
            self.report.accounts["refused"] += 1
            self.report.problem(f"line {self._reader.line}", f"{event.name[:60]!r} is no user name: {error}")
            self._user = None
            return
        existed = await self._accounts.exists(self._domain, jid.local or "")
        self._user = _Arriving(jid, event.password or None, existed)

    async def _child(self, child: Child) -> None:
        user = self._user
        if user is None:
            return  # the account is refused
        if child.key == SCRAM_KEY:
            try:
                user.records.append(read_record(child.element))
            except InvalidScramRecord as error:
                self._problem(user, f"SCRAM credentials are left out: {error}")
        elif child.key not in self._takers:
            self.report.count_unknown(child.key)
        else:
            user.held.append(child)
            user.size += child.size
            if user.size > HELD_BYTES:
                user.has_begun = not self._options.dry_run
                await self._store(user)

    # -- accounts

    async def _end_user(self) -> None:
        user = self._user
        if user is None:
            return
        if user.has_begun:
            await self._store(user)
            if not await self._make(user):
                await self._withdraw()
        elif await self._make(user):
            await self._store(user)
        self._user = None

    async def _make(self, user: _Arriving) -> bool:
        """Makes the account if there is none; False when it is refused."""
        kept, rest = usable(user.records)
        if rest and user.password is None:
            names = ", ".join(map(mechanism_of, rest))
            self._problem(user, f"{names}: left out, an account has one record for each and one iteration count")
        try:
            if user.existed:
                if self._options.overwrite and (user.password is not None or kept):
                    await self._give_password(user, kept)
            elif user.password is None and not kept:
                self.report.accounts["refused"] += 1
                self._problem(user, "refused: neither a password nor SCRAM credentials that can be taken over")
                return False
            else:
                await self._create(user, kept)
        except AccountError as error:
            self.report.accounts["refused"] += 1
            self._problem(user, f"refused: {_reason(error)}")
            return False
        self.report.accounts["existing" if user.existed else "created"] += 1
        return True

    async def _create(self, user: _Arriving, records: list[ScramRecord]) -> None:
        """Raises AccountError."""
        if not self._options.dry_run:
            username = user.jid.local or ""
            try:
                if user.password is not None:
                    await self._accounts.create(self._domain, username, user.password)
                else:
                    await self._accounts.adopt(self._domain, username, records)
            except AccountExists:  # since we have asked
                user.existed = True
                return
        self._count_credentials(user, records)

    async def _give_password(self, user: _Arriving, records: list[ScramRecord]) -> None:
        """Raises AccountError."""
        if not self._options.dry_run:
            username = user.jid.local or ""
            if user.password is not None:
                await self._accounts.set_password(self._domain, username, user.password)
            else:
                await self._accounts.adopt(self._domain, username, records, overwrite=True)
        self._count_credentials(user, records)

    def _count_credentials(self, user: _Arriving, records: list[ScramRecord]) -> None:
        names = ["password"] if user.password is not None else map(mechanism_of, records)
        self.report.credentials.update(names)

    # -- what modules have

    async def _store(self, user: _Arriving) -> None:
        """Hands what is held to the modules."""
        held, user.held, user.size = user.held, [], 0
        for child in held:
            await self._hand_over(user, child)

    async def _hand_over(self, user: _Arriving, child: Child) -> None:
        """To the first module that takes it."""
        element = child.element
        self._rename(element)
        for imported, module in self._takers[child.key]:
            number = _number(imported, element)
            if self._options.dry_run:
                self.report.taken[imported.kind] += number
                return
            try:
                if await module.import_element(user.jid, element):
                    self.report.taken[imported.kind] += number
                    return
            except NotImported as error:
                for problem in error.problems:
                    self._problem(user, problem)
                self.report.taken[imported.kind] += max(0, number - len(error.problems))
                return
            except StanzaError as error:
                self._problem(user, f"{shown(child.key)} is left out: {error.text or error.condition}")
                return
        self.report.count_unknown(child.key)

    def _problem(self, user: _Arriving, text: str) -> None:
        self.report.problem(user.jid.bare, text)


def _number(imported: Imported, element: domish.Element) -> int:
    return sum(1 for _ in element.elements()) if imported.in_parts else 1


def _reason(error: AccountError) -> str:
    """Why an account was refused: the kind of error, and what it says of itself."""
    kind = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(error).__name__).strip()
    return f"{kind} ({error})" if str(error) else kind
