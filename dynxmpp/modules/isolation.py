"""mod_domain_isolation: nothing passes between a domain of this host type and any other.

A filter on what arrives, first of all. A domain and the services below it (`muclight.` and the like) are one; two
domains are two even when their host type is the same. A service under a fixed name belongs to no domain and is cut off
from all.

What is decided here is what comes in: a domain whose host type has no isolation can be written to from an isolated one,
and its answers are then stopped.

Presence that would begin something comes back before its sender's server has noted it: else a request to an isolated
contact would stay in the roster, unanswered for ever, and a session's end be told to whom its presence never reached.
What ends something is noted first: who became isolated while there were subscriptions can give them up.
"""

from collections.abc import Iterator
from typing import Any

from dynxmpp.core.interfaces import Wall
from dynxmpp.module import (
    Direction,
    Filter,
    Module,
    ModuleContext,
    Phase,
    RoutingContext,
    Stanza,
    StanzaError,
    Stop,
    Verdict,
)

TEXT = "Filtered by the domain isolation"
#: Types of presence that leave something at the sender's: an entry in the roster, or in who has seen a session.
_BEGINNINGS = frozenset({None, "subscribe", "subscribed"})


class DomainIsolation(Module):
    """The wall around each domain of a host type. Provides Wall."""

    name = "mod_domain_isolation"

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.host_type.provide(Wall, self)

    def filters(self) -> Iterator[Filter]:
        yield Filter(Direction.OUTGOING, Phase.BORDER, self._spare, ("presence",))
        yield Filter(Direction.INCOMING, Phase.BORDER, self._isolate, ("message", "presence", "iq"))

    def _isolate(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if self._is_within(context):
            return stanza
        if stanza.attributes.get("type") == "error":
            return Stop("domain isolation")  # an error is never answered
        raise StanzaError("service-unavailable", text=TEXT)

    def _spare(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """Sends back at once what the recipient's wall would send back later."""
        if (
            stanza.attributes.get("type") in _BEGINNINGS
            and not self._is_within(context)
            and self._is_isolated(context.recipient.domain)
        ):
            raise StanzaError("service-unavailable", text=TEXT)
        return stanza

    def _is_within(self, context: RoutingContext) -> bool:
        """Does the stanza stay in one domain and the services below it?"""
        return not self.separates(context.sender.domain, context.recipient.domain)

    def separates(self, sender: str, recipient: str) -> bool:
        if sender == recipient:
            return False
        owner = self.context.domains.owner
        return owner(sender) != owner(recipient)

    def _is_isolated(self, name: str) -> bool:
        """Has the host type of a domain or service a wall as well?"""
        domains = self.context.domains
        served = domains.get(name) or domains.find_subdomain(name)
        return served is not None and self.name in served.host_type.modules
