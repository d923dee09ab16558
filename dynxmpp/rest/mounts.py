"""From the handler sections of a listener to the places of its site."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from dynxmpp.config.listen import AdminApiHandler, DomainHandler, HttpHandler
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.service import DomainService
from dynxmpp.jid import JID
from dynxmpp.rest.bulk_domains import BulkDomainsApi
from dynxmpp.rest.bulk_users import BulkUsersApi
from dynxmpp.rest.certificates import CertificatesApi
from dynxmpp.rest.data import DataApi
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.domains_v6 import DomainsV6Api
from dynxmpp.rest.limits import LimitsApi
from dynxmpp.rest.rooms import RoomsApi
from dynxmpp.rest.sessions import SessionsApi
from dynxmpp.rest.site import Mount
from dynxmpp.rest.usage import DomainUse, UsageApi
from dynxmpp.rest.users import UsersApi

__all__ = ["Administration"]


@dataclass(frozen=True)
class Administration:
    """What can be administered, and the mounts that do it. `remove_account` is DomainRemover.remove_account.

    `host_types`: all of this node, whose modules are asked for the personal data of an account.
    """

    service: DomainService
    table: DomainTable[HostType]
    sessions: SessionTable
    remove_account: Callable[[JID], Awaitable[None]]
    host_types: Iterable[HostType] = ()
    certificates: DomainCertificates | None = None
    use: DomainUse | None = None

    def mount(self, handler: DomainHandler | AdminApiHandler) -> Mount:
        """One handler section."""
        users = UsersApi(self.table, self.sessions, remove_account=self.remove_account, host_types=self.host_types)
        sessions = SessionsApi(self.table, self.sessions)
        rooms = RoomsApi(self.table)
        dialect = SIX if isinstance(handler, AdminApiHandler) else FIVE
        domains = DomainsV6Api(self.service) if dialect is SIX else DomainsApi(self.service)
        certificates = CertificatesApi(self.service, self.certificates, dialect.rules)
        data = DataApi(self.service, self.table, remove_account=self.remove_account, host_types=self.host_types)
        known: dict[str, tuple[object, ...]] = {
            "domain": (domains, BulkDomainsApi(self.service, dialect), certificates, data, *self._use_apis()),
            "users": (users, BulkUsersApi(self.table, dialect)),
            "sessions": (sessions,),
            "muc_light": (rooms,),
        }
        wanted = handler.handlers if isinstance(handler, AdminApiHandler) else known
        apis = [api for name, group in known.items() if name in wanted for api in group]
        return Mount(
            dialect,
            host=handler.host,
            path=handler.path,
            apis=apis,
            username=handler.username,
            password=handler.password,
        )

    def _use_apis(self) -> Iterator[object]:
        """What domains use and may use, where the server has a database to keep that in."""
        if self.use is None:
            return
        host_types = {host_type.name: host_type for host_type in self.host_types}
        yield UsageApi(self.service, self.table, self.sessions, host_types, self.use)
        if self.use.overrides is not None:
            yield LimitsApi(self.service, self.table, host_types, self.use.overrides)

    def mounts(self, handlers: Iterable[HttpHandler]) -> list[Mount]:
        """Those of `handlers` that are for administration, in their order."""
        return [self.mount(handler) for handler in handlers if isinstance(handler, (DomainHandler, AdminApiHandler))]
