"""What goes wrong, and when: drawn from a seed, so that a run can be repeated as far as machines repeat anything."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    SERVER_KILLED = "server killed"
    SERVER_STOPPED = "server stopped"
    DATABASE_KILLED = "database killed"
    DATABASE_RESTARTED = "database restarted"
    DATABASE_FROZEN = "database frozen"
    BOTH_KILLED = "both killed"
    SOME_CUT = "some connections cut"
    ALL_CUT = "all connections cut"
    HALF_OPEN = "old connections left open"


#: How often each is drawn, in comparison.
WEIGHTS = {
    Kind.SERVER_KILLED: 4,
    Kind.SERVER_STOPPED: 2,
    Kind.DATABASE_KILLED: 3,
    Kind.DATABASE_RESTARTED: 2,
    Kind.DATABASE_FROZEN: 1,
    Kind.BOTH_KILLED: 1,
    Kind.SOME_CUT: 3,
    Kind.ALL_CUT: 2,
    Kind.HALF_OPEN: 3,
}

#: Half of the disasters come with an acknowledgement, the other half up to so many seconds after it.
MAX_DELAY_S = 0.05


@dataclass(frozen=True, slots=True)
class Disaster:
    kind: Kind
    #: It happens after so many further acknowledgements ...
    after: int
    #: ... and so many seconds.
    delay_s: float
    #: Seconds that what was stopped stays away.
    away_s: float
    #: Of all clients, the share whose connections it concerns.
    share: float


def draw(rng: random.Random, count: int, *, after: tuple[int, int], away_s: float) -> Sequence[Disaster]:
    """`count` disasters, each kind at least once when there is room for that.

    `after` bounds the acknowledgements before each, `away_s` how long something stays away.
    """
    kinds = list(Kind)[:count]
    kinds += rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count - len(kinds))
    rng.shuffle(kinds)
    return [
        Disaster(
            kind,
            after=rng.randint(*after),
            delay_s=rng.choice((0.0, rng.uniform(0, MAX_DELAY_S))),
            away_s=rng.uniform(0, away_s),
            share=rng.uniform(0.1, 0.9),
        )
        for kind in kinds
    ]
