"""What the file means for each host type: the rest of the file with the differences of [[host_config]] worked in.

| Section | What [[host_config]] does to it |
|---|---|
| general, limits | single options are replaced |
| auth, modules | the whole section is replaced |
| outgoing_pools, shaper | the entry of the same name is replaced |
| acl, access | merged, see `Access.merged` |
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from dynxmpp.config.acl import Access
from dynxmpp.config.auth import Auth
from dynxmpp.config.file import ConfigFile
from dynxmpp.config.general import General
from dynxmpp.config.limits import Limits
from dynxmpp.config.listen import Listen
from dynxmpp.config.model import Section, options_of
from dynxmpp.config.override import HostGeneral, HostOverride
from dynxmpp.config.pools import OutgoingPools, RdbmsPool
from dynxmpp.config.services import Services
from dynxmpp.config.shaper import UNLIMITED, Shaper


@attrs.frozen
class HostConfig:
    """Everything that holds for one host type. A static host is a host type of its own, with one domain."""

    name: str
    is_static: bool
    #: [general] with the options that this host type has different.
    general: General
    auth: Auth
    #: The sections of its modules by name, the default modules among them.
    modules: Mapping[str, Section]
    #: The pools that it uses by tag: those of its own, else the shared ones.
    rdbms_pools: Mapping[str, RdbmsPool]
    shapers: Mapping[str, Shaper]
    access: Access
    #: What each of its domains may use, unless the administration says otherwise.
    limits: Limits = attrs.field(factory=Limits)

    def shaper(
        self,
        name: str | None,
        *,
        local: str | None,
        domain: str,
        resource: str | None,
        hosted: Callable[[str], bool],
    ) -> Shaper | None:
        """The shaper that `name` (of a listener) means for a user, all parts prepared; None does not slow down.

        A shaper of that name if there is one, as 6.x has it; else the value of the access rule of that name, as 5.0.
        """
        if name is None or name == UNLIMITED:
            return None
        if name in self.shapers:
            return self.shapers[name]
        value = self.access.value(
            name, local=local, domain=domain, resource=resource, context_domain=domain, hosted=hosted
        )
        return self.shapers.get(value) if isinstance(value, str) else None


@attrs.frozen
class Config:
    """A configuration file that can be used. `warnings` says what in it is probably not meant so."""

    path: Path
    general: General
    listen: Listen
    #: Without the pools of scope "single_host", which are those of one host type.
    outgoing_pools: OutgoingPools
    services: Services
    shapers: Mapping[str, Shaper]
    #: By name: the static hosts in the order of the file, then the host types.
    host_types: Mapping[str, HostConfig]
    warnings: tuple[str, ...] = ()


def resolve(path: Path, file: ConfigFile, default_modules: Mapping[str, Section]) -> Config:
    """What `file` means; `default_modules` are added wherever they are not configured."""
    shared_pools = {tag: pool for tag, pool in file.outgoing_pools.rdbms.items() if pool.scope != "single_host"}
    return Config(
        path=path,
        general=file.general,
        listen=file.listen,
        outgoing_pools=file.outgoing_pools.replaced(rdbms=shared_pools),
        services=file.services,
        shapers=file.shaper,
        host_types={
            name: _host_config(name, file, default_modules) for name in (*file.general.hosts, *file.general.host_types)
        },
    )


def _host_config(name: str, file: ConfigFile, default_modules: Mapping[str, Section]) -> HostConfig:
    own = file.overrides.get(name) or HostOverride(host_type=name)
    modules = file.modules if own.modules is None else own.modules
    return HostConfig(
        name=name,
        is_static=name in file.general.hosts,
        general=_general(file.general, own),
        auth=file.auth if own.auth is None else own.auth,
        modules={**modules, **{key: value for key, value in default_modules.items() if key not in modules}},
        rdbms_pools=_pools(name, file, own),
        shapers={**file.shaper, **own.shaper},
        access=Access(file.acl, file.access).merged(own.acl, own.access),
        limits=file.limits.merged(own.limits),
    )


def _general(general: General, own: HostOverride) -> General:
    given = {name: value for name in options_of(HostGeneral) if (value := getattr(own.general, name)) is not None}
    return general.replaced(**given)


def _pools(name: str, file: ConfigFile, own: HostOverride) -> Mapping[str, RdbmsPool]:
    shared = {
        tag: pool
        for tag, pool in file.outgoing_pools.rdbms.items()
        if pool.host is None or file.host_type_named(pool.host) == name
    }
    return {**shared, **own.outgoing_pools.rdbms}
