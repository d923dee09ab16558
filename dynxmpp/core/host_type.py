"""HostType: a named set of modules and configuration, built once, shared by all its domains."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.config.acl import Access
from dynxmpp.config.host_config import HostConfig
from dynxmpp.core.interfaces import AccountDirectory, Session
from dynxmpp.core.iq_registry import IQHandler, IQRegistry, IQRoute
from dynxmpp.core.pipeline import Filter, Pipelines
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.virtual_stream import VirtualStream
from dynxmpp.jid import JID
from dynxmpp.wire.stanza import Stanza

S = TypeVar("S")

#: Takes an element of a bound client's stream that is no stanza.
NonzaHandler = Callable[[Session, Stanza], None]
#: Takes a child of a <bind/> of XEP-0386; gives what goes into <bound/>, or None.
BindHandler = Callable[[Session, domish.Element], bytes | None]

log = Logger()


class DiscoFeatures(Protocol):
    """What a module announces (XEP-0030): of a domain, and of an account."""

    name: str
    features: tuple[str, ...]
    account_features: tuple[str, ...]


class HostedModule(DiscoFeatures, Protocol):
    """What a host type needs to know of a module."""

    def iq_routes(self) -> Iterable[tuple[IQRoute, IQHandler]]: ...
    def filters(self) -> Iterable[Filter]: ...
    def session_bound(self, session: Session) -> None: ...
    def session_available(self, session: Session) -> None: ...
    def session_resumed(self, session: Session) -> None: ...
    def session_ended(self, session: Session) -> None: ...
    def nonza_handlers(self) -> Iterable[tuple[str, NonzaHandler]]: ...
    def bind_handlers(self) -> Iterable[tuple[str, BindHandler]]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Service(Protocol):
    """A module that answers under a subdomain: takes every stanza that no IQ handler of it wants."""

    service_node: str

    def receive(self, stanza: Stanza, context: RoutingContext) -> Awaitable[None] | None: ...


class MissingService(Exception):
    """A module needs what no module of the host type provides."""


class HostType:
    """The modules of a host type and what is compiled from them. `is_static` types serve one domain of their name."""

    def __init__(
        self, name: str, *, is_static: bool, accounts: AccountDirectory, config: HostConfig | None = None
    ) -> None:
        """`config` is what the file says of this host type; without one, all its options have their defaults."""
        self.name = name
        self.is_static = is_static
        self.accounts = accounts
        self.config = config
        self.modules: dict[str, HostedModule] = {}
        self.iqs = IQRegistry()
        self.pipelines = Pipelines()
        self.services: dict[str, Service] = {}
        self.provided: dict[type, Any] = {}
        self.virtual_stream: VirtualStream | None = None
        self.session_observers: tuple[HostedModule, ...] = ()
        #: Payloads of requests that modules answer which this server has, and this host type has not.
        self.not_served: frozenset[str] = frozenset()
        #: By qualified name.
        self.nonzas: dict[str, NonzaHandler] = {}
        self.bind_inlines: dict[str, BindHandler] = {}

    def add(self, module: HostedModule) -> None:
        """Takes a module in; `compile()` makes it effective."""
        self.modules[module.name] = module

    def provide(self, contract: type[S], implementation: S) -> None:
        """Offers other modules of this host type an implementation of an interface of the core."""
        self.provided[contract] = implementation

    def find(self, contract: type[S]) -> S | None:
        """What a module of this host type provides, or None. To be asked in `start()` and later."""
        return self.provided.get(contract)

    def require(self, contract: type[S]) -> S:
        """As `find`, for what a module cannot do without. Raises MissingService."""
        found = self.find(contract)
        if found is None:
            raise MissingService(f"no module of host type {self.name} provides {contract.__name__}")
        return found

    def compile(self) -> None:
        """Builds the tuples and tables that stanzas meet. Raises iq_registry.DuplicateHandler."""
        self.iqs = IQRegistry()
        for module in self.modules.values():
            for route, handler in module.iq_routes():
                self.iqs.add(route, handler, module.name)
        self.pipelines = Pipelines((m.name, f) for m in self.modules.values() for f in m.filters())
        self.session_observers = tuple(self.modules.values())
        self.nonzas = {key: handler for module in self.modules.values() for key, handler in module.nonza_handlers()}
        self.bind_inlines = {
            key: handler for module in self.modules.values() for key, handler in module.bind_handlers()
        }

    def access(
        self, rule: str, who: JID, hosted: Callable[[str], bool], *, within: str | None = None
    ) -> str | int | None:
        """What an access rule of the configuration says of `who`, in the context of the domain `within`, or of its own.

        None for a rule that is not defined; `hosted(domain)` says which domains are served.
        """
        access = Access({}, {}) if self.config is None else self.config.access
        return access.value(
            rule,
            local=who.local,
            domain=who.domain,
            resource=who.resource,
            context_domain=who.domain if within is None else within,
            hosted=hosted,
        )

    def features(self) -> tuple[str, ...]:
        """The disco features of a domain of this type, sorted."""
        return tuple(sorted({feature for m in self.modules.values() for feature in m.features}))

    def account_features(self) -> tuple[str, ...]:
        """The disco features of an account, sorted."""
        return tuple(sorted({feature for m in self.modules.values() for feature in m.account_features}))

    def session_bound(self, session: Session) -> None:
        """A module that fails here ends the session: it may be the one that was to guard it."""
        for module in self.session_observers:
            module.session_bound(session)

    def session_available(self, session: Session) -> None:
        for module in self.session_observers:
            module.session_available(session)

    def session_resumed(self, session: Session) -> None:
        """The session goes on over another connection (XEP-0198)."""
        for module in self.session_observers:
            module.session_resumed(session)

    def session_ended(self, session: Session) -> None:
        """All modules hear of the end, whatever the others make of it."""
        for module in self.session_observers:
            try:
                module.session_ended(session)
            except Exception:  # noqa: BLE001 - border: one module's fault must not keep the others from knowing
                log.failure("session_end_failed", module=module.name, jid=session.jid.full)

    def __iter__(self) -> Iterator[HostedModule]:
        return iter(self.modules.values())

    def __repr__(self) -> str:
        return f"HostType({self.name!r})"
