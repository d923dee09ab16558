"""[modules.mod_muc_light]: the options of rooms, and the schema of their configuration."""

from collections.abc import Iterator
from typing import Final, Literal
from xml.parsers import expat

from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Section,
    non_empty,
    only,
    option,
    positive,
    section,
    subdomain_template,
)
from dynxmpp.config.report import quoted

_VALUES: Final = ("string_value", "integer_value", "float_value", "boolean_value")
_RESERVED_FIELDS: Final = {
    "roomname": "string_value",
    "all_can_configure": "boolean_value",
    "all_can_invite": "boolean_value",
}
#: Elements that stand beside those of the fields.
_RESERVED_NAMES: Final = ("version", "prev-version")


def element_name(value: str) -> str:
    """A check: a name that an element may have, without a prefix (an NCName), and none that says something else.

    A parser decides, because not every parser takes all the characters that newer editions of XML 1.0 allow.
    """
    if value in _RESERVED_NAMES:
        raise Mistake(f"the name {quoted(value)} is reserved")
    names: list[str] = []
    parser = expat.ParserCreate("UTF-8", " ")
    parser.StartElementHandler = lambda name, attributes: names.append(name)
    try:
        parser.Parse(f"<{value}/>", True)
    except expat.ExpatError:
        names.clear()
    if names != [value]:
        raise Mistake(f"{quoted(value)} is not a name that an XML element may have")
    return value


@section
class RoomField(Section):
    """`config_schema`: a field of a room's configuration and its default, which gives the type."""

    field: str = option(check=(non_empty, element_name))
    string_value: str | None = option(default=None)
    integer_value: int | None = option(default=None)
    float_value: float | None = option(default=None)
    boolean_value: bool | None = option(default=None)
    internal_key: str | None = option(default=None, check=non_empty)

    @property
    def value(self) -> str | int | float | bool | None:
        """The default of the field."""
        return next((value for name in _VALUES if (value := getattr(self, name)) is not None), None)

    @property
    def key(self) -> str:
        """What the field is to the service."""
        return self.internal_key or self.field

    def contradictions(self) -> Iterator[Mistake]:
        given = [name for name in _VALUES if getattr(self, name) is not None]
        if len(given) != 1:
            yield Mistake(f"exactly one of {', '.join(_VALUES)} is needed, not {len(given)}")
            return
        needed = _RESERVED_FIELDS.get(self.key, given[0])
        if given[0] != needed:
            yield Mistake(f"the reserved field {quoted(self.key)} needs a {needed}", at=(given[0],))


def last_of_each_field(schema: tuple[RoomField, ...]) -> tuple[RoomField, ...]:
    """A check: of several fields with one name the last is kept."""
    return tuple({room_field.field: room_field for room_field in schema}.values())


def own_keys(schema: tuple[RoomField, ...]) -> tuple[RoomField, ...]:
    """A check: each field is something else to the service. Two of one key would be one value under two names."""
    names: dict[str, str] = {}
    for room_field in schema:
        other = names.setdefault(room_field.key, room_field.field)
        if other != room_field.field:
            what = f"the fields {quoted(other)} and {quoted(room_field.field)} have one internal key"
            raise Mistake(f"{what}, {quoted(room_field.key)}")
    return schema


@section
class AffiliationCache(Section):
    """[modules.mod_muc_light.cache_affs]. Times are minutes."""

    module: Literal["internal"] = option(default="internal", unused=True)
    strategy: Literal["fifo", "lru"] = option(default="fifo", unused=True)
    time_to_live: IntOrInfinity = option(default=2, check=positive)
    number_of_segments: int = option(default=3, check=positive, unused=True)


@section
class MucLightConfig(Section):
    """[modules.mod_muc_light]"""

    host: str = option(default="muclight.@HOST@", check=subdomain_template)
    backend: Literal["mnesia", "rdbms"] = option(default="rdbms", unused=True)
    equal_occupants: bool = option(default=False)
    legacy_mode: bool = option(default=False, check=only(False, "legacy mode is not available in this server"))
    rooms_per_user: IntOrInfinity = option(default=float("inf"), check=positive)
    blocking: bool = option(default=True)
    all_can_configure: bool = option(default=False)
    all_can_invite: bool = option(default=False)
    max_occupants: IntOrInfinity = option(default=float("inf"), check=positive)
    rooms_per_page: IntOrInfinity = option(default=10, check=positive)
    rooms_in_rosters: bool = option(default=False)
    config_schema: tuple[RoomField, ...] = option(
        default=(RoomField(field="roomname", string_value="Untitled"), RoomField(field="subject", string_value="")),
        check=(last_of_each_field, own_keys),
    )
    cache_affs: AffiliationCache | None = option(default=None)
    allow_multiple_owners: bool = option(default=False)
    promote_on_last_owner_leave: bool = option(default=True)
