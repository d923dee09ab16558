"""Sections of modules that are still to come: a file that has them is read and checked in full today.

As soon as a module brings a model of its own under the same name, that one is used.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

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
from dynxmpp.config.modules import IqDisc
from dynxmpp.config.report import quoted

# -- mod_muc_light ----------------------------------------------------------------------------------------------------

_VALUES: Final = ("string_value", "integer_value", "float_value", "boolean_value")
_RESERVED_FIELDS: Final = {
    "roomname": "string_value",
    "all_can_configure": "boolean_value",
    "all_can_invite": "boolean_value",
}


@section
class RoomField(Section):
    """`config_schema`: a field of a room's configuration and its default, which gives the type."""

    field: str = option(check=non_empty)
    string_value: str | None = option(default=None)
    integer_value: int | None = option(default=None)
    float_value: float | None = option(default=None)
    boolean_value: bool | None = option(default=None)
    internal_key: str | None = option(default=None, check=non_empty)

    @property
    def value(self) -> str | int | float | bool | None:
        """The default of the field."""
        return next((value for name in _VALUES if (value := getattr(self, name)) is not None), None)

    def contradictions(self) -> Iterator[Mistake]:
        given = [name for name in _VALUES if getattr(self, name) is not None]
        if len(given) != 1:
            yield Mistake(f"exactly one of {', '.join(_VALUES)} is needed, not {len(given)}")
            return
        key = self.internal_key or self.field
        needed = _RESERVED_FIELDS.get(key, given[0])
        if given[0] != needed:
            yield Mistake(f"the reserved field {quoted(key)} needs a {needed}", at=(given[0],))


def last_of_each_field(schema: tuple[RoomField, ...]) -> tuple[RoomField, ...]:
    """A check: of several fields with one name the last is kept."""
    return tuple({room_field.field: room_field for room_field in schema}.values())


@section
class AffiliationCache(Section):
    """[modules.mod_muc_light.cache_affs]. Times are minutes."""

    module: Literal["internal"] = option(default="internal", unused=True)
    strategy: Literal["fifo", "lru"] = option(default="fifo", unused=True)
    time_to_live: IntOrInfinity = option(default=2, check=positive)
    number_of_segments: int = option(default=3, check=positive, unused=True)


@section
class MucLight(Section):
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
        check=last_of_each_field,
    )
    cache_affs: AffiliationCache | None = option(default=None)
    allow_multiple_owners: bool = option(default=False)
    promote_on_last_owner_leave: bool = option(default=True)


# -- the others -------------------------------------------------------------------------------------------------------


@section
class DomainIsolation(Section):
    """[modules.mod_domain_isolation]: no keys."""


@section
class Adhoc(Section):
    """[modules.mod_adhoc]"""

    report_commands_node: bool = option(default=False)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


PLANNED: Final[Mapping[str, type[Section]]] = {
    "mod_muc_light": MucLight,
    "mod_domain_isolation": DomainIsolation,
    "mod_adhoc": Adhoc,
}
