"""What the core needs from above, and what modules may rely on: contracts, no code.

Whoever implements one of these does not have to name it (typing.Protocol); the composition root hands the objects in.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.words.xish import domish

from dynxmpp.commit import CommitTicket
from dynxmpp.jid import JID
from dynxmpp.protocol.disco_info import DiscoInfo, Identity
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stanza import Stanza

if TYPE_CHECKING:
    from dynxmpp.core.iq_registry import IQ, Answer

T = TypeVar("T")


#: Time in seconds, and calls later.
Clock = IReactorTime


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

    def call_soon(self, function: Callable[[], None]) -> None:
        """Calls `function` when the reactor has dealt with what it has read."""

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, commits when it returns, rolls back when it raises."""


class Announcements(Protocol):
    """What nodes say to each other by the database, with pg_notify (db.notify.Notifications)."""

    def subscribe(
        self, channel: str, callback: Callable[[str], None], *, on_reconnect: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        """Calls `callback(payload)` for what is said on `channel`; the function that is given ends that.

        `on_reconnect()` is called when something may have been missed.
        """


@dataclass(frozen=True, slots=True)
class Stored:
    """A table that keeps tenants' data: what must go with a domain, and (by `user`, a localpart) with an account."""

    table: str
    domain: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A table whose rows are a domain's by way of another one: `condition` is SQL with one `%s` for the domain."""

    table: str
    condition: str


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
    #: Asked about each stanza before it is sent, while a module has put one here; True: it has taken the stanza.
    gate: "Gate | None"

    def deliver(self, stanza: Stanza, data: bytes) -> None:
        """Sends `data`, the bytes of `stanza`, unless the gate takes it.

        Never waits, never raises for a peer's fault.
        """

    def send(self, stanza: Stanza, data: bytes) -> None:
        """As `deliver`, round the gate: for what a gate has kept."""

    def deliver_stored(self, stanza: Stanza, data: bytes, acknowledged: Callable[[bool], None]) -> None:
        """As `deliver`, for what stays stored until the client has it for certain: `acknowledged(True)` then.

        `acknowledged(False)`: the session ended before; the stanza is not delivered elsewhere by the session.
        """

    @property
    def is_connected(self) -> bool:
        """Is there a connection, or does the session wait for its client to come back (XEP-0198)?"""

    def slow_down(self, slow: bool) -> None:
        """Stops reading from the client, and begins again: more of its stanzas wait than is good."""

    def end(self, error: StreamError) -> None:
        """Closes the stream with an error; the session leaves the table at once."""


#: Takes a stanza (and its bytes) out of what is sent to a session: True when it has.
Gate = Callable[[Stanza, bytes], bool]


class ArchivedCopies(set[str]):
    """A slot of a session that is not available yet: ids of messages that it was given out of its archive (XEP-0313).

    Such a message need not be delivered from offline storage as well.
    """


class SubscriptionBook(Protocol):
    """Who may see whose presence: what the roster knows, for modules that depend on it."""

    async def load(self, account: JID) -> None:
        """Makes `subscription()` of this account answerable without waiting."""

    def subscription(self, account: JID, contact: JID) -> str | None:
        """`none`, `to`, `from`, `both` as `account` sees `contact`; None while the account is not loaded."""

    def subscribers(self, account: JID) -> Sequence[JID] | None:
        """The contacts that get the account's presence (`from`, `both`); None while the account is not loaded."""

    def subscribed_to(self, account: JID) -> Sequence[JID] | None:
        """The contacts whose presence the account gets (`to`, `both`); None while the account is not loaded."""

    def requests(self, account: JID) -> Sequence[Stanza] | None:
        """The requests for the account's presence that wait for an answer; None while the account is not loaded."""


class DomainDisco(Protocol):
    """What the domains of a host type announce (XEP-0030), for who repeats it elsewhere."""

    def domain_info(self) -> DiscoInfo:
        """The same for all domains of the host type. Not to be asked before all modules have started."""


class AccountNodes(Protocol):
    """What accounts have below them besides resources (XEP-0163). Who may see it is for the provider to decide."""

    #: What an account is because of it.
    identities: tuple[Identity, ...]

    async def nodes(self, account: JID, asker: JID) -> Sequence[str]:
        """The nodes of an account that `asker` may know of."""

    async def node_info(self, account: JID, node: str, asker: JID) -> DiscoInfo | None:
        """None for a node that is not there, or not for `asker`."""


class Blocklist(Protocol):
    """Whom accounts have blocked (XEP-0191), for those who send on an account's behalf."""

    async def load(self, account: JID) -> None:
        """Makes `blocks()` of this account answerable without waiting."""

    def blocks(self, account: JID, contact: JID) -> bool | None:
        """Has `account` blocked `contact`? None while the account is not loaded."""


class Wall(Protocol):
    """What separates the domains of a host type from all others, for who brings something in without a stanza."""

    def separates(self, sender: str, recipient: str) -> bool:
        """Does nothing come from the domain or service `sender` to `recipient`, which is of this host type?"""


class CarbonCopies(Protocol):
    """Which sessions get copies of what other resources of their account send and receive (XEP-0280)."""

    def enabled(self, session: Session) -> bool: ...

    def refused(self, error: Stanza, sender: JID, recipient: JID) -> None:
        """Copies an error that went straight to the session it is for; the addresses are those of the error."""


class RoomArchive(Protocol):
    """The archives of rooms (XEP-0313), for the service that has the rooms. `domain` is the parent of the service."""

    #: What is announced of the service and of each room.
    features: tuple[str, ...]

    def serves(self, pattern: str) -> bool:
        """Are the rooms of the service with this pattern (`muclight.@HOST@`) archived?"""

    async def load(self, room: JID, domain: str) -> None:
        """Reads what `store` will need of a room, so that its first message is written as fast as the others."""

    def store(self, room: JID, sender: JID | None, stanza: Stanza, ticket: CommitTicket) -> str | None:
        """Archives a message as it shall be read back: `from` the room or an occupant, no `to`.

        `sender` is the author in full, None for the room itself. Gives the id under which the room announces it
        (XEP-0359), None for what is not kept. `ticket` is held until it is committed. Raises Unavailable.
        """

    async def release(self, room: JID, domain: str, transaction: Transaction) -> None:
        """Part of the transaction that destroys a room, on the host type's database: its archive loses the address.

        May be repeated. Once it is committed, `clean` is to be called, and `forget` on other nodes.
        """

    def clean(self, room: JID, domain: str) -> None:
        """The room was destroyed: what its archive had is removed in the background."""

    def forget(self, room: JID, domain: str) -> None:
        """The room was destroyed on another node, or may have been."""

    async def answer(self, room: JID, domain: str, iq: "IQ", *, is_owner: bool) -> "Answer":
        """Answers a request about the archive by one who may see it; other payloads with StanzaError.

        Results go to `iq.sender` first. `is_owner` says who may set preferences.
        """


class RosterRooms(Protocol):
    """Rooms that stand in the rosters of their members."""

    async def rostered(self, account: JID) -> Sequence[domish.Element]:
        """Items in the namespace jabber:iq:roster. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class RoomDescription:
    """A room, for the administration: affiliations and fields as they are called on the wire."""

    jid: JID
    version: str
    members: Mapping[JID, str]
    config: Mapping[str, str | int | float | bool]


class RoomAdmin(Protocol):
    """The administration of rooms. What a member would be refused is refused here: StanzaError, Unavailable.

    All that is written has been committed when a call returns.
    """

    def address(self, domain: str, name: str) -> JID:
        """The address of the room with this (prepared) name below a domain."""

    async def list_rooms(self, domain: str, after: str | None, limit: int) -> Sequence[JID]:
        """At most `limit` rooms below a domain, ordered by name; those after a name."""

    async def count_rooms(self, domain: str) -> int:
        """How many rooms there are below a domain."""

    async def describe(self, room: JID) -> RoomDescription: ...

    async def create(
        self,
        domain: str,
        name: str | None,
        owner: JID,
        members: Collection[JID],
        config: Mapping[str, object],
    ) -> RoomDescription:
        """A new room; without a name the server makes one up. Bad fields are bad-request."""

    async def configure(self, room: JID, config: Mapping[str, object]) -> None: ...

    async def affiliate(self, room: JID, wanted: Mapping[JID, str], *, by: JID | None = None) -> None:
        """Makes users `owner`, `member` or `none`; `by` a member with that member's rights, else by the server."""

    async def send(self, room: JID, sender: JID, body: str) -> None:
        """Says something as a member."""

    async def destroy(self, room: JID) -> None: ...


class DomainLimits(Protocol):
    """What the domains of a host type may use; the names are the options of config.limits.Limits."""

    def limit(self, domain: str, name: str) -> float:
        """Never waits; `inf` for no limit."""

    def is_full(self, domain: str, size: int) -> "bool | Awaitable[bool]":
        """Has a domain stored as many bytes as it may (`stored_bytes`)? If not, `size` more are counted as stored.

        Waits when its figure is not in memory or too old. Raises Unavailable then.
        """


class AccountAdmin(AccountDirectory, Protocol):
    """Accounts that can be changed. What is refused is an auth.base.AccountError."""

    async def create(self, domain: str, username: str, password: str) -> None: ...
    async def set_password(self, domain: str, username: str, password: str) -> None: ...
    async def remove(self, domain: str, username: str) -> None:
        """Removes the account itself; what modules keep of it is theirs."""


class AccountRemover(Protocol):
    """Removes what is stored of an account, wherever; the account itself goes by AccountAdmin."""

    async def remove_account(self, account: JID) -> None:
        """May be repeated."""


class Registration(Protocol):
    """In-band registration before authentication (XEP-0077 3.1), as streams are offered it."""

    #: For the features of a stream that has not authenticated yet.
    stream_feature: bytes

    def form(self) -> domish.Element:
        """The payload that answers a get."""

    async def register(self, domain: str, query: domish.Element, address: str) -> None:
        """Creates the account that a set asks for; `address` is the client's IP address. Raises StanzaError.

        The error must be sent without the request, which has a password in it.
        """
