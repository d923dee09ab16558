"""A result as a table for people and as JSON for programs."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.run import Result


def as_json(result: Result) -> dict[str, Any]:
    options = result.options
    return {
        "passed": result.verdict.passed,
        "options": {
            "seed": options.seed,
            "kills": options.kills,
            "connections": options.connections,
            "window": options.window,
            "after": list(options.after),
            "away_s": options.away_s,
        },
        "seconds": {"talking": round(result.talking_s, 1), "reading": round(result.reading_s, 1)},
        "disasters": dict(result.disasters),
        "clients": dict(result.clients),
        "figures": dict(result.verdict.figures),
        "violations": dict(result.verdict.violations),
        "examples": result.verdict.examples,
        "logged_errors": dict(result.errors),
    }


def as_text(result: Result) -> str:
    """Tables in Markdown, as docs/reliability.md has them."""
    options, verdict = result.options, result.verdict
    rate = verdict.figures["acknowledged"] / result.talking_s if result.talking_s else 0.0
    lines = [
        f"seed {options.seed}, {options.connections} connections, window {options.window}, "
        f"{sum(result.disasters.values())} disasters, {result.talking_s:.0f} s of talking "
        f"({rate:.0f} acknowledgements a second), {result.reading_s:.0f} s of reading",
        "",
        *_table("Disaster", result.disasters),
        "",
        *_table("What happened", {**verdict.figures, **result.clients}),
        "",
        *_table("Must be 0", verdict.violations),
    ]
    if result.errors:
        lines += ["", *_table("Logged as error by the server", result.errors)]
    for kind, told in verdict.examples.items():
        lines += ["", f"{kind}:", *(f"  {example}" for example in told)]
    lines += ["", "passed" if verdict.passed else "FAILED"]
    return "\n".join(lines)


def _table(title: str, numbers: Mapping[str, int]) -> Iterable[str]:
    yield f"| {title} | |"
    yield "|---|---|"
    for name, number in numbers.items():
        yield f"| {name} | {number:,} |"
