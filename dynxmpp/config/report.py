"""What is wrong with a configuration file: every mistake at once, one line each, with the nearest known name.

A `Mistake` is raised where a value is looked at and knows only what lies below it; each section it passes on its way
out adds a step to its path. At the top of the file it becomes a `Problem`: the line that a person reads.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs
from cattrs.errors import BaseValidationError, IterableValidationNote

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_SHOWN_CHARACTERS: Final = 60

#: Keys, list indices and names, from the top of the file or of a section downwards.
Steps = tuple[str | int, ...]


class Name(str):
    """A step that says which of several tables is meant, by name instead of by number."""

    __slots__ = ()


#: A step that takes back the next one: the mistake is in the section around, which handed the value down.
UP: Final = Name("..")


class Mistake(Exception):
    """One thing wrong with one value. `at` leads from the value that was being read to the one at fault."""

    def __init__(self, what: str, *, allowed: Iterable[str] = (), meant: str | None = None, at: Steps = ()) -> None:
        super().__init__(what)
        self.what = what
        self.allowed = tuple(allowed)
        self.meant = meant
        self.at = at

    def moved(self, at: Steps) -> "Mistake":
        """The same mistake, found at another path."""
        return Mistake(self.what, allowed=self.allowed, meant=self.meant, at=at)

    def below(self, step: str | int) -> "Mistake":
        """The same mistake, seen from the table or list in which `step` leads to it."""
        if self.at[:1] == (UP,):
            return self.moved(self.at[1:])
        return self.moved((step, *self.at))


@attrs.frozen
class Problem:
    """One line of the report."""

    file: str
    path: str
    what: str
    allowed: tuple[str, ...] = ()
    meant: str | None = None

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.file, self.path, self.what) if part)
        if self.allowed:
            line += f" (allowed: {', '.join(self.allowed)})"
        if self.meant is not None:
            line += f" (did you mean {self.meant}?)"
        return line


class ConfigErrors(Exception):
    """The file cannot be used. `problems` names everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def problems_of(file: str, mistakes: Iterable[Mistake]) -> list[Problem]:
    """The lines of the report, each said once, in the order in which they were found."""
    found = (
        Problem(file, format_path(mistake.at), mistake.what, mistake.allowed, mistake.meant) for mistake in mistakes
    )
    return list(dict.fromkeys(found))


def mistakes_in(error: Mistake | BaseValidationError) -> Iterator[Mistake]:
    """The mistakes below an error of the converter, which groups those of a list or of a table by their place."""
    if isinstance(error, Mistake):
        yield error
        return
    for part in error.exceptions:
        assert isinstance(part, Mistake | BaseValidationError), part
        steps = [note.index for note in _notes(part) if isinstance(note, IterableValidationNote)]
        for mistake in mistakes_in(part):
            yield mistake.below(steps[0]) if steps else mistake


def _notes(error: Exception) -> list[Any]:
    return getattr(error, "__notes__", [])


def format_path(steps: Steps) -> str:
    """`listen.c2s[0].port`, `host_config["advanced"].modules.mod_x`; a key that needs quotes gets them."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif isinstance(step, Name):
            text += f"[{quoted(step)}]"
        else:
            key = step if _BARE_KEY(step) else quoted(step)
            text += f".{key}" if text else key
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    return next(iter(difflib.get_close_matches(word[:_SHOWN_CHARACTERS], list(known), n=1)), None)


def quoted(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """`text` on one line, in quotes, shortened: names and values come from the file as somebody wrote it."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return json.dumps(text, ensure_ascii=not text.isprintable())
