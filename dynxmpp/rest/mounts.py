"""From the handler sections of a listener to the places of its site."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from dynxmpp.config.listen import AdminApiHandler, DomainHandler, HttpHandler
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.service import DomainService
from dynxmpp.jid import JID
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.domains_v6 import DomainsV6Api
from dynxmpp.rest.rooms import RoomsApi
from dynxmpp.rest.sessions import SessionsApi
from dynxmpp.rest.site import Mount
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

    def mount(self, handler: DomainHandler | AdminApiHandler) -> Mount:
        """One handler section."""
        users = UsersApi(self.table, self.sessions, remove_account=self.remove_account, host_types=self.host_types)
        sessions = SessionsApi(self.table, self.sessions)
        rooms = RoomsApi(self.table)
        apis: list[object] = []
        if isinstance(handler, AdminApiHandler):
            known = {"domain": DomainsV6Api(self.service), "users": users, "sessions": sessions, "muc_light": rooms}
            apis = [api for name, api in known.items() if name in handler.handlers]
        else:
            apis = [DomainsApi(self.service), users, sessions, rooms]
        return Mount(
            SIX if isinstance(handler, AdminApiHandler) else FIVE,
            host=handler.host,
            path=handler.path,
            apis=apis,
            username=handler.username,
            password=handler.password,
        )

    def mounts(self, handlers: Iterable[HttpHandler]) -> list[Mount]:
        """Those of `handlers` that are for administration, in their order."""
        return [self.mount(handler) for handler in handlers if isinstance(handler, (DomainHandler, AdminApiHandler))]
