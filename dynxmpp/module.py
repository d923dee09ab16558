"""What the author of a module imports, and nothing else of the server.

A module is one extension: one file, one class, one instance per host type, a wokkel handler all the same. It declares
what it answers (`@iq_get`, `@iq_set`), what it looks at on the way (`filters()`), what it announces (`features`), what
it stores and how that goes away again (`stored`), the tables it needs (`migrations`), and what may stand in its section
of the configuration (`config_model`). What is declared here is all that the server knows of it.

Any other wokkel handler can be a module too: see `WokkelModule`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import maybeDeferred
from twisted.words.xish import domish
from wokkel.disco import DiscoFeature
from wokkel.iwokkel import IDisco
from wokkel.subprotocols import XMPPHandler

from dynxmpp.commit import CommitTicket
from dynxmpp.config.model import Section, option, section
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import BindHandler, HostType, NonzaHandler
from dynxmpp.core.interfaces import (
    Announcements,
    Clock,
    Database,
    DomainLimits,
    Measured,
    Session,
    Stored,
    SubscriptionBook,
    Transaction,
)
from dynxmpp.core.iq_registry import IQ, Answer, IQHandler, IQRoute, Target
from dynxmpp.core.pipeline import Direction, Filter, Phase, Stop, Verdict, Wait
from dynxmpp.core.router import Router
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.session_table import SessionTable
from dynxmpp.db.batch import BatchWriter
from dynxmpp.db.lookup import LookupCombiner
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.personal_data import PersonalTable, read_stored
from dynxmpp.jid import JID, InvalidJID
from dynxmpp.metrics import Metrics
from dynxmpp.protocol.pie import Imported, NotImported
from dynxmpp.turns import Turns
from dynxmpp.wire.errors import StanzaError, StreamError, Unavailable
from dynxmpp.wire.stanza import Stanza, qualified

__all__ = [
    "IQ",
    "JID",
    "Announcements",
    "Answer",
    "BatchWriter",
    "Clock",
    "CommitTicket",
    "Database",
    "Direction",
    "Filter",
    "Imported",
    "InvalidJID",
    "LookupCombiner",
    "Measured",
    "Migration",
    "Module",
    "ModuleContext",
    "NotImported",
    "PersonalTable",
    "Phase",
    "RoutingContext",
    "Section",
    "Session",
    "SessionTable",
    "Stanza",
    "StanzaError",
    "Stop",
    "Stored",
    "StreamError",
    "SubscriptionBook",
    "Target",
    "Transaction",
    "Turns",
    "Unavailable",
    "Verdict",
    "Wait",
    "WokkelModule",
    "Xep",
    "bind_inline",
    "iq_get",
    "iq_set",
    "nonza",
    "option",
    "qualified",
    "section",
    "storage_is_full",
]

M = TypeVar("M", bound=Callable[..., Any])

#: Where the decorators note what they have declared.
IQS = "_iq_routes"
NONZA = "_nonza_key"
BIND_INLINE = "_bind_key"


@dataclass(frozen=True, slots=True)
class Xep:
    """The extension that a module implements, and the version of its text that was followed."""

    number: int
    version: str


@section
class NoOptions(Section):
    """A module without any options: its section must be empty."""


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """The world as a module sees it; one object per host type, handed to each of its modules."""

    host_type: HostType
    router: Router
    sessions: SessionTable
    domains: DomainTable[HostType]
    database: Database
    clock: Clock
    #: Lets work go on in the background; what it raises is logged with the given event name.
    spawn: Callable[[str, Awaitable[object]], None]
    #: The configuration's `general.language`.
    language: str = "en"
    #: A number from 0 to 255 that no other process on the database has now: part of ids that must be unique.
    node_number: Callable[[], int] = lambda: 0
    #: Takes numbers for Prometheus; those of a module have the label `host_type`.
    metrics: Metrics = field(default_factory=Metrics)
    #: What all nodes on the host type's database say with pg_notify; None where there is only one.
    announcements: Announcements | None = None


def iq_get(namespace: str, name: str, at: Target, *, secret: bool = False) -> Callable[[M], M]:
    """The decorated method answers IQs of type get with this payload, addressed to one of these targets.

    It is given an `IQ` and returns the payload of the result, or None for an empty result, or a coroutine that gives
    either; what it raises becomes the error (StanzaError as it is, anything unexpected internal-server-error). Further
    requests of the same sender to the same address wait until it is done. `secret`: the request may hold a password, so
    an error goes back without it.
    """
    return _iq("get", namespace, name, at, secret)


def iq_set(namespace: str, name: str, at: Target, *, secret: bool = False) -> Callable[[M], M]:
    """As `iq_get`, for type set."""
    return _iq("set", namespace, name, at, secret)


def _iq(type_: str, namespace: str, name: str, at: Target, secret: bool) -> Callable[[M], M]:
    def declare(method: M) -> M:
        routes: list[IQRoute] = getattr(method, IQS, [])
        setattr(method, IQS, [*routes, IQRoute(type_, qualified(namespace, name), at, None, secret)])
        return method

    return declare


def nonza(namespace: str, name: str) -> Callable[[M], M]:
    """The decorated method takes this element of a bound client's stream: `(session, element)`, answers by the session.

    Elements at depth 1 that are no stanzas; what it raises ends the stream (StreamError as it is).
    """
    return _mark(NONZA, qualified(namespace, name))


def bind_inline(namespace: str, name: str) -> Callable[[M], M]:
    """The decorated method takes this child of a Bind 2 <bind/> (XEP-0386): `(session, element) -> bytes | None`.

    The session has been bound; the bytes go into <bound/>. The namespace belongs into `bind_features`.
    """
    return _mark(BIND_INLINE, qualified(namespace, name))


def _mark(attribute: str, key: str) -> Callable[[M], M]:
    def declare(method: M) -> M:
        setattr(method, attribute, key)
        return method

    return declare


class Module(XMPPHandler):
    """Base of all modules. A subclass sets the class attributes that apply to it."""

    #: The name in the configuration, `mod_...`, as the field knows it.
    name: ClassVar[str]
    xep: ClassVar[Xep | None] = None
    config_model: ClassVar[type[Section]] = NoOptions
    #: Announced in disco#info of a domain, and of an account.
    features: tuple[str, ...] = ()
    account_features: tuple[str, ...] = ()
    #: Namespaces that are announced as inline features of Bind 2 (XEP-0386).
    bind_features: tuple[str, ...] = ()
    #: Tables with data of domains and accounts. What is not in tables goes in `remove_domain` and `remove_account`.
    stored: ClassVar[tuple[Stored, ...]] = ()
    #: Tables without the domain in each row: `remove_domain` and `remove_account` delete from them themselves.
    removed_here: ClassVar[tuple[str, ...]] = ()
    #: How the rows of a domain are found in those of them that count as its use of the storage.
    measured: ClassVar[tuple[Measured, ...]] = ()
    migrations: ClassVar[tuple[Migration, ...]] = ()
    #: Columns of `stored` that let whoever knows them log in: they are not handed out with an account's data.
    secret_columns: ClassVar[frozenset[str]] = frozenset({"credential", "password", "token"})

    #: What `import_element` takes.
    imported: tuple[Imported, ...] = ()

    def __init__(self, context: ModuleContext, config: Any) -> None:
        """`config` is an instance of `config_model`."""
        super().__init__()
        self.context = context
        self.config = config
        self.host_type = context.host_type
        self.router = context.router
        self.sessions = context.sessions
        self.database = context.database
        self.clock = context.clock

    #: The subdomain that the module serves: a template such as `muclight.@HOST@`, or None. Read when it is built.
    subdomain: str | None = None
    #: The node under which the domain's items list that service, for clients that look for its kind (XEP-0030).
    service_node: str = ""

    async def start(self) -> None:
        """Called once, when all modules of the host type exist and before any stanza comes."""

    async def stop(self) -> None:
        """Called once, when no stanza comes any more."""

    def filters(self) -> Iterable[Filter]:
        """What of the passing stanzas the module wants to see."""
        return ()

    def session_bound(self, session: Session) -> None:
        """A resource of a domain of this host type was bound."""

    def session_available(self, session: Session) -> None:
        """A session takes messages from now on: it has become available with a priority that is not negative."""

    def session_resumed(self, session: Session) -> None:
        """A session goes on over another connection (XEP-0198); all the while it was bound."""

    def session_ended(self, session: Session) -> None:
        """A session is over, for whatever reason; it has left the session table already."""

    def forget_domain(self, domain: str) -> None:
        """Drops what is remembered of a domain that this node serves no longer. Its rows stay: it may come back."""

    async def remove_domain(self, domain: str) -> None:
        """A domain is removed, by this node: its rows in `stored` have gone; what is not in them goes here."""
        self.forget_domain(domain)

    async def remove_account(self, account: JID) -> None:
        """Forgets an account in memory; its rows in `stored` are removed by others."""

    async def personal_data(self, account: JID) -> Sequence[PersonalTable]:
        """What is kept of an account, for its owner to have: its rows in `stored`, and what a module adds to them.

        Raises Unavailable.
        """
        tables = [stored for stored in self.stored if stored.user is not None]
        return [await read_stored(self.database, stored, account, self.secret_columns) for stored in tables]

    async def check_storage(self, domain: str, size: int) -> None:
        """To be asked before `size` bytes are stored for an account of a domain.

        Raises StanzaError when the domain has stored as much as it may (`limits.stored_bytes`), Unavailable.
        """
        limits = self.host_type.find(DomainLimits)
        full = None if limits is None else limits.is_full(domain, size)
        if full is True or (full and await full):
            raise storage_is_full()

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        """What is kept of an account, as it goes to another server (XEP-0227): children of <user/>, in pieces.

        Each child declares its own namespace. An asynchronous generator; it raises what the database raises.
        """
        nothing: tuple[bytes, ...] = ()
        for piece in nothing:
            yield piece

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        """Stores what `exported` has given here or elsewhere; False: it is nothing of this module's.

        What the account has already stays, and nothing is there twice when it comes twice. The account may not be there
        yet. Returns when it is committed. Raises NotImported for parts that are left out, StanzaError where that is all
        of it.
        """
        return False

    def receive(self, stanza: Stanza, context: RoutingContext) -> Awaitable[None] | None:
        """A stanza for the module's subdomain that none of its IQ handlers answers.

        What has to wait gives the awaitable, and goes on in the slow lane. What is raised, now or later, is answered as
        an error without the stanza's content.
        """
        raise StanzaError("service-unavailable")

    @classmethod
    def declared(cls, mark: str) -> Iterator[tuple[str, Any]]:
        """The methods that a decorator of this file has marked: their names, and what it has noted."""
        for name in dir(cls):
            noted = getattr(getattr(cls, name, None), mark, None)
            if noted is not None:
                yield name, noted

    def nonza_handlers(self) -> Iterable[tuple[str, NonzaHandler]]:
        """The methods decorated with `nonza`."""
        return ((key, getattr(self, name)) for name, key in self.declared(NONZA))

    def bind_handlers(self) -> Iterable[tuple[str, BindHandler]]:
        """The methods decorated with `bind_inline`."""
        return ((key, getattr(self, name)) for name, key in self.declared(BIND_INLINE))

    def iq_routes(self) -> Iterable[tuple[IQRoute, IQHandler]]:
        """What the methods decorated with `iq_get` and `iq_set` answer."""
        for name, routes in self.declared(IQS):
            for route in routes:
                if route.at & (Target.SERVICE | Target.ROOM):
                    route = replace(route, service=self.subdomain)
                yield route, getattr(self, name)


def storage_is_full() -> StanzaError:
    """For who wants to store something in a domain that has stored as much as it may."""
    return StanzaError("resource-constraint", text="The domain has stored as much as it may")


class WokkelModule(Module):
    """A plain wokkel handler as a module of the domain: `dynxmpp.modules` may name its class.

    It gets the IQs that it observes, other stanzas to the domain when it observes such, and a tree of its own each
    time; what it says about itself (getDiscoInfo) is announced.
    """

    handler_class: ClassVar[type[XMPPHandler]]

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.handler = self.handler_class()

    @staticmethod
    def wrap(name: str, handler_class: type[XMPPHandler]) -> type["WokkelModule"]:
        """The module class for a handler class, under the name of its entry point."""
        return type(handler_class.__name__, (WokkelModule,), {"name": name, "handler_class": handler_class})

    async def start(self) -> None:
        stream = self.host_type.virtual_stream
        self.handler.parent = stream
        self.handler.makeConnection(stream)
        self.handler.connectionInitialized()
        if IDisco.providedBy(self.handler):
            info = await maybeDeferred(self.handler.getDiscoInfo, None, None, "")
            self.features = tuple(str(item) for item in info if isinstance(item, DiscoFeature))

    async def stop(self) -> None:
        self.handler.connectionLost(None)
