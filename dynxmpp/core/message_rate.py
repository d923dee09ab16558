"""How many messages a domain may send in a second. Nobody is refused: who sends more is read from more slowly."""

from collections.abc import Callable
from math import inf
from typing import Any

from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Clock, DomainLimits, Session
from dynxmpp.core.limits import TokenBucket

__all__ = ["DomainRate", "MessageRates"]


class DomainRate:
    """The rate of one domain: one bucket for all its sessions on this node."""

    __slots__ = ("_bucket", "_slow")

    def __init__(self, bucket: TokenBucket, slow: Callable[[Session, float], None]) -> None:
        self._bucket = bucket
        self._slow = slow

    def passed(self, session: Session) -> None:
        """The session has sent a message. When the domain has sent too much, it waits until that is made up for."""
        delay = self._bucket.take(1)
        if delay:
            self._slow(session, delay)

    @property
    def is_idle(self) -> bool:
        return self._bucket.is_full


class MessageRates:
    """Makes the rates of domains, and lets sessions wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[Session, Any] = {}

    def __len__(self) -> int:
        """Sessions that are not read from now because of their domain's limit."""
        return len(self._waiting)

    def of(self, domain: str, host_type: HostType) -> DomainRate | None:
        """The rate of a domain, None if it has no limit."""
        limits = host_type.find(DomainLimits)
        rate = inf if limits is None else limits.limit(domain, "messages_per_second")
        if limits is None or rate == inf:
            return None
        burst = limits.limit(domain, "message_burst")
        return DomainRate(TokenBucket(rate, self._clock, rate if burst == inf else burst), self._slow)

    def _slow(self, session: Session, delay: float) -> None:
        """All that came in one read is dealt with at once, so the wait for the next one grows with it."""
        timer = self._waiting.get(session)
        if timer is None:
            session.slow_down(True)
            self._waiting[session] = self._clock.callLater(delay, self._go_on, session)
        else:
            timer.reset(delay)

    def _go_on(self, session: Session) -> None:
        del self._waiting[session]
        session.slow_down(False)

    def stop(self) -> None:
        """Nobody waits any more."""
        for session, timer in list(self._waiting.items()):
            timer.cancel()
            self._go_on(session)
