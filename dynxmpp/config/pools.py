"""[outgoing_pools]: connections that the server opens itself, kept and shared."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from dynxmpp.config.model import (
    Mistake,
    Moved,
    Section,
    each,
    file_exists,
    non_empty,
    non_negative,
    one_of,
    option,
    port,
    positive,
    section,
)

#: The tag of the pool that everything uses which is not told another one.
DEFAULT_TAG: Final = "default"

TLS_VERSIONS: Final = ("tlsv1.2", "tlsv1.3")
_TLS_VERSIONS_ELSEWHERE: Final = ("sslv3", "tlsv1", "tlsv1.1")

#: For an option that lists versions of TLS.
available_tls_version = one_of(*TLS_VERSIONS, unavailable=_TLS_VERSIONS_ELSEWHERE, kind="TLS version")

VerifyMode = Literal["peer", "selfsigned_peer", "none"]

_NOT_AVAILABLE: Final = "not available in this server"
_NOT_FOR_EMBEDDED: Final = "the embedded database has none: remove the key"


def verify_mode_of(verify_peer: Any) -> str:
    """`verify_mode` for the yes or no that `verify_peer` was before."""
    if not isinstance(verify_peer, bool):
        raise Mistake("must be true or false")
    return "peer" if verify_peer else "none"


def named(tables: dict[str, Any]) -> dict[str, Any]:
    """A check: no table has the empty name."""
    if "" in tables:
        raise Mistake("the name must not be empty", at=("",))
    return tables


@section
class ServerName(Section):
    """[outgoing_pools.rdbms.TAG.connection.tls.server_name_indication]"""

    enabled: bool = option(default=True, unused=True)
    host: str | None = option(default=None, check=non_empty, unused=True)
    protocol: Literal["default", "https"] = option(default="default", unused=True)


@section(moved={"verify_peer": Moved("verify_mode", verify_mode_of)})
class RdbmsTls(Section):
    """[outgoing_pools.rdbms.TAG.connection.tls]"""

    required: bool = option(default=False)
    verify_mode: VerifyMode = option(default="peer")
    certfile: Path | None = option(default=None, check=file_exists)
    keyfile: Path | None = option(default=None, check=file_exists)
    cacertfile: Path | None = option(default=None, check=file_exists)
    dhfile: Path | None = option(default=None, check=file_exists, unused=True)
    password: str | None = option(default=None, secret=True)
    ciphers: str | None = option(default=None, check=non_empty, unused=True)
    versions: tuple[str, ...] = option(default=TLS_VERSIONS, check=(non_empty, each(available_tls_version)))
    server_name_indication: ServerName = option(factory=ServerName, shorthand="enabled", unused=True)

    def contradictions(self) -> Iterator[Mistake]:
        if self.verify_mode != "none" and self.cacertfile is None:
            needed = f'is missing: verify_mode "{self.verify_mode}" needs it (or set verify_mode = "none")'
            yield Mistake(needed, at=("cacertfile",))
        if self.certfile is not None and self.keyfile is None:
            yield Mistake("is missing: certfile needs it", at=("keyfile",))


@section
class RdbmsConnection(Section):
    """[outgoing_pools.rdbms.TAG.connection]: what both drivers have in common."""

    driver: str = option(check=one_of("pgsql", "embedded", unavailable=("mysql", "odbc", "cockroachdb"), kind="driver"))
    keepalive_interval: int | None = option(default=None, check=positive)
    query_timeout: int = option(default=5000, check=non_negative)
    max_start_interval: int = option(default=30, check=positive)

    @classmethod
    def model_for(cls, table: Mapping[str, Any]) -> type[Self]:
        models: dict[Any, type[RdbmsConnection]] = {"embedded": EmbeddedConnection}
        driver = table.get("driver")
        return models.get(driver if isinstance(driver, str) else None, PgsqlConnection)  # type: ignore[return-value]


@section(refused={"settings": "is for the odbc driver, which is not available in this server"})
class PgsqlConnection(RdbmsConnection):
    """[outgoing_pools.rdbms.TAG.connection] with driver = "pgsql": a PostgreSQL server that runs already."""

    host: str = option(check=non_empty)
    port: int = option(default=5432, check=port)
    database: str = option(check=non_empty)
    username: str = option(check=non_empty)
    password: str = option(check=non_empty, secret=True)
    tls: RdbmsTls | None = option(default=None)


@section(refused=dict.fromkeys(("host", "username", "password", "tls"), _NOT_FOR_EMBEDDED))
class EmbeddedConnection(RdbmsConnection):
    """[outgoing_pools.rdbms.TAG.connection] with driver = "embedded": PostgreSQL as a child of this server."""

    data_dir: Path = option(default=Path("../var/postgres"))
    database: str = option(default="dynxmpp", check=non_empty)
    run_as: str | None = option(default="nobody", check=non_empty)
    port: int | None = option(default=None, check=port)


@section(refused=dict.fromkeys(("scope", "host"), "a pool in host_config belongs to that host type"))
class RdbmsPool(Section):
    """[host_config.outgoing_pools.rdbms.TAG]: a pool of one host type's own; one worker is one connection."""

    workers: int = option(default=10, check=positive)
    strategy: Literal["best_worker", "random_worker", "next_worker", "available_worker", "next_available_worker"] = (
        option(default="best_worker", unused=True)
    )
    call_timeout: int = option(default=60000, check=positive)
    max_worker_queue_len: int | None = option(default=None, check=non_negative, unused=True)
    connection: RdbmsConnection = option()

    def contradictions(self) -> Iterator[Mistake]:
        if self.max_worker_queue_len is not None and self.strategy != "best_worker":
            yield Mistake('is for strategy = "best_worker" only', at=("max_worker_queue_len",))


@section
class SharedRdbmsPool(RdbmsPool):
    """[outgoing_pools.rdbms.TAG]"""

    scope: Literal["global", "host_type", "single_host"] = option(default="global", synonyms={"host": "host_type"})
    host: str | None = option(default=None, check=non_empty)

    def contradictions(self) -> Iterator[Mistake]:
        yield from super().contradictions()
        if self.scope == "single_host" and self.host is None:
            yield Mistake('is missing: scope = "single_host" needs it', at=("host",))
        if self.scope != "single_host" and self.host is not None:
            yield Mistake('is for scope = "single_host" only', at=("host",))


_OTHER_POOLS: Final = dict.fromkeys(("cassandra", "elastic", "http", "ldap", "rabbit", "redis", "riak"), _NOT_AVAILABLE)


@section(refused=_OTHER_POOLS)
class OutgoingPools(Section):
    """[outgoing_pools]: pools by their tag."""

    rdbms: dict[str, SharedRdbmsPool] = option(factory=dict, check=named)


@section(refused=_OTHER_POOLS)
class HostPools(Section):
    """[host_config.outgoing_pools]: replaces the pool of the same tag for one host type."""

    rdbms: dict[str, RdbmsPool] = option(factory=dict, check=named)
