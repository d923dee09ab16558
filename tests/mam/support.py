"""Hosts whose accounts have archives, and what is in these."""

from dataclasses import dataclass
from typing import Any, ClassVar

from twisted.internet import reactor

from dynxmpp.jid import JID
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, PmArchive
from dynxmpp.modules.mam.schema import ACCOUNT
from tests.fixtures.dialogue import Accounts, Host
from tests.fixtures.postgres import DatabaseTestCase

_ROWS = """
SELECT m.id, m.remote, m.resource, m.outgoing, m.groupchat, m.source, m.origin_id, m.stanza
FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive
WHERE a.server = %s AND a.kind = %s AND a.name = %s ORDER BY m.id
"""


@dataclass(frozen=True, slots=True)
class Archived:
    """A row of an archive."""

    id: int
    remote: str
    resource: str
    outgoing: bool
    groupchat: bool
    source: str
    origin_id: str | None
    stanza: str


class ArchiveTestCase(DatabaseTestCase):
    """Two domains of a host type with archives; romeo, of the first, and juliet, of the second, are online."""

    migrations = Mam.migrations
    config: ClassVar[MamConfig] = MamConfig(pm=PmArchive())
    #: Modules besides the archive, as Host takes them.
    modules: ClassVar[tuple[Any, ...]] = ()

    async def setUp(self) -> None:
        await super().setUp()
        self.host = await self.start_host()
        self.mam: Mam = self.host.host_types[0].modules["mod_mam_meta"]  # type: ignore[assignment]
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.juliet = self.host.session("juliet@capulet.example/balcony")

    async def start_host(self) -> Host:
        """The node; a further one on the same database when it is called again."""
        host = Host(
            [*self.modules, (Mam, self.config)],
            database=self.db,
            accounts=Accounts(),
            clock=reactor,  # type: ignore[arg-type]
        )
        await host.start()
        self.addCleanup(host.settle)
        self.addCleanup(host.host_types[0].modules["mod_mam_meta"].stop)
        return host

    async def settle(self) -> None:
        """Until all that was sent is in the database."""
        await self.host.settle()
        await self.mam.store.flush()
        await self.host.settle()

    async def archived(self, owner: str, kind: int = ACCOUNT) -> list[Archived]:
        """What is in the archive of an account."""
        await self.settle()
        jid = JID.parse(owner)
        return await self.rows(jid.domain, kind, jid.local or "")

    async def rows(self, server: str, kind: int, name: str) -> list[Archived]:
        rows = await self.db.query(_ROWS, (server, kind, name))
        return [Archived(*row) for row in rows]

    async def count(self, table: str = "mam_message") -> int:
        await self.settle()
        return int((await self.db.query(f"SELECT count(*) FROM {table}"))[0][0])
