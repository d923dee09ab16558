"""Token buckets: how much of something may pass in a second."""

from dynxmpp.core.interfaces import Clock


class TokenBucket:
    """Holds up to one second's worth of tokens (or `burst`), starts full, fills up continuously.

    Taking more than there is overdraws it: whoever takes must then wait as long as `take` says before the next time.
    """

    __slots__ = ("_clock", "_filled_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, clock: Clock, burst: float | None = None) -> None:
        """`rate` is in tokens (bytes, operations) a second, `burst` in tokens; both more than zero."""
        self.rate = rate
        self.burst = rate if burst is None else burst
        self._clock = clock
        self._tokens = self.burst
        self._filled_at = clock.seconds()

    def take(self, amount: float) -> float:
        """Takes `amount`; gives the seconds to wait until the bucket is no longer overdrawn, 0.0 when it is not."""
        now = self._clock.seconds()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate) - amount
        self._filled_at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self.rate

    @property
    def is_full(self) -> bool:
        return self._tokens + (self._clock.seconds() - self._filled_at) * self.rate >= self.burst
