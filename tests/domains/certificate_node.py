"""A node with the certificates of its domains, and what a client of it is shown in a handshake."""

import ssl
from typing import Any

from twisted.internet.task import Clock

from dynxmpp.core.interfaces import Announcements
from dynxmpp.domains.certificate_table import CertificateTable
from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.service import Backing, DomainService
from dynxmpp.domains.store import DomainStore
from dynxmpp.tls import ServerTLS, TLSOptions
from tests.domains.node import Node
from tests.fixtures.certs import NOW, Issued, issue
from tests.tls.handshake import meet

MIGRATIONS = (*DomainStore.migrations, *CertificateTable.migrations)


class CertificateNode(Node):
    """As the composition root builds it: the table is emptied with a domain, and the memory of all nodes too.

    `tls` is a listener of clients without any other certificate. The clock says NOW, and stands still.
    """

    def __init__(
        self, database: Any, *, announcements: Announcements | None = None, page_rows: int = 500, **options: Any
    ) -> None:
        clock = Clock()
        clock.advance(NOW)
        super().__init__(database, announcements=announcements, clock=clock, **options)
        self.certificates = DomainCertificates(
            database, self.table, clock=clock, announcements=announcements, page_rows=page_rows
        )
        self.certificates.listen()
        self.remover = DomainRemover(
            self.store,
            settings_database=database,
            places=[Place(database, stored) for stored in CertificateTable.stored],
            forgetful=[self.certificates],
        )
        self.service = DomainService(
            self.table, Backing(self.store, self.synchroniser, self.remover), spawn=self._spawn
        )
        self.tls = ServerTLS(TLSOptions(), clock=clock, stored=self.certificates)

    async def start(self) -> "CertificateNode":
        await super().start()
        await self.certificates.start()
        return self

    async def stop(self) -> None:
        await self.certificates.stop()
        await self.service.stop()

    async def put(self, domain: str, issued: Issued | None = None) -> Issued:
        """Gives `domain` this certificate, or one that is for it alone."""
        issued = issued or issue(domain.encode("idna").decode())
        await self.certificates.put(domain, issued.certificate_pem.decode(), issued.key_pem().decode())
        return issued

    def shown(self, name: str) -> bytes | None:
        """The DER of the certificate that a client is shown who asks for `name` in TLS; None: it is refused."""
        return shown(self.tls, name)


def shown(tls: Any, name: str | None) -> bytes | None:
    try:
        return meet(tls, name).der
    except ssl.SSLError:
        return None
