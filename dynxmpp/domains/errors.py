"""Why a change of a dynamic domain was refused. Nothing was changed unless an exception says so.

`DomainIsStatic` and `UnknownHostType` are the domain table's own; they stand here too, for those who answer requests.
"""

from dynxmpp.core.domain_table import DomainIsStatic, UnknownHostType

__all__ = [
    "DomainDeleted",
    "DomainExists",
    "DomainIsStatic",
    "DomainNotFound",
    "InvalidDomain",
    "NoCertificate",
    "ServiceDisabled",
    "UnknownHostType",
    "WrongHostType",
]


class InvalidDomain(Exception):
    """The name cannot be that of a domain."""


class ServiceDisabled(Exception):
    """The service of dynamic domains does not run."""


class DomainExists(Exception):
    """The name is taken: by a domain of another host type, or by one that is being deleted."""


class DomainNotFound(Exception):
    """No dynamic domain has this name."""


class NoCertificate(Exception):
    """The domain has no certificate of its own in the database."""


class WrongHostType(Exception):
    """The caller named another host type than the domain has: a safety catch of deleting."""


class DomainDeleted(Exception):
    """The domain is being deleted, and can be neither enabled nor disabled."""
