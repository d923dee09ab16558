"""What the core needs from above, and what modules may rely on: contracts, no code.

Whoever implements one of these does not have to name it (typing.Protocol); the composition root hands the objects in.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dynxmpp.jid import JID
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stanza import Stanza

T = TypeVar("T")


class Clock(Protocol):
    """Time in seconds, and calls later: the part of Twisted's IReactorTime that the server uses."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Any: ...  # noqa: A002


class Transaction(Protocol):
    """Statements on one connection, committed together."""

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...
    async def execute(self, sql: str, params: Sequence[object] = ()) -> int: ...


class Database(Protocol):
    """A pool of connections. All calls raise wire.errors.Unavailable when it is away or does not answer in time."""

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement."""

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """The number of rows that one statement touched."""

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, commits when it returns, rolls back when it raises."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A table that keeps tenants' data: what must go with a domain, and (by `user`, a localpart) with an account."""

    table: str
    domain: str
    user: str | None = None


class AccountDirectory(Protocol):
    """Which accounts of a host type's domains exist."""

    def known(self, domain: str, username: str) -> bool:
        """True when it is known without asking anybody that the account exists; False says nothing."""

    async def exists(self, domain: str, username: str) -> bool: ...


class Session(Protocol):
    """A bound resource (RFC 6120 7), wherever its stream is."""

    jid: JID
    #: Has sent initial presence and not taken it back (RFC 6121 4.2). Kept by the presence module.
    available: bool
    #: RFC 6121 4.7.2.3; meaningful while available.
    priority: int
    #: The last presence that was broadcast, stamped; None while unavailable.
    presence: Stanza | None
    #: Has asked for the roster (RFC 6121 2.1.6: an interested resource).
    wants_roster: bool
    #: Seconds of the clock at which the resource was bound.
    bound_at: float
    #: State that modules keep for this session, each under its own class.
    slots: dict[type, Any]

    def deliver(self, stanza: Stanza, data: bytes) -> None:
        """Sends `data`, the bytes of `stanza`. Never waits, never raises for a peer's fault."""

    def slow_down(self, slow: bool) -> None:
        """Stops reading from the client, and begins again: more of its stanzas wait than is good."""

    def end(self, error: StreamError) -> None:
        """Closes the stream with an error; the session leaves the table at once."""


class SubscriptionBook(Protocol):
    """Who may see whose presence: what the roster knows, for modules that depend on it."""

    async def load(self, account: JID) -> None:
        """Makes `subscription()` of this account answerable without waiting."""

    def subscription(self, account: JID, contact: JID) -> str | None:
        """`none`, `to`, `from`, `both` as `account` sees `contact`; None while the account is not loaded."""
