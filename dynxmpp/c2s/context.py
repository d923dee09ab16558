"""What all connections of a listener share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from dynxmpp.auth.accounts import Accounts
from dynxmpp.c2s.outbox import Outbox
from dynxmpp.config.listen import C2SListener
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Clock
from dynxmpp.core.limits import TokenBucket
from dynxmpp.core.router import Router
from dynxmpp.jid import JID
from dynxmpp.tls import ServerTLS
from dynxmpp.wire.stream import StreamLimits


@dataclass(slots=True)
class C2SContext:
    """One listener's world. `random` must be unpredictable: session ids, nonces and resources come from it."""

    config: C2SListener
    tls: ServerTLS | None
    domains: DomainTable[HostType]
    router: Router
    default_domain: str
    language: str
    clock: Clock
    random: Random
    #: Lets work go on in the background; what it raises is logged with the given event name.
    spawn: Callable[[str, Awaitable[object]], None]
    hide_service_name: bool = False
    outbox: Outbox = field(default_factory=Outbox)
    #: Connections that have not bound a resource yet, by address.
    half_open: dict[str, int] = field(default_factory=dict)
    connections: int = 0

    @property
    def limits(self) -> StreamLimits:
        config = self.config
        return StreamLimits(config.max_stanza_size, config.max_depth, config.max_attributes)

    @property
    def tls_mode(self) -> str | None:
        """`tls`, `starttls`, `starttls_required`, or None for a listener without TLS."""
        return None if self.config.tls is None else self.config.tls.mode

    def token(self) -> str:
        """A fresh identifier that nobody can guess (RFC 6120 4.7.3)."""
        return f"{self.random.getrandbits(96):024x}"


def accounts_of(host_type: HostType) -> Accounts:
    """The accounts of a host type, as the composition root built them."""
    accounts = host_type.accounts
    assert isinstance(accounts, Accounts), "a host type that clients connect to has accounts"
    return accounts


def shaper_of(context: C2SContext, host_type: HostType, jid: JID) -> TokenBucket | None:
    """What bounds the rate of a bound client: the listener's shaper rule, asked about its address."""
    assert host_type.config is not None
    shaper = host_type.config.shaper(
        context.config.shaper,
        local=jid.local,
        domain=jid.domain,
        resource=jid.resource,
        hosted=context.domains.__contains__,
    )
    return None if shaper is None else TokenBucket(shaper.max_rate, context.clock)
