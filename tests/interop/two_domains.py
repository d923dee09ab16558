"""A server of two domains, with TLS: example.org archives messages, example.net does not."""

from typing import ClassVar

from twisted.trial.unittest import TestCase

from tests.fixtures.server import ServerProcess, free_port, temporary_folder
from tests.interop.configs import server_with, with_database
from tests.interop.databases import ExternalPostgres, create_accounts

#: Accounts whose passwords are their addresses.
ALICE, BOB = "alice@example.org", "bob@example.org"
CAROL = "carol@example.net"

GENERAL = """
[general]
loglevel = "info"
hosts = ["example.org", "example.net"]
default_server_domain = "example.org"
"""
LISTENER = """
[[listen.c2s]]
ip_address = "127.0.0.1"
port = {port}
[listen.c2s.tls]
mode = "{mode}"
self_signed = true
certificates_dir = "{folder}/tls"
"""
MODULES = """
[modules.mod_mam_meta]
pm = {}
[[host_config]]
host = "example.net"
[host_config.modules.mod_ping]
"""


class TwoDomains(TestCase):
    """`starttls` and `direct` are the ports for clients."""

    timeout = 60
    postgres: ClassVar[ExternalPostgres]
    server: ServerProcess

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def setUp(self) -> None:  # type: ignore[override]
        self.postgres.fresh_database()
        folder = temporary_folder(self)
        self.starttls, self.direct = free_port(), free_port()
        listeners = (("starttls_required", self.starttls), ("tls", self.direct))
        sections = [LISTENER.format(port=port, mode=mode, folder=folder) for mode, port in listeners]
        text = "".join((with_database(self.postgres.connection(), general=GENERAL), *sections, MODULES))
        self.server = server_with(self, text, folder)
        await self.server.start()
        await create_accounts(self, self.postgres.settings(), *((jid, jid) for jid in (ALICE, BOB, CAROL)))
