"""[[host_config]]: what a host or host type has different from the rest of the file."""

from collections.abc import Iterator
from typing import Final, Literal

from dynxmpp.config.acl import AccessClause, AclPattern
from dynxmpp.config.auth import Auth
from dynxmpp.config.general import General
from dynxmpp.config.limits import Limits
from dynxmpp.config.model import Mistake, Section, non_empty, option, options_of, positive, section
from dynxmpp.config.modules import Modules
from dynxmpp.config.pools import HostPools
from dynxmpp.config.shaper import Shaper

_OVERRIDABLE: Final = ("route_subdomains", "replaced_wait_timeout")
_ONLY_GENERAL: Final = "holds for the whole server: it may stand in [general] only"


@section(refused={name: _ONLY_GENERAL for name in options_of(General) if name not in _OVERRIDABLE})
class HostGeneral(Section):
    """[host_config.general]"""

    route_subdomains: Literal["s2s"] | None = option(default=None, unused=True)
    replaced_wait_timeout: int | None = option(default=None, check=positive, unused=True)


_TOP_LEVEL_ONLY: Final = ("listen", "services", "internal_databases", "instrumentation")


@section(
    refused={"s2s": "not available in this server"}
    | dict.fromkeys(_TOP_LEVEL_ONLY, "holds for the whole server: it may stand at the top of the file only")
)
class HostOverride(Section):
    """[[host_config]]: `host` and `host_type` mean the same; the second wins."""

    host: str | None = option(default=None, check=non_empty)
    host_type: str | None = option(default=None, check=non_empty)
    general: HostGeneral = option(factory=HostGeneral)
    auth: Auth | None = option(default=None)
    modules: Modules | None = option(default=None)
    outgoing_pools: HostPools = option(factory=HostPools)
    shaper: dict[str, Shaper] = option(factory=dict)
    acl: dict[str, tuple[AclPattern, ...]] = option(factory=dict)
    access: dict[str, tuple[AccessClause, ...]] = option(factory=dict)
    limits: Limits = option(factory=Limits)

    @property
    def name(self) -> str:
        return self.host_type or self.host or ""

    def contradictions(self) -> Iterator[Mistake]:
        if not self.name:
            yield Mistake("is missing", at=("host_type",))
