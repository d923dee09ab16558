"""The section of the archive in the configuration."""

from typing import Final, Literal

from dynxmpp.config.model import (
    IntOrInfinity,
    Moved,
    Section,
    non_empty,
    non_negative,
    one_of,
    option,
    positive,
    section,
    subdomain_template,
)

#: For an option that names code of another server: only what is built in there can be named.
_BUILT_IN_CALLBACK: Final = one_of("mod_mam_utils", kind="callback module")
_NO_CALLBACK: Final = one_of("none", kind="callback module")

_ARCHIVE_BACKENDS: Final = one_of("rdbms", unavailable=("cassandra", "elasticsearch", "riak"), kind="backend")


@section
class AsyncWriter(Section):
    """`async_writer`: rows are written in batches. Times are milliseconds."""

    enabled: bool = option(default=True)
    flush_interval: int = option(default=2000, check=non_negative)
    batch_size: int = option(default=200, check=positive)
    pool_size: int | None = option(default=None, check=positive, unused=True)


@section
class Cache(Section):
    """`cache`: what is known about an archive's owner. Times are minutes."""

    module: Literal["internal", "mod_cache_users"] = option(default="internal", unused=True)
    strategy: Literal["fifo", "lru"] = option(default="fifo", unused=True)
    time_to_live: IntOrInfinity = option(default=480, check=positive)
    number_of_segments: int = option(default=3, check=positive, unused=True)


@section
class RetentionOptions(Section):
    """`retention`: what is too old, or too much for one archive, is removed. `check_interval` is seconds."""

    max_age_days: IntOrInfinity = option(default=float("inf"), check=positive)
    max_messages: IntOrInfinity = option(default=float("inf"), check=positive)
    check_interval: int = option(default=3600, check=positive)


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
    retention: RetentionOptions = option(factory=RetentionOptions)

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
class MamConfig(ArchiveOptions):
    """[modules.mod_mam_meta]: nothing is archived for accounts without `pm`, nothing for rooms without `muc`."""

    pm: PmArchive | None = option(default=None, inherits=True)
    muc: MucArchive | None = option(default=None, inherits=True)
    cache: Cache = option(factory=Cache)
