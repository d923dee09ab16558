"""What is wrong between sections that are right on their own: contradictions stop the start, oddities are warned of."""

from collections.abc import Iterator
from typing import Final

from dynxmpp.config.acl import ALLOW, BUILT_IN, DENY
from dynxmpp.config.file import ConfigFile
from dynxmpp.config.host_config import Config, HostConfig
from dynxmpp.config.listen import AdminApiHandler, DomainHandler
from dynxmpp.config.model import Section
from dynxmpp.config.modules import ModuleCatalogue
from dynxmpp.config.override import HostOverride
from dynxmpp.config.pools import DEFAULT_TAG
from dynxmpp.config.report import Mistake, Name, Steps, nearest, quoted
from dynxmpp.config.services import GLOBAL_POOL
from dynxmpp.config.shaper import UNLIMITED

_DEFAULT_POOL: Final = ("outgoing_pools", "rdbms", DEFAULT_TAG)
_ARCHIVES: Final = ("mod_mam_meta", "mod_mam")
_ROOMS: Final = ("mod_muc_light", "mod_muc")


def contradictions(file: ConfigFile, config: Config) -> Iterator[Mistake]:
    """What makes a start pointless."""
    yield from _host_config_entries(file)
    yield from _pools(file, config)
    yield from _shapers(file, config)
    yield from _dynamic_domains(file, config)


def _host_config_entries(file: ConfigFile) -> Iterator[Mistake]:
    seen = set()
    for entry in file.host_config:
        name = file.host_type_named(entry.name) or entry.name
        if name in seen:
            yield Mistake("has several entries: make them one", at=("host_config", Name(entry.name)))
        seen.add(name)


def _pools(file: ConfigFile, config: Config) -> Iterator[Mistake]:
    for tag, pool in file.outgoing_pools.rdbms.items():
        if pool.host is not None and file.host_type_named(pool.host) is None:
            known = tuple(config.host_types)
            what = f"{quoted(pool.host)} is neither a host nor a host type"
            yield Mistake(what, meant=nearest(pool.host, known), at=("outgoing_pools", "rdbms", tag, "host"))
    for host in config.host_types.values():
        if "rdbms" in host.auth.methods and DEFAULT_TAG not in host.rdbms_pools:
            yield Mistake("is missing: authentication method rdbms needs it", at=_DEFAULT_POOL)
    if config.services.service_domain_db is not None and not _has_global_default_pool(config):
        yield Mistake("is missing, with global scope: service_domain_db needs it", at=_DEFAULT_POOL)


def _has_global_default_pool(config: Config) -> bool:
    pool = config.outgoing_pools.rdbms.get(DEFAULT_TAG)
    return pool is not None and pool.scope == "global"


def _shapers(file: ConfigFile, config: Config) -> Iterator[Mistake]:
    for path, scope in _scopes(file):
        if UNLIMITED in scope.shaper:
            yield Mistake("the name is reserved: it means that nothing is slowed down", at=(*path, "shaper", UNLIMITED))
    hosts = config.host_types.values()
    known = {UNLIMITED, *config.shapers} | {name for host in hosts for name in (*host.shapers, *host.access.rules)}
    for index, listener in enumerate(config.listen.c2s):
        if listener.shaper is not None and listener.shaper not in known:
            yield Mistake(
                f"{quoted(listener.shaper)} is neither a shaper nor an access rule",
                allowed=sorted(known),
                meant=nearest(listener.shaper, known),
                at=("listen", "c2s", index, "shaper"),
            )


def _scopes(file: ConfigFile) -> Iterator[tuple[Steps, ConfigFile | HostOverride]]:
    """The places where shapers, classes and rules are defined."""
    yield (), file
    for entry in file.host_config:
        yield ("host_config", Name(entry.name)), entry


def _dynamic_domains(file: ConfigFile, config: Config) -> Iterator[Mistake]:
    for name in file.general.host_types:
        for module, section in config.host_types[name].modules.items():
            if not section.supports_dynamic_domains:
                what = f"does not support dynamic domains, which host type {quoted(name)} is for"
                yield Mistake(what, at=_module_path(file, name, module))


def _module_path(file: ConfigFile, host_type: str, module: str) -> Steps:
    """Where the module of a host type was switched on."""
    own = file.overrides.get(host_type)
    if own is not None and own.modules is not None and module in own.modules:
        return ("host_config", Name(host_type), "modules", module)
    if module in file.modules and (own is None or own.modules is None):
        return ("modules", module)
    return ("general", "default_modules", module)


# -- warnings ---------------------------------------------------------------------------------------------------------


def oddities(file: ConfigFile, config: Config, catalogue: ModuleCatalogue) -> Iterator[Mistake]:
    """What is probably not meant so, but does not stop the start."""
    yield from _idle_entries(file)
    yield from _replaced_modules(file)
    yield from _undefined_names(config)
    yield from _access_rules(file, config)
    yield from _unprotected_apis(config)
    for host in config.host_types.values():
        if not host.auth.methods:
            yield Mistake("no authentication method: nobody can log in", at=_auth_path(file, host.name))
        yield from _unarchived_rooms(file, host)
        for module in host.modules:
            if catalogue.is_planned(module):
                what = f"configured for {quoted(host.name)} and checked, but not served by this version yet"
                yield Mistake(what, at=_module_path(file, host.name, module))


def _idle_entries(file: ConfigFile) -> Iterator[Mistake]:
    for entry in file.host_config:
        if file.host_type_named(entry.name) is None:
            what = "has no effect: neither hosts nor host_types has the name"
            known = (*file.general.hosts, *file.general.host_types)
            yield Mistake(what, meant=nearest(entry.name, known), at=("host_config", Name(entry.name)))


def _replaced_modules(file: ConfigFile) -> Iterator[Mistake]:
    for entry in file.host_config:
        if entry.modules is None or file.host_type_named(entry.name) is None:
            continue
        dropped = [name for name in file.modules if name not in entry.modules]
        if dropped:
            what = f"replaces [modules] as a whole: what is said there of {', '.join(dropped)} does not hold here"
            yield Mistake(what, at=("host_config", Name(entry.name), "modules"))


def _undefined_names(config: Config) -> Iterator[Mistake]:
    rules = {*BUILT_IN, *(rule for host in config.host_types.values() for rule in host.access.rules)}
    for index, listener in enumerate(config.listen.c2s):
        if listener.access not in rules:
            what = f"there is no access rule {quoted(listener.access)}: nobody can log in here"
            yield Mistake(what, meant=nearest(listener.access, rules), at=("listen", "c2s", index, "access"))
    service = config.services.service_domain_db
    if service is not None and service.db_pool not in (GLOBAL_POOL, *config.host_types):
        what = f"{quoted(service.db_pool)} is no host type: the pool of the whole server is used"
        yield Mistake(what, at=("services", "service_domain_db", "db_pool"))


def _access_rules(file: ConfigFile, config: Config) -> Iterator[Mistake]:
    every_class = {name for _, scope in _scopes(file) for name in scope.acl}
    shapers = {UNLIMITED, ALLOW, DENY} | {name for _, scope in _scopes(file) for name in scope.shaper}
    shaping = {listener.shaper for listener in config.listen.c2s} - shapers
    for path, scope in _scopes(file):
        for kind, names in (("acl", scope.acl), ("access", scope.access)):
            for name in sorted(names.keys() & BUILT_IN):
                yield Mistake("has no effect: the name is built in", at=(*path, kind, name))
        classes = every_class if scope is file else {*file.acl, *scope.acl}
        for rule, clauses in scope.access.items():
            for index, clause in enumerate(clauses):
                at: Steps = (*path, "access", rule, index)
                if clause.acl not in classes and clause.acl not in BUILT_IN:
                    what = f"there is no acl {quoted(clause.acl)}: nobody is in it"
                    yield Mistake(what, meant=nearest(clause.acl, classes), at=(*at, "acl"))
                if rule in shaping and clause.value not in shapers:
                    what = f"there is no shaper {quoted(str(clause.value))}: nobody is slowed down"
                    yield Mistake(what, at=(*at, "value"))


def _unprotected_apis(config: Config) -> Iterator[Mistake]:
    for index, listener in enumerate(config.listen.http):
        for handler in listener.handlers:
            if not isinstance(handler, DomainHandler | AdminApiHandler) or handler.username or listener.is_loopback:
                continue
            what = "other machines can reach the API that creates and deletes domains, without a password"
            yield Mistake(what, at=("listen", "http", index))


def _unarchived_rooms(file: ConfigFile, host: HostConfig) -> Iterator[Mistake]:
    services = {_template(host.modules[module]) for module in _ROOMS if module in host.modules}
    for module in _ARCHIVES:
        archived = _template(getattr(host.modules.get(module), "muc", None))
        if archived is not None and archived not in services:
            what = f"{quoted(archived)} is the host of no service with rooms: nothing will be archived for rooms"
            yield Mistake(what, at=(*_module_path(file, host.name, module), "muc", "host"))


def _template(section: Section | None) -> str | None:
    """The pattern of the subdomain that a section names. Modules bring their own models: only the key is known."""
    return getattr(section, "host", None)


def _auth_path(file: ConfigFile, host_type: str) -> Steps:
    own = file.overrides.get(host_type)
    return ("auth",) if own is None or own.auth is None else ("host_config", Name(host_type), "auth")
