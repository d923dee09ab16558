"""[general]: who is served, and what holds for the whole server."""

from collections.abc import Iterator
from typing import Any, Literal

from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Section,
    domain,
    each,
    non_empty,
    one_of,
    option,
    positive,
    section,
    unique,
)
from dynxmpp.config.modules import DEFAULT_MODULES, ModuleName
from dynxmpp.config.report import quoted

LogLevel = Literal["none", "emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "all"]


@section(
    refused={"domain_certfile": "not available in this server: put the files into certificates_dir of listen.c2s.tls"}
)
class General(Section):
    """[general]"""

    loglevel: LogLevel = option(default="warning")
    hosts: tuple[str, ...] = option(default=(), check=(each(domain), unique))
    host_types: tuple[str, ...] = option(default=(), check=(each(non_empty), unique))
    default_server_domain: str = option(check=domain)
    default_modules: tuple[ModuleName, ...] = option(default=DEFAULT_MODULES, check=unique)
    registration_timeout: IntOrInfinity = option(default=600, check=positive)
    language: str = option(default="en", check=non_empty)
    sm_backend: str = option(default="mnesia", check=one_of("mnesia", "cets", unavailable=("redis",)))
    replaced_wait_timeout: int = option(default=2000, check=positive, unused=True)
    hide_service_name: bool = option(default=False)
    http_server_name: str | None = option(default=None, check=non_empty)
    route_subdomains: Literal["s2s"] | None = option(default=None, unused=True)
    routing_modules: tuple[str, ...] | None = option(default=None, unused=True)

    all_metrics_are_global: bool = option(default=False, unused=True)
    rdbms_server_type: str = option(default="pgsql", check=one_of("pgsql", unavailable=("mssql",)), unused=True)
    mongooseimctl_access_commands: dict[str, Any] = option(factory=dict, unused=True)
    max_fsm_queue: int | None = option(default=None, check=positive, unused=True)
    override: tuple[Literal["local", "global", "acls"], ...] = option(default=(), unused=True)
    component_backend: Literal["mnesia", "cets"] = option(default="mnesia", unused=True)
    s2s_backend: Literal["mnesia", "cets"] = option(default="mnesia", unused=True)

    def contradictions(self) -> Iterator[Mistake]:
        if not self.hosts and not self.host_types:
            yield Mistake("at least one of hosts and host_types must name something")
        for index, name in enumerate(self.host_types):
            if name in self.hosts:
                yield Mistake(f"{quoted(name)} is in hosts as well", at=("host_types", index))
