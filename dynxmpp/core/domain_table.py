"""DomainTable: domain -> host type, in memory, on every node. A domain costs one dictionary entry.

Subdomains are never stored: `muclight.example.org` is the service that the host type of `example.org` has registered
under the prefix `muclight.`. A domain wins over a subdomain of the same name, because it is looked up first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

H = TypeVar("H")


class DomainOrigin(Enum):
    STATIC = "static"
    DYNAMIC = "dynamic"


class DomainIsStatic(Exception):
    """The domain stands in the configuration file; nothing at run time may change it."""


class UnknownHostType(Exception):
    """The name is no host type that dynamic domains may have."""


class OtherHostType(Exception):
    """The domain is present with another host type."""


@dataclass(frozen=True, slots=True)
class Served(Generic[H]):
    """What a domain points to; one object for all domains of a host type and origin."""

    host_type: H
    origin: DomainOrigin


@dataclass(frozen=True, slots=True)
class Subdomain(Generic[H]):
    """A computed name: the service pattern it matches and the domain it derives from (None for a fixed name)."""

    host_type: H
    pattern: str
    parent: str | None


class DomainTable(Generic[H]):
    """The domains that this node serves. `H` is the host type; the table only passes it on."""

    def __init__(self) -> None:
        self._domains: dict[str, Served[H]] = {}
        self._served: dict[tuple[str, DomainOrigin], Served[H]] = {}
        self._prefixes: dict[str, dict[str, H]] = {}  # prefix with its dot -> host type name -> host type
        self._prefix_labels: tuple[int, ...] = ()
        self._fixed: dict[str, Subdomain[H]] = {}

    # -- host types

    def add_host_type(self, name: str, host_type: H, origin: DomainOrigin) -> None:
        """Makes `name` known; only dynamic ones are open to domains inserted at run time."""
        self._served[name, origin] = Served(host_type, origin)

    def accepts(self, host_type: str) -> bool:
        """May dynamic domains have this host type?"""
        return (host_type, DomainOrigin.DYNAMIC) in self._served

    # -- domains

    def add_static(self, domain: str) -> None:
        """A domain of general.hosts: its host type has its own name."""
        self._domains[domain] = self._served[domain, DomainOrigin.STATIC]

    def insert(self, domain: str, host_type: str) -> None:
        """Adds a dynamic domain; the same pair again changes nothing.

        Raises DomainIsStatic, UnknownHostType, OtherHostType.
        """
        served = self._served.get((host_type, DomainOrigin.DYNAMIC))
        present = self._domains.get(domain)
        if present is not None and present.origin is DomainOrigin.STATIC:
            raise DomainIsStatic(domain)
        if served is None:
            raise UnknownHostType(host_type)
        if present is not None and present is not served:
            raise OtherHostType(domain)
        self._domains[domain] = served

    def delete(self, domain: str) -> bool:
        """Takes a dynamic domain away; False when it was not there. Raises DomainIsStatic."""
        present = self._domains.get(domain)
        if present is None:
            return False
        if present.origin is DomainOrigin.STATIC:
            raise DomainIsStatic(domain)
        del self._domains[domain]
        return True

    def get(self, domain: str) -> Served[H] | None:
        """The domain itself, no subdomain: what a stream's `to` is looked up in."""
        return self._domains.get(domain)

    def is_static(self, domain: str) -> bool:
        served = self._domains.get(domain)
        return served is not None and served.origin is DomainOrigin.STATIC

    def __contains__(self, domain: str) -> bool:
        return domain in self._domains

    def __len__(self) -> int:
        return len(self._domains)

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def dynamic_domains(self) -> Iterable[str]:
        """A copy of the names, so that the table may change under the caller."""
        return [name for name, served in self._domains.items() if served.origin is DomainOrigin.DYNAMIC]

    # -- subdomains

    def register_subdomain(self, host_type_name: str, host_type: H, pattern: str) -> bool:
        """A service of a host type under `prefix.@HOST@`, or under a fixed name; False when the name is taken."""
        if not pattern.endswith(".@HOST@"):
            if pattern in self._fixed:
                return False
            self._fixed[pattern] = Subdomain(host_type, pattern, None)
            return True
        prefix = pattern.removesuffix("@HOST@")
        types = self._prefixes.setdefault(prefix, {})
        if host_type_name in types:
            return False
        types[host_type_name] = host_type
        self._prefix_labels = tuple(sorted({prefix.count(".") for prefix in self._prefixes}))
        return True

    def find_subdomain(self, name: str) -> Subdomain[H] | None:
        """The service that answers for `name`, which is not a domain itself."""
        for labels in self._prefix_labels:
            parts = name.split(".", labels)
            if len(parts) <= labels:
                break
            parent = parts[-1]
            served = self._domains.get(parent)
            if served is None:
                continue
            prefix = name[: -len(parent)]
            if served.host_type in self._prefixes.get(prefix, {}).values():
                return Subdomain(served.host_type, prefix + "@HOST@", parent)
        return self._fixed.get(name)

    def owner(self, name: str) -> str:
        """The domain that `name` belongs to: its parent for a subdomain, else itself."""
        if name in self._domains:
            return name
        subdomain = self.find_subdomain(name)
        return name if subdomain is None or subdomain.parent is None else subdomain.parent
