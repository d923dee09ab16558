"""A domain's own certificate, put, looked at and taken away over loopback in both dialects, and shown to clients."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from dynxmpp.config.listen import AdminApiHandler, DomainHandler
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.service import DomainService
from dynxmpp.rest.certificates import CertificatesApi
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.domains_v6 import DomainsV6Api
from dynxmpp.rest.mounts import Administration
from dynxmpp.rest.site import Mount
from tests.domains.certificate_node import MIGRATIONS, CertificateNode
from tests.fixtures.certs import NOW, Issued, authority, issue, make_authority
from tests.fixtures.postgres import DatabaseTestCase
from tests.rest.server import HttpTestCase, at
from tests.tls.odd_certs import intermediate

AT = datetime.fromtimestamp(NOW, UTC)
ORG = at("/api", "example.org") + "/certificate"
ORG_SIX = at("/six", "example.org") + "/certificate"


def body_of(issued: Issued, **changes: Any) -> dict[str, Any]:
    return {"chain": issued.certificate_pem.decode(), "key": issued.key_pem().decode(), **changes}


class CertificateRestCase(DatabaseTestCase, HttpTestCase):
    """A node with example.org, and a static domain; /api and /six."""

    migrations = MIGRATIONS

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.database: Any = self.db
        self.node = CertificateNode(self.database, static=["static.example"])
        await self.node.start()
        self.addCleanup(self.node.stop)
        await self.node.service.insert("example.org", "basic")
        self.port = self.listen(self.mounts(self.node))

    def mounts(self, node: CertificateNode) -> list[Mount]:
        return [
            Mount(dialect, host="localhost", path=path, apis=[api, self.api(node, dialect)])
            for dialect, path, api in (
                (FIVE, "/api", DomainsApi(node.service)),
                (SIX, "/six", DomainsV6Api(node.service)),
            )
        ]

    def api(self, node: CertificateNode, dialect: Any) -> CertificatesApi:
        return CertificatesApi(node.service, node.certificates, dialect.rules)

    async def says(self, method: str, path: str, body: Any, status: int, what: str | None = None) -> None:
        answer = await self.ask(method, path, body)
        told = what if path.startswith("/six") or what is None else {"what": what}
        self.assertEqual(answer.outcome, (status, told))


class PutTests(CertificateRestCase):
    async def test_the_next_client_gets_it(self) -> None:
        for path in (ORG, ORG_SIX, ORG):
            issued = authority().issue("example.org")
            await self.says("PUT", path, body_of(issued), 204)
            self.assertEqual(self.node.shown("example.org"), issued.der)

    async def test_a_name_in_another_spelling(self) -> None:
        await self.says("PUT", at("/api", "EXAMPLE.Org.") + "/certificate", body_of(issue("example.org")), 204)
        await self.node.service.insert("bücher.example", "basic")
        issued = issue("xn--bcher-kva.example")
        for name in ("xn--bcher-kva.example", "Bücher.example"):
            await self.says("PUT", at("/api", name) + "/certificate", body_of(issued), 204)
        self.assertEqual(self.node.shown("xn--bcher-kva.example"), issued.der)

    async def test_what_is_wrong_with_it_is_told(self) -> None:
        good = issue("example.org")
        root = make_authority("Root")
        lower = intermediate("Lower", root)
        wrong_order = lower.issue("example.org", chain=(root.certificate, lower.certificate))
        for body, what in (
            (body_of(issue("example.net")), "the certificate is for example.net and not for example.org"),
            (
                body_of(authority().issue("*.example.org")),
                "the certificate is for *.example.org and not for example.org",
            ),
            (
                body_of(authority().issue("example.org", not_after=AT - timedelta(seconds=1))),
                "the certificate of CN=example.org has expired: 2025-12-31T23:59:59+00:00",
            ),
            (
                body_of(good, key=issue("example.net").key_pem().decode()),
                "the key does not belong to the first certificate of the chain",
            ),
            (
                body_of(good, key=authority().issue("x", key=rsa.generate_private_key(65537, 2048)).key_pem().decode()),
                "the key does not belong to the first certificate of the chain",
            ),
            (
                body_of(wrong_order),
                "the certificate of CN=example.org is not signed by the certificate of CN=Root, which follows it: "
                "the order is leaf, its issuer, the issuer of that one",
            ),
            (body_of(good, key=good.key_pem("sesame").decode()), "the key is encrypted; hand it in without a password"),
            (body_of(good, key="{0}"), "the key is no private key in PEM"),
            (body_of(good, chain="\0"), "the chain has no certificate in PEM, or one that cannot be read"),
            (body_of(good, chain=""), "the chain has no certificate in PEM, or one that cannot be read"),
        ):
            for path in (ORG, ORG_SIX):
                await self.says("PUT", path, body, 400, what)
        self.assertIsNone(self.node.shown("example.org"))
        self.assertEqual(await self.db.query("SELECT * FROM domain_certificates"), [])

    async def test_a_text_with_braces_is_told_as_it_is(self) -> None:
        issued = authority().issue("{0}.{x}")
        await self.says("PUT", ORG, body_of(issued), 400, "the certificate is for {0}.{x} and not for example.org")

    async def test_wrong_bodies(self) -> None:
        good = body_of(issue("example.org"))
        for body, what in (
            ({}, "'chain' field is missing"),
            ({"chain": good["chain"]}, "'key' field is missing"),
            ({**good, "chain": [good["chain"]]}, "'chain' field is missing"),
            ({**good, "key": None}, "'key' field is missing"),
        ):
            await self.says("PUT", ORG, body, 400, what)
        answer = await self.ask("PUT", ORG, raw=b"{")
        self.assertEqual(answer.outcome, (400, {"what": "failed to parse JSON"}))
        answer = await self.ask("PUT", ORG, raw=b"x", headers={"Content-Type": "application/x-pem-file"})
        self.assertEqual(answer.outcome, (415, None))
        answer = await self.ask("POST", ORG, good)
        self.assertEqual(answer.status, 405)

    async def test_huge_bodies(self) -> None:
        good = issue("example.org")
        pem = good.certificate_pem.decode()
        await self.says("PUT", ORG, body_of(good, chain=pem * 40), 400, "the chain has more than 10 certificates")
        await self.says("PUT", ORG, body_of(good, chain=pem + "x" * 50_000), 204)
        await self.says("PUT", ORG, body_of(good, chain=pem + "x" * 70_000), 413, "body is too large")
        await self.says("PUT", ORG_SIX, body_of(good, key="x" * 70_000), 413, "Request body is too large")

    async def test_the_key_is_in_no_log_and_no_answer(self) -> None:
        good = issue("example.org")
        secret = good.key_pem().decode().splitlines()[1]
        with capturedLogs() as captured:
            await self.says("PUT", ORG, body_of(good), 204)
            await self.says("PUT", ORG, body_of(good, chain="x" + good.key_pem().decode()), 400, NO_CHAIN)
            answer = await self.ask("GET", ORG)
        self.assertEqual(answer.status, 200)
        self.assertNotIn(secret, str(answer.body) + str(captured))
        self.assertIn("certificate_stored", [event["log_format"] for event in captured])


NO_CHAIN = "the chain has no certificate in PEM, or one that cannot be read"


class DomainTests(CertificateRestCase):
    async def test_domains_that_can_have_none(self) -> None:
        body = body_of(issue("example.net"))
        for method in ("PUT", "GET", "DELETE"):
            sent = body if method == "PUT" else None
            for mount, static, missing in (
                ("/api", "domain is static", "domain not found"),
                ("/six", "Domain is static", "Given domain does not exist"),
            ):
                await self.says(method, at(mount, "static.example") + "/certificate", sent, 403, static)
                await self.says(method, at(mount, "example.net") + "/certificate", sent, 404, missing)
            await self.says(method, at("/api", "a b") + "/certificate", sent, 400, "invalid domain name")

    async def test_domains_of_host_types_of_others_and_such_that_go(self) -> None:
        await self.db.execute(
            "INSERT INTO domain_settings (domain, host_type, status) VALUES ('gold.example', 'gold', 1),"
            " ('going.example', 'basic', 2)"
        )
        for name, five, six in (
            ("gold.example", "unknown host type", "Unknown host type"),
            ("going.example", "domain has been deleted", "Domain has been deleted"),
        ):
            for mount, what in (("/api", five), ("/six", six)):
                await self.says("PUT", at(mount, name) + "/certificate", body_of(issue(name)), 403, what)
                await self.says("DELETE", at(mount, name) + "/certificate", None, 403, what)

    async def test_when_the_service_is_off(self) -> None:
        await self.node.service.stop()
        static, static_six = at("/api", "static.example"), at("/six", "static.example")
        for method, body in (("PUT", body_of(issue("example.org"))), ("GET", None), ("DELETE", None)):
            await self.says(method, ORG, body, 403, "service disabled")
            await self.says(method, ORG_SIX, body, 403, "Dynamic domains service is disabled")
            await self.says(method, static + "/certificate", body, 403, "domain is static")
            await self.says(method, static_six + "/certificate", body, 403, "Dynamic domains service is disabled")

    async def test_it_goes_with_the_domain_and_stays_while_it_is_disabled(self) -> None:
        issued = issue("example.org")
        await self.says("PUT", ORG, body_of(issued), 204)
        await self.says("PATCH", at("/api", "example.org"), {"enabled": False}, 204)
        self.assertEqual((await self.ask("GET", ORG)).status, 200)
        await self.says("PATCH", at("/api", "example.org"), {"enabled": True}, 204)
        self.assertEqual(self.node.shown("example.org"), issued.der)
        await self.says("DELETE", at("/api", "example.org"), {"host_type": "basic"}, 204)
        self.assertIsNone(self.node.shown("example.org"))
        await self.says("PUT", at("/api", "example.org"), {"host_type": "basic"}, 204)
        await self.says("GET", ORG, None, 404, "certificate not found")
        self.assertIsNone(self.node.shown("example.org"))


class LookTests(CertificateRestCase):
    async def test_what_is_told(self) -> None:
        issued = authority().issue("example.org", "*.example.org", not_after=AT + timedelta(days=30, hours=5))
        await self.says("PUT", ORG, body_of(issued), 204)
        expected = {
            "names": ["example.org", "*.example.org"],
            "issuer": "CN=Test authority",
            "not_before": "2020-01-01T00:00:00Z",
            "not_after": "2026-01-31T05:00:00Z",
            "days_left": 30,
            "fingerprint": hashlib.sha256(issued.der).hexdigest(),
        }
        for path in (ORG, ORG_SIX):
            self.assertEqual((await self.ask("GET", path)).outcome, (200, expected))
        self.node.clock.advance(31 * 24 * 3600)
        self.assertEqual((await self.ask("GET", ORG)).body["days_left"], -1)

    async def test_where_there_is_none(self) -> None:
        for method in ("GET", "DELETE"):
            await self.says(method, ORG, None, 404, "certificate not found")
            await self.says(method, ORG_SIX, None, 404, "Given domain has no certificate")

    async def test_taking_it_away(self) -> None:
        for path in (ORG, ORG_SIX):
            await self.says("PUT", path, body_of(issue("example.org")), 204)
            await self.says("DELETE", path, None, 204)
            self.assertIsNone(self.node.shown("example.org"))
            self.assertEqual((await self.ask("GET", path)).status, 404)

    async def test_another_node_on_the_database_sees_it(self) -> None:
        other = CertificateNode(self.database)
        self.addCleanup(other.stop)
        await other.start()
        issued = issue("example.org")
        await self.says("PUT", ORG, body_of(issued), 204)
        facts, _ = await other.certificates.describe("example.org")
        self.assertEqual(facts.names, ("example.org",))


class DatabaseAwayTests(CertificateRestCase):
    async def test_what_is_loaded_goes_on_being_shown(self) -> None:
        issued = issue("example.org")
        await self.says("PUT", ORG, body_of(issued), 204)
        await self.db.stop()
        for method, body in (("PUT", body_of(authority().issue("example.org"))), ("GET", None), ("DELETE", None)):
            await self.says(method, ORG, body, 500, "database error")
            await self.says(method, ORG_SIX, body, 500)
        self.assertEqual(self.node.shown("example.org"), issued.der)


class MountTests(TestCase):
    def test_it_is_served_with_the_domains(self) -> None:
        table: DomainTable[Any] = DomainTable()
        service = DomainService(table, None, spawn=lambda event, work: None)

        async def remove_account(account: Any) -> None: ...

        mounts = Administration(service, table, SessionTable(), remove_account).mounts(
            [
                DomainHandler(host="_", path="/api"),
                AdminApiHandler(host="_", path="/six", handlers=("domain",)),
                AdminApiHandler(host="_", path="/users", handlers=("users",)),
            ]
        )
        resource = "/domains/{domain}/certificate"
        self.assertEqual([resource in mount.resources for mount in mounts], [True, True, False])
        self.assertEqual(set(mounts[0].resources[resource]), {"PUT", "GET", "DELETE"})
