"""The whole file: its top-level sections."""

import functools
from collections.abc import Mapping
from typing import Any

from dynxmpp.config.acl import AccessClause, AclPattern
from dynxmpp.config.auth import Auth
from dynxmpp.config.general import General
from dynxmpp.config.limits import Limits
from dynxmpp.config.listen import Listen
from dynxmpp.config.model import Section, option, section
from dynxmpp.config.modules import Modules
from dynxmpp.config.override import HostOverride
from dynxmpp.config.pools import OutgoingPools
from dynxmpp.config.services import Services
from dynxmpp.config.shaper import Shaper
from dynxmpp.jid import InvalidJID, prepare_domain


@section(refused={"s2s": "not available in this server"})
class ConfigFile(Section):
    """A configuration file as it is written, before the differences of the host types are worked in."""

    general: General = option()
    listen: Listen = option(factory=Listen)
    auth: Auth = option(factory=Auth)
    outgoing_pools: OutgoingPools = option(factory=OutgoingPools)
    services: Services = option(factory=Services)
    modules: Modules = option(factory=lambda: Modules({}))
    shaper: dict[str, Shaper] = option(factory=dict)
    acl: dict[str, tuple[AclPattern, ...]] = option(factory=dict)
    access: dict[str, tuple[AccessClause, ...]] = option(factory=dict)
    limits: Limits = option(factory=Limits)
    host_config: tuple[HostOverride, ...] = option(default=())
    internal_databases: dict[str, Any] = option(factory=dict, unused=True)
    instrumentation: dict[str, Any] = option(factory=dict, unused=True)

    def host_type_named(self, name: str) -> str | None:
        """The host or host type that `name` means: host types byte for byte, hosts however they are spelled."""
        if name in self.general.host_types:
            return name
        try:
            prepared = prepare_domain(name)
        except InvalidJID:
            return None
        return prepared if prepared in self.general.hosts else None

    @functools.cached_property
    def overrides(self) -> Mapping[str, HostOverride]:
        """What [[host_config]] says, by the names of the hosts and host types that there are."""
        named = ((self.host_type_named(entry.name), entry) for entry in self.host_config)
        return {name: entry for name, entry in named if name is not None}
