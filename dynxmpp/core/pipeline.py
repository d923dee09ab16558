"""Phases and filters: what a stanza passes on its way, compiled into tuples when a host type is built.

A filter is asked about each stanza of the kinds it names. It answers with

- the stanza itself: pass;
- another stanza: pass on that one;
- `Stop(reason)`: the stanza ends here, in silence, and has been taken care of;
- `Wait(awaitable)`: what it needs is not in memory; the awaitable gives one of the other answers, and this stanza
  alone takes the slow lane;
- an exception: StanzaError (or what wire.errors maps to one) refuses the stanza with that error. Any other is a fault
  of ours: it is logged, and the stanza refused with internal-server-error, except in phase COPY, where a copy less
  harms nobody.

A policy that fails therefore never lets a stanza through.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum

from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.wire.stanza import Stanza

KINDS = ("message", "presence", "iq")


class Phase(IntEnum):
    """The place of a filter; lower ones come first. Within a phase the order of the modules' names decides."""

    BORDER = 0  # may it come from there at all: isolation, before anything is looked up for a stranger
    POLICY = 1  # may it pass: blocking, limits
    STATE = 2  # what the stanza changes: subscriptions, directed presence
    ARCHIVE = 3  # what is written, before anybody sees it
    COPY = 4  # carbons and other copies
    DELIVER = 5  # what ends a stanza's way by delivering it in another manner


class Direction(Enum):
    OUTGOING = "outgoing"  # in the sender's host type, for stanzas of its sessions
    INCOMING = "incoming"  # in the recipient's host type
    OFFLINE = "offline"  # in the recipient's host type, for messages that no session could take


@dataclass(frozen=True, slots=True)
class Stop:
    """The stanza ends here. `reason` is for the debug log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The answer is not in memory; `answer` gives it. Never gives another Wait."""

    answer: Awaitable[Stanza | Stop]


Verdict = Stanza | Stop | Wait
Apply = Callable[[Stanza, RoutingContext], Verdict]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a module, and when it is asked."""

    direction: Direction
    phase: Phase
    apply: Apply
    kinds: tuple[str, ...] = ("message",)


@dataclass(frozen=True, slots=True)
class Step:
    """A filter in a compiled tuple."""

    apply: Apply
    phase: Phase
    module: str


Pipeline = tuple[Step, ...]


class Pipelines:
    """The compiled tuples of one host type, by direction and kind of stanza."""

    def __init__(self, filters: Iterable[tuple[str, Filter]] = ()) -> None:
        """`filters` are (module name, filter) pairs."""
        ordered = sorted(filters, key=lambda pair: (pair[1].phase, pair[0]))
        self.outgoing = self._compile(ordered, Direction.OUTGOING)
        self.incoming = self._compile(ordered, Direction.INCOMING)
        self.offline = self._compile(ordered, Direction.OFFLINE)

    @staticmethod
    def _compile(filters: Iterable[tuple[str, Filter]], direction: Direction) -> dict[str, Pipeline]:
        return {
            kind: tuple(
                Step(f.apply, f.phase, module) for module, f in filters if f.direction is direction and kind in f.kinds
            )
            for kind in KINDS
        }
