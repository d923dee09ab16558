"""`python -m tests.chaos`: the long form. Ends with status 1 when anything that must be 0 is not, or nothing moves."""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.chaos.archive import Unreadable
from tests.chaos.report import as_json, as_text
from tests.chaos.run import Options, Run, Stalled


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=200, help="disasters of all kinds")
    add("--seed", type=int, default=None, help="of what is drawn; another one each time without it")
    add("--connections", type=int, default=40, help="clients, an even number")
    add("--window", type=int, default=50, help="messages of a client that may be unacknowledged")
    add("--after", type=int, nargs=2, default=(200, 2000), metavar=("LEAST", "MOST"), help="acknowledgements between")
    add("--away", type=float, default=2.0, metavar="S", help="seconds that what was stopped stays away, at most")
    add("--json", type=Path, help="where the result goes as JSON")
    options = parser.parse_args()
    if options.connections < 2 or options.connections % 2:
        parser.error("--connections must be even")
    return options


def tell(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


async def main(_: Any, arguments: argparse.Namespace) -> None:
    options = Options(
        seed=random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed,
        kills=arguments.kills,
        connections=arguments.connections,
        window=arguments.window,
        after=tuple(arguments.after),
        away_s=arguments.away,
    )
    tell(f"seed {options.seed}")
    try:
        result = await Run(options, tell).result()
    except (Stalled, Unreadable) as problem:
        tell(f"FAILED: {problem}")
        raise SystemExit(1) from None
    tell("the end\n" + as_text(result))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(as_json(result), indent=1) + "\n")
    if not result.verdict.passed:
        raise SystemExit(1)


if __name__ == "__main__":
    given = parse()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given)))
