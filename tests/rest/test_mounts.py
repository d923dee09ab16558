from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.config.listen import AdminApiHandler, DomainHandler, MetricsHandler
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.service import DomainService
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.mounts import Administration


class MountsTests(TestCase):
    def test_each_section_becomes_a_mount_of_its_dialect_in_the_order_of_the_file(self) -> None:
        table: DomainTable[Any] = DomainTable()
        service = DomainService(table, None, spawn=lambda event, work: None)

        async def remove_account(account: Any) -> None: ...

        administration = Administration(service, table, SessionTable(), remove_account)
        mounts = administration.mounts(
            [
                AdminApiHandler(host="_", path="/six/", username="a", password="b"),
                MetricsHandler(host="_", path="/metrics"),
                DomainHandler(host="LocalHost", path="/api"),
                AdminApiHandler(host="_", path="/rooms", handlers=("muc_light",)),
            ]
        )
        self.assertEqual(
            [(m.dialect, m.host, m.path) for m in mounts],
            [(SIX, "_", "/six"), (FIVE, "localhost", "/api"), (SIX, "_", "/rooms")],
        )
        self.assertIn("/domains/{domain}", mounts[0].resources)
        self.assertIn("/users/{domain}", mounts[1].resources)
        self.assertEqual(["/muc-lights/{domain}" in mount.resources for mount in mounts], [True, True, True])
        self.assertNotIn("/domains/{domain}", mounts[2].resources)
