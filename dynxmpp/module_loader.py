"""Finds modules by entry point, and builds those of a host type."""

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points

from twisted.logger import Logger

from dynxmpp.config.model import Section
from dynxmpp.core.host_type import HostType
from dynxmpp.core.virtual_stream import VirtualStream
from dynxmpp.module import IQS, Module, ModuleContext, WokkelModule

GROUP = "dynxmpp.modules"

log = Logger()

ModuleClasses = Mapping[str, type[Module]]


class NotAModule(Exception):
    """An entry point of the group names something that is no handler, or a module under another name."""


def discover() -> dict[str, type[Module]]:
    """The installed modules by name. Raises NotAModule for an entry point that cannot be one."""
    classes: dict[str, type[Module]] = {}
    for point in entry_points(group=GROUP):
        found = point.load()
        if isinstance(found, type) and issubclass(found, Module):
            if found.name != point.name:
                raise NotAModule(f"entry point {point.name} names the module {found.name}")
            classes[point.name] = found
        elif isinstance(found, type) and hasattr(found, "makeConnection"):
            classes[point.name] = WokkelModule.wrap(point.name, found)
        else:
            raise NotAModule(f"entry point {point.name} names no wokkel handler: {point.value}")
    return classes


def config_models(classes: ModuleClasses) -> dict[str, type[Section]]:
    """What the configuration may say about each module."""
    return {name: module.config_model for name, module in classes.items()}


def build_modules(context: ModuleContext, configs: Mapping[str, object], classes: ModuleClasses) -> None:
    """Makes the modules of a host type and compiles it. Names in `configs` that no class has are passed over.

    Raises iq_registry.DuplicateHandler.
    """
    host_type = context.host_type
    host_type.virtual_stream = VirtualStream(context.router.send)
    for name, config in configs.items():
        if name not in classes:
            continue
        module = classes[name](context, config)
        module.parent = host_type.virtual_stream
        module.makeConnection(host_type.virtual_stream)
        if module.subdomain is not None:
            _serve(module, context)
        host_type.add(module)
    host_type.compile()
    host_type.not_served = frozenset(
        route.payload
        for name, module in classes.items()
        if name not in configs
        for _, routes in module.declared(IQS)
        for route in routes
    )


def _serve(module: Module, context: ModuleContext) -> None:
    """Puts a module at its subdomain; of two that want the same name the first has it."""
    pattern, host_type = module.subdomain, context.host_type
    assert pattern is not None
    if context.domains.register_subdomain(host_type.name, host_type, pattern):
        host_type.services[pattern] = module
    else:
        log.error("subdomains_collision", host_type=host_type.name, pattern=pattern, module=module.name)


async def start_modules(host_types: Iterable[HostType]) -> None:
    """Starts the modules of all host types; after it, stanzas may come."""
    for host_type in host_types:
        for module in host_type:
            await module.start()
            if isinstance(module, Module):
                module.connectionInitialized()


async def stop_modules(host_types: Iterable[HostType]) -> None:
    """Stops what `start_modules` started, in the opposite order."""
    for host_type in host_types:
        for module in reversed(list(host_type)):
            await module.stop()
