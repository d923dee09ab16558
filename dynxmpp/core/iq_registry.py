"""Who answers an IQ: (where it was sent, get or set, payload) -> handler. One look-up, however many modules there are.

Two handlers for one key are a mistake in the configuration and refused when the host type is built.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Flag, auto

from twisted.words.xish import domish

from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.jid import JID
from dynxmpp.wire.stanza import Stanza


class Target(Flag):
    """Where an IQ was addressed to, as far as the server answers it itself."""

    DOMAIN = auto()  # the bare domain
    ACCOUNT = auto()  # a bare JID: the server answers on behalf of the account (RFC 6121 8.5.2.1.3)
    SERVICE = auto()  # a subdomain that the handler's own module serves
    ROOM = auto()  # a bare JID at that subdomain


class IQ:
    """One request that the server answers: what a handler is given."""

    __slots__ = ("context", "stanza")

    def __init__(self, stanza: Stanza, context: RoutingContext) -> None:
        self.stanza = stanza
        self.context = context

    @property
    def type(self) -> str:
        return self.stanza.attributes["type"]

    @property
    def sender(self) -> JID:
        return self.context.sender

    @property
    def recipient(self) -> JID:
        """The entity that was asked: the account's bare JID when the stanza had no `to`."""
        return self.context.recipient

    @property
    def payload(self) -> domish.Element:
        """The one child element that says what this is about; to be looked at, not changed."""
        return next(iter(self.stanza.child_elements()))

    @property
    def from_own_account(self) -> bool:
        return self.context.from_own_account


#: Where an IQ was sent, as handlers are found by it: those of a service have its pattern beside the target.
Place = Target | tuple[Target, str]

#: Gives the payload of the result (None for an empty one), now or later, or raises what becomes an error.
Answer = domish.Element | Stanza | None
IQHandler = Callable[[IQ], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class IQRoute:
    """What a handler answers: `type` is get or set, `payload` a qualified name.

    `service` is the pattern of the subdomain for SERVICE and ROOM. `secret`: the request may hold a password, so an
    error goes back without it.
    """

    type: str
    payload: str
    at: Target
    service: str | None = None
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    handler: IQHandler
    module: str
    secret: bool


class DuplicateHandler(Exception):
    """Two modules want to answer the same IQ."""


class IQRegistry:
    """The handlers of one host type."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[Place, str, str], Registered] = {}

    def add(self, route: IQRoute, handler: IQHandler, module: str) -> None:
        """Raises DuplicateHandler."""
        for target in Target:
            if target not in route.at:
                continue
            place: Place = target
            if target in Target.SERVICE | Target.ROOM:
                assert route.service is not None, f"{module} answers at a service and names no pattern"
                place = (target, route.service)
            key = (place, route.type, route.payload)
            other = self._handlers.get(key)
            if other is not None:
                raise DuplicateHandler(f"{other.module} and {module} both answer {route.type} {route.payload}")
            self._handlers[key] = Registered(handler, module, route.secret)

    def find(self, place: Place, type_: str, payload: str) -> Registered | None:
        """The handler for a payload's qualified name."""
        return self._handlers.get((place, type_, payload))

    def __iter__(self) -> Iterator[tuple[Place, str, str]]:
        return iter(self._handlers)
