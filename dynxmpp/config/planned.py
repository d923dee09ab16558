"""Sections of modules that are still to come: a file that has them is read and checked in full today.

As soon as a module brings a model of its own under the same name, that one is used.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Moved,
    Section,
    non_empty,
    non_negative,
    one_of,
    only,
    option,
    positive,
    section,
    subdomain_template,
)
from dynxmpp.config.modules import IqDisc
from dynxmpp.config.report import quoted

#: For an option that names code of another server: only what is built in there can be named.
_BUILT_IN_CALLBACK: Final = one_of("mod_mam_utils", kind="callback module")
_NO_CALLBACK: Final = one_of("none", kind="callback module")

_ARCHIVE_BACKENDS: Final = one_of("rdbms", unavailable=("cassandra", "elasticsearch", "riak"), kind="backend")


# -- mod_mam_meta -----------------------------------------------------------------------------------------------------


@section
class AsyncWriter(Section):
    """`async_writer`: rows are written in batches. Times are milliseconds."""

    enabled: bool = option(default=True)
    flush_interval: int = option(default=2000, check=non_negative)
    batch_size: int = option(default=30, check=positive)
    pool_size: int | None = option(default=None, check=positive, unused=True)


@section
class Cache(Section):
    """`cache`: what is known about an archive's owner. Times are minutes."""

    module: Literal["internal", "mod_cache_users"] = option(default="internal", unused=True)
    strategy: Literal["fifo", "lru"] = option(default="fifo", unused=True)
    time_to_live: IntOrInfinity = option(default=480, check=positive)
    number_of_segments: int = option(default=3, check=positive, unused=True)


@section(
    moved={
        "flush_interval": Moved("async_writer.flush_interval"),
        "max_batch_size": Moved("async_writer.batch_size"),
    },
    refused={"riak": "backend riak is not available in this server"},
)
class ArchiveOptions(Section):
    """What `mod_mam_meta`, its `pm` and its `muc` have in common; the two take over what they do not say themselves."""

    backend: str = option(default="rdbms", check=_ARCHIVE_BACKENDS)
    no_stanzaid_element: bool = option(default=False)
    archive_chat_markers: bool = option(default=False)
    message_retraction: bool = option(default=True)
    full_text_search: bool = option(default=True)
    user_prefs_store: str | None = option(
        default=None, check=one_of("rdbms", "mnesia", unavailable=("cassandra",), kind="store of preferences")
    )
    default_result_limit: int = option(default=50, check=non_negative)
    max_result_limit: int = option(default=50, check=non_negative)
    enforce_simple_queries: bool = option(default=False)
    delete_domain_limit: IntOrInfinity = option(default=float("inf"), check=positive)
    async_writer: AsyncWriter = option(factory=AsyncWriter, shorthand="enabled")
    cache_users: bool = option(default=True)

    is_archivable_message: str = option(default="mod_mam_utils", check=_BUILT_IN_CALLBACK, unused=True)
    send_message: str = option(default="mod_mam_utils", check=_BUILT_IN_CALLBACK, unused=True)
    extra_fin_element: str = option(default="none", check=_NO_CALLBACK, unused=True)
    extra_lookup_params: str = option(default="none", check=_NO_CALLBACK, unused=True)
    async_writer_rdbms_pool: str | None = option(default=None, check=non_empty, unused=True)
    rdbms_message_format: Literal["internal", "simple"] = option(default="internal", unused=True)
    simple: bool = option(default=False, unused=True)
    db_jid_format: Literal["mam_jid_mini", "mam_jid_rfc", "mam_jid_rfc_trust"] | None = option(
        default=None, unused=True
    )
    db_message_format: Literal["mam_message_compressed_eterm", "mam_message_eterm", "mam_message_xml"] | None = option(
        default=None, unused=True
    )


@section
class PmArchive(ArchiveOptions):
    """[modules.mod_mam_meta.pm]: archives of accounts."""

    archive_groupchats: bool = option(default=False)
    same_mam_id_for_peers: bool = option(default=False)


@section
class MucArchive(ArchiveOptions):
    """[modules.mod_mam_meta.muc]: archives of the rooms below `host`."""

    host: str = option(default="conference.@HOST@", check=subdomain_template)


@section
class Mam(ArchiveOptions):
    """[modules.mod_mam_meta]: nothing is archived for accounts without `pm`, nothing for rooms without `muc`."""

    pm: PmArchive | None = option(default=None, inherits=True)
    muc: MucArchive | None = option(default=None, inherits=True)
    cache: Cache = option(factory=Cache)


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
class CarbonCopy(Section):
    """[modules.mod_carboncopy]"""

    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


@section
class Csi(Section):
    """[modules.mod_csi]"""

    buffer_max: IntOrInfinity = option(default=20, check=non_negative)


def positive_unless_word(value: Any) -> Any:
    """A check: a number is greater than zero."""
    return value if isinstance(value, str) else positive(value)


@section
class StaleH(Section):
    """[modules.mod_stream_management.stale_h]: remembering `h` after a session is gone. Times are seconds."""

    enabled: bool = option(default=False)
    repeat_after: int = option(default=1800, check=positive)
    geriatric: int = option(default=3600, check=positive)


@section
class StreamManagement(Section):
    """[modules.mod_stream_management]. Times are seconds."""

    backend: Literal["mnesia", "cets"] = option(default="mnesia", unused=True)
    buffer: bool = option(default=True)
    buffer_max: IntOrInfinity | Literal["no_buffer"] = option(default=100, check=positive_unless_word)
    ack: bool = option(default=True)
    ack_freq: int | Literal["never"] = option(default=1, check=positive_unless_word)
    resume_timeout: int = option(default=600, check=positive)
    stale_h: StaleH = option(factory=StaleH)


@section
class Adhoc(Section):
    """[modules.mod_adhoc]"""

    report_commands_node: bool = option(default=False)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


PLANNED: Final[Mapping[str, type[Section]]] = {
    "mod_mam_meta": Mam,
    "mod_muc_light": MucLight,
    "mod_domain_isolation": DomainIsolation,
    "mod_carboncopy": CarbonCopy,
    "mod_csi": Csi,
    "mod_stream_management": StreamManagement,
    "mod_adhoc": Adhoc,
}
