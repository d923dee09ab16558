"""What a declaration means: types, defaults, other spellings."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from cattrs.errors import BaseValidationError
from twisted.trial.unittest import TestCase

from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Moved,
    Section,
    each,
    option,
    positive,
    section,
    unique,
)
from dynxmpp.config.reader import Reader
from dynxmpp.config.report import format_path, mistakes_in


@section
class Types(Section):
    yes: bool = option(default=False)
    count: int = option(default=0)
    share: float = option(default=0.5)
    text: str = option(default="")
    limit: IntOrInfinity = option(default=10)
    mode: Literal["fast", "slow"] = option(default="fast")
    version: Literal[4, 6] = option(default=4)
    often: int | Literal["never"] = option(default=1)
    names: tuple[str, ...] = option(default=())
    numbers: dict[str, int] = option(factory=dict)
    anything: dict[str, Any] = option(factory=dict)
    file: Path = option(default=Path("../default"))
    maybe: str | None = option(default=None)


WRONG_TYPES: dict[str, list[tuple[object, str]]] = {
    "yes": [(1, "must be true or false, not an integer"), ("true", "must be true or false, not a string")],
    "count": [
        ("5", "must be an integer, not a string"),
        (1.0, "must be an integer, not a float"),
        (True, "must be an integer, not a boolean"),
        ([], "must be an integer, not a list"),
        (2**63, "is an integer beyond 64 bits"),
        (-(2**63) - 1, "is an integer beyond 64 bits"),
    ],
    "share": [(1, "must be a float, not an integer")],
    "text": [(5, "must be a string, not an integer"), ({}, "must be a string, not a section")],
    "limit": [
        ("Infinity", 'must be an integer or "infinity", not "Infinity"'),
        (True, 'must be an integer or "infinity", not a boolean'),
        (math.inf, 'must be an integer or "infinity", not a float'),
    ],
    "mode": [(1, "unknown value an integer"), ("fats", 'unknown value "fats"')],
    "version": [(5, "unknown value an integer"), (True, "unknown value a boolean")],
    "often": [("always", 'must be an integer or "never", not "always"')],
    "names": [("abc", "must be a list, not a string"), ({}, "must be a list, not a section")],
    "numbers": [([], "must be a section, not a list"), ("", "must be a section, not a string")],
    "file": [("", "must not be empty"), (5, "must be a string, not an integer")],
    "maybe": [(5, "must be a string, not an integer")],
}


@section
class Inner(Section):
    enabled: bool = option(default=True)
    size: int = option(default=3, check=positive)


@section(moved={"inner_size": Moved("inner.size")}, refused={"steam": "there is no steam here"})
class Base(Section):
    inner: Inner = option(factory=Inner, shorthand="enabled")
    level: int = option(default=1, check=positive, aliases=("height",))
    kind: str = option(default="new", synonyms={"old": "new"})


@section
class Part(Base):
    own: bool = option(default=False)


@section
class Whole(Base):
    part: Part | None = option(default=None, inherits=True)


@section
class Strict(Section):
    needed: str = option()
    values: tuple[int, ...] = option(default=(), check=(each(positive), unique))
    low: int = option(default=1)
    high: int = option(default=2)
    password: str = option(default="", secret=True)

    def contradictions(self) -> Iterator[Mistake]:
        if self.low > self.high:
            yield Mistake("is more than high", at=("low",))


class ReaderTestCase(TestCase):
    def setUp(self) -> None:
        self.reader = Reader(Path("/etc/chat"))

    def read(self, model: type[Section], table: object) -> Any:
        return self.reader.structure(table, model)

    def mistakes(self, model: type[Section], table: object) -> list[str]:
        with self.assertRaises((Mistake, BaseValidationError)) as raised:
            self.read(model, table)
        return [f"{format_path(mistake.at)}: {mistake.what}" for mistake in mistakes_in(raised.exception)]


class TypesTests(ReaderTestCase):
    def test_defaults(self) -> None:
        types = self.read(Types, {})
        self.assertEqual(types, Types(file=Path("/etc/default")))
        self.assertIsNone(types.maybe)

    def test_values(self) -> None:
        types = self.read(
            Types,
            {
                "yes": True,
                "count": -(2**63),
                "share": 0.25,
                "limit": "infinity",
                "mode": "slow",
                "version": 6,
                "often": "never",
                "names": ["a", "b"],
                "numbers": {"a": 1},
                "anything": {"a": [1, {}]},
                "file": "keys/a.pem",
                "maybe": "x",
            },
        )
        self.assertEqual((types.yes, types.count, types.share), (True, -(2**63), 0.25))
        self.assertEqual((types.limit, types.mode, types.version, types.often), (math.inf, "slow", 6, "never"))
        self.assertEqual((types.names, types.numbers, types.anything), (("a", "b"), {"a": 1}, {"a": [1, {}]}))
        self.assertEqual((types.file, types.maybe), (Path("/etc/chat/keys/a.pem"), "x"))

    def test_nothing_is_converted(self) -> None:
        for key, cases in WRONG_TYPES.items():
            for value, what in cases:
                with self.subTest(key=key, value=value):
                    self.assertEqual(self.mistakes(Types, {key: value}), [f"{key}: {what}"])

    def test_absolute_path_stays(self) -> None:
        self.assertEqual(self.read(Types, {"file": "/srv/x/../y"}).file, Path("/srv/y"))

    def test_limits_compare_like_numbers(self) -> None:
        self.assertGreater(self.read(Types, {"limit": "infinity"}).limit, 10**9)
        self.assertIs(type(self.read(Types, {"limit": 7}).limit), int)

    def test_members_have_their_place_in_the_path(self) -> None:
        self.assertEqual(
            self.mistakes(Types, {"names": ["a", 1, "b", True], "numbers": {"x y": 1.5}}),
            [
                "names[1]: must be a string, not an integer",
                "names[3]: must be a string, not a boolean",
                'numbers."x y": must be an integer, not a float',
            ],
        )

    def test_allowed_words_are_listed_and_the_nearest_named(self) -> None:
        with self.assertRaises(BaseValidationError) as raised:
            self.read(Types, {"mode": "fats"})
        [mistake] = mistakes_in(raised.exception)
        self.assertEqual((mistake.allowed, mistake.meant), (("fast", "slow"), "fast"))


class SectionTests(ReaderTestCase):
    def test_all_mistakes_at_once(self) -> None:
        self.assertEqual(
            self.mistakes(Strict, {"values": [1, 0, -1], "low": "x", "hihg": 1, "colour": 2}),
            [
                "needed: is missing",
                "values[1]: must be greater than zero, not 0",
                "values[2]: must be greater than zero, not -1",
                "low: must be an integer, not a string",
                "hihg: unexpected key",
                "colour: unexpected key",
            ],
        )

    def test_contradictions_are_looked_for_between_good_values(self) -> None:
        self.assertEqual(self.mistakes(Strict, {"needed": "", "low": 3}), ["low: is more than high"])

    def test_unexpected_key_names_the_nearest_or_all(self) -> None:
        with self.assertRaises(BaseValidationError) as raised:
            self.read(Base, {"hieght": 1, "colour": 2})
        near, far = mistakes_in(raised.exception)
        self.assertEqual((near.meant, near.allowed), ("height", ()))
        self.assertEqual((far.meant, far.allowed), (None, ("inner", "level", "kind", "height", "inner_size")))

    def test_refused_key_says_why(self) -> None:
        self.assertEqual(self.mistakes(Base, {"steam": 1}), ["steam: there is no steam here"])

    def test_no_section_at_all(self) -> None:
        values: list[object] = [5, "x", [], [{}], True, None]
        for value in values:
            with self.subTest(value=value):
                self.assertEqual(len(self.mistakes(Strict, value)), 1)

    def test_checks_see_members_first(self) -> None:
        self.assertEqual(self.mistakes(Strict, {"needed": "", "values": [1, 1]}), ['values: names "1" twice'])

    def test_a_section_cannot_be_changed(self) -> None:
        strict = self.read(Strict, {"needed": "x"})
        with self.assertRaises(AttributeError):
            strict.needed = "y"
        self.assertEqual(strict.replaced(needed="y"), Strict(needed="y"))

    def test_secrets_are_not_shown(self) -> None:
        self.assertNotIn("swordfish", repr(self.read(Strict, {"needed": "x", "password": "swordfish"})))


class SpellingTests(ReaderTestCase):
    def test_aliases(self) -> None:
        self.assertEqual(self.read(Base, {"height": 5}), self.read(Base, {"level": 5}))
        self.assertEqual(self.mistakes(Base, {"height": 0}), ["height: must be greater than zero, not 0"])
        self.assertEqual(self.mistakes(Base, {"height": 1, "level": 1}), ["height: is given twice, here and as level"])

    def test_synonyms(self) -> None:
        self.assertEqual(self.read(Base, {"kind": "old"}).kind, "new")

    def test_shorthand(self) -> None:
        self.assertEqual(self.read(Base, {"inner": False}).inner, Inner(enabled=False))
        self.assertEqual(self.mistakes(Base, {"inner": 5}), ["inner: must be true or false, not an integer"])

    def test_moved_keys(self) -> None:
        self.assertEqual(self.read(Base, {"inner_size": 5}).inner, Inner(size=5))
        self.assertEqual(
            self.read(Base, {"inner_size": 5, "inner": {"enabled": False}}).inner, Inner(enabled=False, size=5)
        )
        self.assertEqual(self.read(Base, {"inner_size": 5, "inner": False}).inner, Inner(enabled=False, size=5))
        self.assertEqual(self.mistakes(Base, {"inner_size": 0}), ["inner_size: must be greater than zero, not 0"])
        self.assertEqual(
            self.mistakes(Base, {"inner_size": 5, "inner": {"size": 5}}),
            ["inner_size: is given twice, here and as inner.size"],
        )

    def test_the_table_is_not_changed(self) -> None:
        table = {"inner_size": 5, "inner": {"enabled": False}, "part": {"height": 1}}
        self.read(Whole, table)
        self.assertEqual(table, {"inner_size": 5, "inner": {"enabled": False}, "part": {"height": 1}})


class InheritanceTests(ReaderTestCase):
    def test_absent_stays_absent(self) -> None:
        self.assertIsNone(self.read(Whole, {"level": 5}).part)

    def test_what_is_not_said_is_taken_from_around(self) -> None:
        whole = self.read(Whole, {"level": 5, "inner_size": 7, "part": {"own": True}})
        self.assertEqual(whole.part, Part(level=5, inner=Inner(size=7), own=True))

    def test_what_is_said_wins_key_by_key(self) -> None:
        whole = self.read(Whole, {"level": 5, "inner": {"size": 7}, "part": {"height": 6, "inner": False}})
        self.assertEqual(whole.part, Part(level=6, inner=Inner(size=7, enabled=False)))
        self.assertEqual(whole.inner, Inner(size=7))

    def test_plain_value_around(self) -> None:
        whole = self.read(Whole, {"inner": False, "part": {"inner_size": 7}})
        self.assertEqual(whole.part, Part(inner=Inner(enabled=False, size=7)))

    def test_mistakes_are_where_they_were_written(self) -> None:
        found = self.mistakes(Whole, {"height": 0, "inner": 5, "part": {"inner_size": 0}})
        self.assertEqual(
            set(found),
            {
                "height: must be greater than zero, not 0",
                "inner: must be true or false, not an integer",
                "part.inner_size: must be greater than zero, not 0",
            },
        )
