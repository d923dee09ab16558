"""A section of the configuration file is a declaration: a frozen class whose attributes are its keys.

    @section
    class Shaper(Section):
        \"\"\"[shaper.NAME]\"\"\"

        max_rate: int = option(check=positive)  # no default: the key is mandatory

    @section
    class Offline(Section):
        \"\"\"[modules.mod_offline]\"\"\"

        backend: Literal["rdbms", "mnesia"] = option(default="rdbms", unused=True)
        max_messages: IntOrInfinity = option(default=100, check=positive, aliases=("limit",))

The annotation is the type that the file must have, exactly (no "5" and no 1.0 for an integer):

    bool, int, float, str      the TOML type of that name
    IntOrInfinity              an integer or the string "infinity", which is math.inf here
    Literal["a", "b"]          one of these strings
    Path                       a string; relative paths count from the folder of the file
    tuple[T, ...]              a list
    dict[str, T]               a section with keys of the user's choice; T may be Any
    a Section                  a section; if it is absent, the one with all defaults
    T | None                   T; None means absent, TOML itself has no such value
    int | Literal["never"]     an integer or that word

A section that deviates further says how: `option(read=...)`, `Section.model_for`, `Section.contradictions`.
"""

import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import attrs

from dynxmpp.config.checks import (
    Check,
    apply,
    at_most,
    domain,
    each,
    file_exists,
    ip_address,
    jid,
    localpart,
    non_empty,
    non_negative,
    one_of,
    only,
    port,
    positive,
    regexp,
    resourcepart,
    subdomain_template,
    unique,
)
from dynxmpp.config.report import Mistake

__all__ = [
    "IntOrInfinity",
    "Mistake",
    "Moved",
    "Section",
    "at_most",
    "domain",
    "each",
    "file_exists",
    "ip_address",
    "jid",
    "localpart",
    "non_empty",
    "non_negative",
    "one_of",
    "only",
    "option",
    "port",
    "positive",
    "regexp",
    "resourcepart",
    "section",
    "subdomain_template",
    "unique",
]

T = TypeVar("T")
S = TypeVar("S", bound="Section")

#: An int, or math.inf for the string "infinity": comparisons mean what they say.
IntOrInfinity = Annotated[float, "an integer or infinity"]

#: `structure(value, type)`: reads a part of the file as the given type.
Structure = Callable[[Any, Any], Any]


class Section:
    """A table of the configuration file. Derive from it and decorate with `section`."""

    __slots__ = ()

    #: Keys of other versions of the file: where their value is found here.
    moved_keys: ClassVar[Mapping[str, "Moved"]] = {}
    #: Keys that other servers know and this one has nothing for: the sentence that says so.
    refused_keys: ClassVar[Mapping[str, str]] = {}
    #: False for the section of a module that cannot serve domains which come and go.
    supports_dynamic_domains: ClassVar[bool] = True

    @classmethod
    def model_for(cls, table: Mapping[str, Any]) -> "type[Self]":
        """The class that describes `table`, where one of its keys decides; raises Mistake."""
        return cls

    def contradictions(self) -> Iterable[Mistake]:
        """What is wrong between options that are right on their own."""
        return ()

    def replaced(self, **changes: Any) -> Self:
        """The same section with some options changed, which are not checked again."""
        return cast("Self", attrs.evolve(cast("Any", self), **changes))


@attrs.frozen
class Moved:
    """Where the value of a key of another version is found: `Moved("password.scram_iterations")`.

    `translate` turns the value into what is written there; it raises Mistake.
    """

    to: str
    translate: Callable[[Any], Any] = lambda value: value

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.to.split("."))


class Traits(TypedDict, total=False):
    """What an option may declare besides its type and default."""

    #: Checks of the value, in order.
    check: Check | tuple[Check, ...]
    #: Other spellings of the key.
    aliases: tuple[str, ...]
    #: Words that stand for a value of another type, or for another word.
    synonyms: Mapping[str, Any]
    #: Accepted from other servers' files: there is nothing to choose here.
    unused: bool
    #: Not shown when the section is printed.
    secret: bool
    #: For a section: the key that a plain value stands for (`async_writer = false`).
    shorthand: str
    #: For a section: keys it lacks are taken from the section around it.
    inherits: bool
    #: Reads the value instead of the type's own rules.
    read: Callable[[Any, Structure], Any]


@overload
def option(*, default: T, **traits: Unpack[Traits]) -> T: ...
@overload
def option(*, factory: Callable[[], T], **traits: Unpack[Traits]) -> T: ...
@overload
def option(**traits: Unpack[Traits]) -> Any: ...
def option(*, default: Any = attrs.NOTHING, factory: Any = None, **traits: Unpack[Traits]) -> Any:
    """A key of a section; mandatory without `default` or `factory`. The rest is described at `Traits`."""
    return attrs.field(
        default=default, factory=factory, repr=not traits.get("secret", False), metadata={"traits": traits}
    )


@overload
@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option,))
def section(cls: type[S], /) -> type[S]: ...
@overload
@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option,))
def section(*, moved: Mapping[str, Moved] = ..., refused: Mapping[str, str] = ...) -> Callable[[type[S]], type[S]]: ...
def section(
    cls: Any = None, /, *, moved: Mapping[str, Moved] | None = None, refused: Mapping[str, str] | None = None
) -> Any:
    """Makes a frozen class of a declaration; `moved` and `refused` are added to those of the parent class."""

    def decorate(cls: type[S]) -> type[S]:
        frozen = attrs.frozen(cls, kw_only=True)
        frozen.moved_keys = {**cls.moved_keys, **(moved or {})}
        frozen.refused_keys = {**cls.refused_keys, **(refused or {})}
        return frozen

    return decorate if cls is None else decorate(cls)


@attrs.frozen
class Option:
    """One key of a section, as its declaration says."""

    name: str
    type: Any
    default: Any
    traits: Traits

    @property
    def mandatory(self) -> bool:
        return self.default is attrs.NOTHING

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.traits.get("aliases", ())

    def checked(self, value: Any) -> Any:
        """`value`, which has the right type, after the option's checks."""
        checks = self.traits.get("check", ())
        return apply(checks if isinstance(checks, tuple) else (checks,), value)


def options_of(model: type[Section]) -> Mapping[str, Option]:
    """The options of a section by their keys, in the order of their declaration."""
    return _options_of(cast("Any", model))


@functools.cache
def _options_of(model: type[Section]) -> Mapping[str, Option]:
    attrs.resolve_types(model)  # type: ignore[type-var]  # `section` made it an attrs class
    return {
        field.name: Option(field.name, field.type, field.default, field.metadata.get("traits", {}))
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", model))
    }


def is_section(type_: Any) -> bool:
    """Whether a table of the file becomes an object of that type."""
    return isinstance(type_, type) and issubclass(type_, Section)
