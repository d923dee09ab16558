"""Token buckets: how much of something may pass in a second."""

from dynxmpp.core.interfaces import Clock


class TokenBucket:
    """Holds up to one second's worth of tokens, starts full, fills up continuously.

    Taking more than there is overdraws it: whoever takes must then wait as long as `take` says before the next time.
    """

    __slots__ = ("_clock", "_filled_at", "_tokens", "rate")

    def __init__(self, rate: float, clock: Clock) -> None:
        """`rate` is in tokens (bytes, operations) a second, more than zero."""
        self.rate = rate
        self._clock = clock
        self._tokens = rate
        self._filled_at = clock.seconds()

    def take(self, amount: float) -> float:
        """Takes `amount`; gives the seconds to wait until the bucket is no longer overdrawn, 0.0 when it is not."""
        now = self._clock.seconds()
        self._tokens = min(self.rate, self._tokens + (now - self._filled_at) * self.rate) - amount
        self._filled_at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self.rate
