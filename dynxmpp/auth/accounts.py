"""The accounts of one host type, whatever methods are behind them."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

from dynxmpp.auth.base import AuthMethod, Credentials, Localparts, NoSuchAccount, NotSupported
from dynxmpp.auth.scram import DEFAULT_ITERATIONS, ScramRecord, fake_record

__all__ = ["Accounts"]

#: Accounts remembered to exist; about 300 bytes each.
DEFAULT_CACHE_ENTRIES: Final = 65536

_T = TypeVar("_T")


class _KnownAccounts:
    """Least recently used set of (domain, username), with all names of a domain at hand."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._order: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._of_domain: dict[str, set[str]] = {}

    def __contains__(self, account: tuple[str, str]) -> bool:
        if account not in self._order:
            return False
        self._order.move_to_end(account)
        return True

    def add(self, account: tuple[str, str]) -> None:
        self._order[account] = None
        self._order.move_to_end(account)
        self._of_domain.setdefault(account[0], set()).add(account[1])
        while len(self._order) > self._entries:
            self._forget_name(self._order.popitem(last=False)[0])

    def discard(self, account: tuple[str, str]) -> None:
        if account in self._order:
            del self._order[account]
            self._forget_name(account)

    def discard_domain(self, domain: str) -> None:
        for username in self._of_domain.pop(domain, ()):
            del self._order[domain, username]

    def _forget_name(self, account: tuple[str, str]) -> None:
        names = self._of_domain[account[0]]
        names.discard(account[1])
        if not names:
            del self._of_domain[account[0]]


class Accounts:
    """Asks `methods` in their order, and remembers which accounts exist.

    Only positive answers are remembered: an account that another node creates is seen at once; one that another node
    removes stays known here until `forget` or `forget_domain` is called or the entry is displaced.

    `secret` and `iterations` shape what a client sees of accounts that do not exist: see `scram.fake_record`. Accounts
    taken over from elsewhere with another iteration count can be told from those; giving them a new password ends it.
    """

    def __init__(
        self,
        methods: Sequence[AuthMethod],
        *,
        secret: bytes,
        iterations: int = DEFAULT_ITERATIONS,
        cache_entries: int = DEFAULT_CACHE_ENTRIES,
    ) -> None:
        self._methods = tuple(methods)
        self._secret = secret
        self._iterations = iterations
        self._known = _KnownAccounts(cache_entries)
        # Goes up with each removal: an answer that was on its way meanwhile may be out of date and is not remembered.
        self._removals = 0

    def only(self, names: Collection[str]) -> "Accounts":
        """The same accounts as far as these methods have them; remembers for itself."""
        methods = [method for method in self._methods if method.name in names]
        return Accounts(methods, secret=self._secret, iterations=self._iterations)

    def mechanisms(self) -> frozenset[str]:
        """SASL mechanisms that at least one method can serve, without -PLUS."""
        return frozenset().union(*(method.mechanisms for method in self._methods))

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        """Whether a method accepts this password; the first that does ends the search."""
        return await self._any(domain, username, lambda method: method.check_password(domain, username, password))

    async def exists(self, domain: str, username: str) -> bool:
        """Whether there is such an account."""
        if self.known(domain, username):
            return True
        return await self._any(domain, username, lambda method: method.exists(domain, username))

    def known(self, domain: str, username: str) -> bool:
        """True if the account is remembered to exist; False means that `exists` has to be asked."""
        return (domain, username) in self._known

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord:
        """The account's record, or one that no password fits if there is none."""
        removals = self._removals
        for method in self._methods:
            record = await method.scram_record(domain, username, hash_name)
            if record is not None:
                self._remember(domain, username, removals)
                return record
        return fake_record(self._secret, domain, username, hash_name, self._iterations)

    async def create(self, domain: str, username: str, password: str) -> None:
        """Raises AccountExists, TooManyAccounts, InvalidPassword, NotSupported."""
        removals = self._removals
        await self._first(lambda method: method.create(domain, username, password))
        self._remember(domain, username, removals)

    async def set_password(self, domain: str, username: str, password: str) -> None:
        """Raises NoSuchAccount, InvalidPassword, NotSupported."""
        await self._first(lambda method: method.set_password(domain, username, password))

    async def remove(self, domain: str, username: str) -> None:
        """Raises NoSuchAccount, NotSupported."""
        self.forget(domain, username)
        try:
            await self._first(lambda method: method.remove(domain, username))
        finally:
            # Again: an answer from before the removal may have been remembered during it.
            self.forget(domain, username)

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts:
        """Up to `limit` user names in code point order, after `after` if given. Raises NotSupported."""
        return await self._first(lambda method: method.list(domain, after, limit))

    async def count(self, domain: str) -> int:
        """Number of accounts of the domain. Raises NotSupported."""
        return await self._first(lambda method: method.count(domain))

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        """What up to `limit` accounts log in with, in the order of `list`. Raises NotSupported."""
        return await self._first(lambda method: method.credentials(domain, after, limit))

    async def adopt(
        self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool = False
    ) -> None:
        """An account with records from elsewhere: a new one, or with `overwrite` one that is there.

        Raises AccountExists, NoSuchAccount, TooManyAccounts, NotSupported, InvalidScramRecord.
        """
        removals = self._removals
        await self._first(lambda method: method.adopt(domain, username, records, overwrite=overwrite))
        self._remember(domain, username, removals)

    def forget(self, domain: str, username: str) -> None:
        """To be called when the account was removed without this object."""
        self._removals += 1
        self._known.discard((domain, username))

    def forget_domain(self, domain: str) -> None:
        """To be called when the domain stops being served, and again when its rows are gone."""
        self._removals += 1
        self._known.discard_domain(domain)

    def _remember(self, domain: str, username: str, removals: int) -> None:
        if removals == self._removals:
            self._known.add((domain, username))

    async def _any(self, domain: str, username: str, ask: Callable[[AuthMethod], Awaitable[bool]]) -> bool:
        removals = self._removals
        for method in self._methods:
            if await ask(method):
                self._remember(domain, username, removals)
                return True
        return False

    async def _first(self, ask: Callable[[AuthMethod], Awaitable[_T]]) -> _T:
        """The answer of the first method that supports the question and, if it is about an account, has it."""
        refusal: NotSupported | NoSuchAccount = NotSupported("no auth method supports this")
        for method in self._methods:
            try:
                return await ask(method)
            except NotSupported:
                continue
            except NoSuchAccount as error:
                refusal = error
        raise refusal
