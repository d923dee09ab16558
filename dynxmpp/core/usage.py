"""What the domains of this node use: messages and their bytes, counted where a session's stanzas come in. No I/O.

One object a domain that is in use; those that were not used between two looks are dropped, so that memory follows the
number of domains that are active, not of those that there are.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from dynxmpp.core.host_type import HostType
    from dynxmpp.core.interfaces import Session

__all__ = ["Count", "Tally", "UsageCounters"]


class Rate(Protocol):
    """What bounds the messages that a domain's sessions may send in a second."""

    def passed(self, session: "Session") -> None:
        """The session has sent one. It may be read from more slowly afterwards."""

    @property
    def is_idle(self) -> bool:
        """Would a new one say the same?"""


class Tally:
    """What a domain has used since the last look. The router adds to it; `bytes`: of the contents of messages."""

    __slots__ = ("bytes", "messages", "rate")

    def __init__(self, rate: Rate | None) -> None:
        self.messages = 0
        self.bytes = 0
        self.rate = rate


class Count(NamedTuple):
    """Messages of a domain, and their bytes."""

    domain: str
    messages: int
    bytes: int

    def plus(self, tally: Tally) -> "Count":
        return Count(self.domain, self.messages + tally.messages, self.bytes + tally.bytes)


class UsageCounters:
    """The tallies of a node."""

    def __init__(self) -> None:
        #: By domain. The router looks here; the dictionary is never replaced.
        self.tallies: dict[str, Tally] = {}
        self._closed: dict[str, Count] = {}
        #: Makes the rate of a domain, None for one that has no limit.
        self.rate_of: Callable[[str, HostType], Rate | None] | None = None

    def open(self, domain: str, host_type: "HostType") -> Tally:
        """The tally of a domain that had none."""
        rate = None if self.rate_of is None else self.rate_of(domain, host_type)
        tally = self.tallies[domain] = Tally(rate)
        return tally

    def current(self, domain: str) -> Count:
        """What was counted since the last `take`."""
        closed, tally = self._closed.get(domain) or Count(domain, 0, 0), self.tallies.get(domain)
        return closed if tally is None else closed.plus(tally)

    def active(self, domain: str) -> bool:
        """Is there something to say about a domain? False for most of them."""
        return domain in self.tallies or domain in self._closed

    def take(self) -> list[Count]:
        """What was counted since the last time, by domain; counting begins anew."""
        taken, self._closed = self._closed, {}
        for domain, tally in list(self.tallies.items()):
            if tally.messages:
                taken[domain] = (taken.get(domain) or Count(domain, 0, 0)).plus(tally)
                tally.messages = tally.bytes = 0
            elif tally.rate is None or tally.rate.is_idle:
                del self.tallies[domain]
        return sorted(taken.values())

    def limits_changed(self, domain: str, host_type: "HostType") -> None:
        """The rate of a domain may be another one from now on."""
        tally = self.tallies.get(domain)
        if tally is not None and self.rate_of is not None:
            tally.rate = self.rate_of(domain, host_type)

    def close(self, domain: str) -> None:
        """The domain is not served any more, or by another host type: what was counted stays, its rate does not."""
        count = self.current(domain)
        if self.tallies.pop(domain, None) is not None and count.messages:
            self._closed[domain] = count

    def forget(self, domain: str) -> None:
        """Drops what was counted of a domain that is no more."""
        self.tallies.pop(domain, None)
        self._closed.pop(domain, None)
