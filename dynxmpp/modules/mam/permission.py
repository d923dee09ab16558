"""Who may do what with an archive, and how often: access rules and shapers that are named after the action.

Rules: `mam_set_message_form` and `mam_lookup_messages` (queries), `mam_get_message_form`, `mam_get_metadata`,
`mam_get_prefs`, `mam_set_prefs`; for rooms with `muc_` in front. A value of `allow` or `deny` decides, anything else
leaves it at what is so anyway. Shapers: the same names with `_shaper` behind (requests a second of each account) and
`_global_shaper` (of all together).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twisted.internet.task import deferLater

from dynxmpp.config.acl import ALLOW, DENY
from dynxmpp.core.host_type import HostType
from dynxmpp.core.limits import TokenBucket
from dynxmpp.module import JID, Clock, StanzaError

#: Requests of a line that wait at a time, and seconds that one waits.
MAX_WAITING: Final = 10
MAX_WAIT_S: Final = 5.0
#: Accounts whose lines are remembered.
MAX_LINES: Final = 10_000

#: What a query counts as: the rule that is asked in practice, and the one that configurations have.
QUERY: Final = ("mam_set_message_form", "mam_lookup_messages")


class _Line:
    """Requests that share a shaper."""

    __slots__ = ("bucket", "waiting")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.waiting = 0


class Permission:
    """For the archives of one kind of a host type."""

    def __init__(self, host_type: HostType, hosted: Callable[[str], bool], clock: Clock, *, is_room: bool) -> None:
        """`hosted` says whether this server serves a domain."""
        self._host_type = host_type
        self._hosted = hosted
        self._clock = clock
        self._prefix = "muc_" if is_room else ""
        self._lines: OrderedDict[tuple[str, str], _Line] = OrderedDict()
        #: Requests that were refused for coming too fast.
        self.dropped = 0

    def check(self, actions: tuple[str, ...], who: JID, *, allowed: bool) -> None:
        """Raises not-allowed; `allowed` is what holds where no rule says otherwise. A rule that denies goes first."""
        values = [self._host_type.access(self._prefix + action, who, self._hosted) for action in actions]
        if DENY in values or not (allowed or ALLOW in values):
            raise StanzaError("not-allowed", text="The action is not allowed.")

    async def pace(self, actions: tuple[str, ...], who: JID) -> None:
        """Returns when it is the turn of a request. Raises resource-constraint when that would take too long."""
        config = self._host_type.config
        if config is None or not config.shapers:
            return
        for action in actions:
            for kind, group in (("shaper", who.bare), ("global_shaper", "")):
                name = f"{self._prefix}{action}_{kind}"
                shaper = config.shaper(
                    name, local=who.local, domain=who.domain, resource=who.resource, hosted=self._hosted
                )
                if shaper is not None:
                    await self._pass(name, group, shaper.max_rate)

    async def _pass(self, name: str, group: str, rate: float) -> None:
        line = self._lines.get((name, group))
        if line is None:
            line = self._lines[name, group] = _Line(TokenBucket(rate, self._clock))
            if len(self._lines) > MAX_LINES:
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end((name, group))
        seconds = line.bucket.take(1)
        if not seconds:
            return
        if line.waiting >= MAX_WAITING or seconds > MAX_WAIT_S:
            line.bucket.take(-1)
            self.dropped += 1
            raise StanzaError("resource-constraint", type="wait", text="The action is cancelled because of flooding.")
        line.waiting += 1
        try:
            await deferLater(self._clock, seconds)
        finally:
            line.waiting -= 1
