"""mod_domain_isolation: nothing passes between a domain of this host type and any other.

A filter on what arrives, first of all. A domain and the services below it (`muclight.` and the like) are one; two
domains are two even when their host type is the same. A service under a fixed name belongs to no domain and is cut off
from all.

What is decided here is what comes in: a domain whose host type has no isolation can be written to from an isolated one,
and its answers are then stopped.
"""

from dynxmpp.module import (
    Direction,
    Filter,
    Module,
    Phase,
    RoutingContext,
    Stanza,
    StanzaError,
    Stop,
    Verdict,
)

TEXT = "Filtered by the domain isolation"


class DomainIsolation(Module):
    """The wall around each domain of a host type."""

    name = "mod_domain_isolation"

    def filters(self) -> tuple[Filter, ...]:
        return (Filter(Direction.INCOMING, Phase.POLICY, self._isolate, ("message", "presence", "iq")),)

    def _isolate(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        sender, recipient = context.sender.domain, context.recipient.domain
        if sender == recipient:
            return stanza
        owner = self.context.domains.owner
        if owner(sender) == owner(recipient):
            return stanza
        if stanza.attributes.get("type") == "error":
            return Stop("domain isolation")  # an error is never answered
        raise StanzaError("service-unavailable", text=TEXT)
