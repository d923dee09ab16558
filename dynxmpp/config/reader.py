"""Plain TOML values into sections: nothing is converted, and every mistake is found.

cattrs knows which reader belongs to which type and walks lists and tables; the readers are ours, because a person who
wrote "5" for 5 is to be told, not guessed at.
"""

import math
import os
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

import cattrs
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.errors import BaseValidationError, ClassValidationError

from dynxmpp.config.checks import kind_of
from dynxmpp.config.model import IntOrInfinity, Option, Section, is_section, options_of
from dynxmpp.config.report import UP, Mistake, Steps, mistakes_in, nearest, quoted

_MAX_INTEGER: Final = 2**63
_LISTED_KEYS: Final = 13
_NONE_TYPE: Final = type(None)

Table = Mapping[str, Any]


class Reader(cattrs.Converter):
    """Reads the values of one file; relative paths in it count from `directory`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(detailed_validation=True)
        self.directory = directory
        for type_ in (bool, str, float):
            self.register_structure_hook(type_, _read_exactly)
        self.register_structure_hook(int, _read_int)
        self.register_structure_hook(Path, lambda value, _: self._resolve(_read_exactly(value, str)))
        self.register_structure_hook_func(lambda type_: type_ == IntOrInfinity, _read_int_or_infinity)
        self.register_structure_hook_func(_is(Literal), _read_literal)
        self.register_structure_hook_func(_is(Union, types.UnionType), self._read_union)
        self.register_structure_hook_factory(_is(tuple), _list_reader)
        self.register_structure_hook_factory(_is(dict), _table_reader)
        self.register_structure_hook_func(is_section, self._read_section)

    def _resolve(self, text: str) -> Path:
        if not text:
            raise Mistake("must not be empty")
        return Path(os.path.normpath(self.directory / text))

    def _read_union(self, value: Any, union: Any) -> Any:
        """The member of `union` that fits; None stands for an absent key and is never written."""
        members = [member for member in get_args(union) if member is not _NONE_TYPE]
        if len(members) == 1:
            return self.structure(value, members[0])
        for member in members:
            try:
                return self.structure(value, member)
            except Mistake:
                continue
        raise Mistake(f"must be {' or '.join(_described(member) for member in members)}, not {_shown(value)}")

    def _read_section(self, table: Any, model: type[Section], around: Table | None = None) -> Section:
        """A section of the class `model`. `around` holds the keys that it takes over when it lacks them."""
        if not isinstance(table, dict):
            raise Mistake(f"must be a section, not {kind_of(table)}")
        model = model.model_for(table)
        respelled = _Respelled(table, model)
        if around is not None:
            respelled.inherit(around)
        mistakes = respelled.mistakes
        values: dict[str, Any] = {}
        for option in options_of(model).values():
            try:
                values |= self._read_option(option, respelled.table)
            except (Mistake, BaseValidationError) as error:
                mistakes += [mistake.below(option.name) for mistake in mistakes_in(error)]
        mistakes += _unexpected(respelled.table, model)
        if not mistakes:
            section = model(**values)
            mistakes += section.contradictions()
        if mistakes:
            raise ClassValidationError(
                f"section {model.__name__}", [respelled.as_written(mistake) for mistake in mistakes], model
            )
        return section

    def _read_option(self, option: Option, table: Table) -> dict[str, Any]:
        """The option's value under its name, or nothing where the class has the default."""
        if option.name in table:
            return {option.name: self._read_value(option, table[option.name], table)}
        if option.mandatory:
            raise Mistake("is missing")
        if is_section(option.type):
            return {option.name: self._read_value(option, {}, table)}
        if isinstance(option.default, Path):
            return {option.name: self._resolve(str(option.default))}
        return {}

    def _read_value(self, option: Option, value: Any, around: Table) -> Any:
        traits = option.traits
        if isinstance(value, str) and value in traits.get("synonyms", {}):
            value = traits["synonyms"][value]
        if "read" in traits:
            return option.checked(traits["read"](value, self.structure))
        if traits.get("inherits"):
            model = next(member for member in (option.type, *get_args(option.type)) if is_section(member))
            return option.checked(self._read_section(value, model, around))
        return option.checked(self.structure(value, option.type))


class _Respelled:
    """A table in the one spelling that the options have, and the way back to what the user wrote."""

    def __init__(self, table: Table, model: type[Section]) -> None:
        self.table = dict(table)
        self.mistakes: list[Mistake] = []
        self._model = model
        self._written: dict[Steps, Steps] = {}
        for option in options_of(model).values():
            for alias in option.aliases:
                self._move(alias, (option.name,), lambda value: value)
            self._expand(option)
        for key, moved in model.moved_keys.items():
            self._move(key, moved.steps, moved.translate)

    def _move(self, key: str, steps: tuple[str, ...], translate: Callable[[Any], Any]) -> None:
        if key not in self.table:
            return
        value = self.table.pop(key)
        place = self._place_of(steps[:-1])
        if place is None:
            return  # what stands in the way is reported when its own option is read
        if steps[-1] in place:
            self.mistakes.append(Mistake(f"is given twice, here and as {'.'.join(steps)}", at=(key,)))
            return
        try:
            place[steps[-1]] = translate(value)
            self._written[steps] = (key,)
        except Mistake as mistake:
            self.mistakes.append(mistake.below(key))

    def _place_of(self, steps: tuple[str, ...]) -> dict[str, Any] | None:
        """The table at `steps`, made a copy of our own; None if there is something else."""
        place = self.table
        for step in steps:
            inner = place.get(step, {})
            if not isinstance(inner, dict):
                return None
            copied = dict(inner)
            place[step] = copied
            place = copied
        return place

    def _expand(self, option: Option) -> None:
        """Makes a section of the plain value that stands for one of its keys."""
        shorthand = option.traits.get("shorthand")
        value = self.table.get(option.name)
        if shorthand is not None and value is not None and not isinstance(value, dict):
            self.table[option.name] = {shorthand: value}
            self._written[(option.name, shorthand)] = (option.name,)

    def inherit(self, around: Table) -> None:
        """Takes over what `around` has and this table lacks; mistakes in that belong to the table around."""
        for key in options_of(self._model):
            if key in around:
                self._inherit(self.table, around, (key,))

    def _inherit(self, table: dict[str, Any], around: Table, steps: tuple[str, ...]) -> None:
        key = steps[-1]
        if key not in table:
            table[key] = around[key]
            self._written[steps] = (UP, *steps)
        elif isinstance(table[key], dict) and isinstance(around[key], dict):
            table[key] = dict(table[key])
            for inner in around[key]:
                self._inherit(table[key], around[key], (*steps, inner))

    def as_written(self, mistake: Mistake) -> Mistake:
        """`mistake`, at the place where the user wrote the value."""
        for length in range(len(mistake.at), 0, -1):
            written = self._written.get(mistake.at[:length])
            if written is not None:
                return mistake.moved(written + mistake.at[length:])
        return mistake


def _unexpected(table: Table, model: type[Section]) -> Iterator[Mistake]:
    options = options_of(model)
    known = [*options, *(alias for option in options.values() for alias in option.aliases), *model.moved_keys]
    for key in table:
        if key in options:
            continue
        if key in model.refused_keys:
            yield Mistake(model.refused_keys[key], at=(key,))
            continue
        meant = nearest(key, known)
        listed = known if meant is None and len(known) <= _LISTED_KEYS else ()
        yield Mistake("unexpected key", allowed=listed, meant=meant, at=(key,))


# -- readers of plain types -------------------------------------------------------------------------------------------


def _read_exactly(value: Any, type_: type) -> Any:
    if type(value) is not type_:
        raise Mistake(f"must be {_described(type_)}, not {kind_of(value)}")
    return value


def _read_int(value: Any, _: Any) -> int:
    _read_exactly(value, int)
    if not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise Mistake("is an integer beyond 64 bits")
    return int(value)


def _read_int_or_infinity(value: Any, type_: Any) -> float:
    if value == "infinity":
        return math.inf
    if type(value) is not int:
        raise Mistake(f"must be {_described(type_)}, not {_shown(value)}")
    return _read_int(value, int)


def _read_literal(value: Any, type_: Any) -> Any:
    allowed = get_args(type_)
    if any(value == word and type(value) is type(word) for word in allowed):
        return value
    meant = nearest(value, [word for word in allowed if isinstance(word, str)]) if isinstance(value, str) else None
    raise Mistake(f"unknown value {_shown(value)}", allowed=map(str, allowed), meant=meant)


def _list_reader(type_: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    return _guarded(list, "a list", homogenous_tuple_structure_factory(type_, converter))


def _table_reader(type_: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    return _guarded(dict, "a section", mapping_structure_factory(type_, converter))


def _guarded(container: type, name: str, read: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """`read` for members of `container` only: cattrs would walk a string, too."""

    def read_container(value: Any, type_: Any) -> Any:
        if not isinstance(value, container):
            raise Mistake(f"must be {name}, not {kind_of(value)}")
        return read(value, type_)

    return read_container


def _is(*origins: Any) -> Callable[[Any], bool]:
    """Whether a type is one of `origins` with something in brackets."""
    return lambda type_: get_origin(type_) in origins


def _described(type_: Any) -> str:
    """The type as a person calls it."""
    if type_ == IntOrInfinity:
        return 'an integer or "infinity"'
    if get_origin(type_) is Literal:
        return " or ".join(quoted(word) if isinstance(word, str) else str(word) for word in get_args(type_))
    names = {bool: "true or false", int: "an integer", float: "a float", str: "a string"}
    return names.get(type_) or re.sub(r"^tuple.*", "a list", str(type_))


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else kind_of(value)
