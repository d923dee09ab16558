"""The document says what is, and nothing else: schemathesis compares it with the running site."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from dynxmpp.core.domain_table import DomainOrigin
from dynxmpp.core.router import Router
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.domains.certificate_table import CertificateTable
from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.errors import InvalidDomain
from dynxmpp.module import ModuleContext
from dynxmpp.module_loader import build_modules
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.rest.certificates import CertificatesApi
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.domains_v6 import DomainsV6Api
from dynxmpp.rest.operation import Call, Reply, operation
from dynxmpp.rest.rooms import RoomsApi
from dynxmpp.rest.site import Mount
from tests.domains.node import Node
from tests.rest.server import RestTestCase

PROJECT = Path(__file__).parents[2]
SEED = "20211222"
EXAMPLES = "12"


class DocumentTests(TestCase):
    def document(self, dialect: Any, api: Any, **options: Any) -> Any:
        mount = Mount(dialect, host="_", path="/api/", apis=[api(None)], **options)
        _, handler = mount.resources["/openapi.json"]["GET"]
        return self.successResultOf(ensure(handler(Call({}, b"", b"")))).body

    def test_each_operation_has_its_errors_with_their_texts(self) -> None:
        document = self.document(FIVE, DomainsApi)
        self.assertEqual(document["servers"], [{"url": "/api"}])
        put = document["paths"]["/domains/{domain}"]["put"]
        self.assertEqual(set(put["responses"]), {"204", "400", "403", "409", "413", "415", "500"})

        def texts(status: str) -> Any:
            schema = put["responses"][status]["content"]["application/json"]["schema"]
            return schema["properties"]["what"]["enum"]

        self.assertEqual(
            texts("400"),
            ["'host_type' field is missing", "body is empty", "failed to parse JSON", "invalid domain name"],
        )
        self.assertEqual(
            texts("403"),
            ["basic auth provided, but not configured", "domain is static", "service disabled", "unknown host type"],
        )
        self.assertNotIn("content", put["responses"]["415"])
        self.assertNotIn("security", document)

    def test_the_other_dialect_is_described_as_it_is(self) -> None:
        document = self.document(SIX, DomainsV6Api, username="a", password="b")
        delete = document["paths"]["/domains/{domain}"]["delete"]
        self.assertEqual(set(delete["responses"]), {"202", "204", "400", "401", "403", "404", "413", "500"})
        self.assertNotIn("content", delete["responses"]["401"])
        self.assertEqual(document["security"], [{"basic": []}])
        self.assertIn("options", document["paths"]["/domains"])

    def test_texts_that_nobody_can_list(self) -> None:
        paths = self.document(FIVE, RoomsApi)["paths"]

        def what(path: str, method: str, status: str) -> Any:
            responses = paths[f"/muc-lights/{{domain}}{path}"][method]["responses"]
            return responses[status]["content"]["application/json"]["schema"]["properties"]["what"]

        self.assertEqual(what("/{room}/config", "patch", "400"), {"type": "string"})
        self.assertEqual(what("/{room}", "get", "400")["enum"], ["invalid domain name", "invalid room name"])

    def test_an_operation_is_described_by_what_it_is_dispatched_by(self) -> None:
        class Api:
            def __init__(self, _: object) -> None: ...

            @operation("GET", "/x/{domain}", summary="X", success=200, answer={"type": "null"}, raises=(InvalidDomain,))
            async def x(self, call: Call) -> Reply:
                return Reply(200)

        self.assertEqual(self.document(FIVE, Api)["paths"]["/x/{domain}"]["get"]["summary"], "X")


def ensure(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


class SchemathesisTests(RestTestCase):
    timeout = 110
    max_users = 1_000_000
    password = "secret"

    migrations = (*RestTestCase.migrations, *MucLight.migrations, *CertificateTable.migrations)

    def make_node(self) -> Node:
        """The host type of example.org has rooms, the other one has not."""
        node = super().make_node()
        self.certificates = DomainCertificates(self.database, node.table, clock=self.clock)
        served: Any = node.table._served["basic", DomainOrigin.DYNAMIC]
        table: Any = node.table
        context = ModuleContext(
            host_type=served.host_type,
            router=Router(table, self.sessions, SlowLane()),
            sessions=self.sessions,
            domains=table,
            database=self.database,
            clock=self.clock,
            spawn=node._spawn,
        )
        build_modules(context, {MucLight.name: MucLight.config_model()}, {MucLight.name: MucLight})
        return node

    def apis(self, domains: object) -> list[object]:
        table: Any = self.node.table
        dialect = SIX if isinstance(domains, DomainsV6Api) else FIVE
        certificates = CertificatesApi(self.node.service, self.certificates, dialect.rules)
        return [*super().apis(domains), RoomsApi(table), certificates]

    async def nothing_found_at(self, path: str, *options: str) -> None:
        await self.node.service.insert("example.org", "basic")
        for name in ("lobby", "alice"):
            room = {"id": name, "owner": "alice@example.org", "members": ["bob@example.org"]}
            self.assertEqual((await self.ask("PUT", "/api/muc-lights/example.org", room)).status, 201)
        code, report = await self.run_at(self.port, path, *options)
        self.assertEqual(code, 0, report[-6000:])
        generated = re.search(r"(\d+) generated", report)
        assert generated is not None, report
        self.assertGreater(int(generated.group(1)), 200, report)

    async def run_at(self, port: int, path: str, *options: str) -> tuple[int, str]:
        """The status of schemathesis, and its report."""
        program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
        out, err, code = await getProcessOutputAndValue(
            program,
            [
                f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
                "run",
                f"http://localhost:{port}{path}/openapi.json",
                "--checks=all",
                f"--seed={os.environ.get('SCHEMATHESIS_SEED', SEED)}",
                f"--max-examples={os.environ.get('SCHEMATHESIS_EXAMPLES', EXAMPLES)}",
                "--generation-database=none",
                "--no-color",
                *options,
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.rest.schemathesis_formats", "PYTHONPATH": str(PROJECT)},
            path=str(self.mktemp_folder()),
            reactor=reactor,
        )
        return code, out.decode(errors="replace") + err.decode(errors="replace")

    def mktemp_folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        return folder.absolute()

    async def test_the_five_dialect(self) -> None:
        await self.nothing_found_at("/api")

    async def test_the_six_dialect(self) -> None:
        await self.nothing_found_at("/six")

    async def test_with_credentials(self) -> None:
        await self.nothing_found_at("/six-auth", "--auth=admin:secret", "--phases=examples,coverage")

    async def test_what_is_not_as_described_would_be_found(self) -> None:
        class Liar:
            @operation("GET", "/x/{domain}", summary="X", success=200, answer={"type": "integer"})
            async def x(self, call: Call) -> Reply:
                return Reply(200, call.domain())

        port = self.listen([Mount(FIVE, host="localhost", path="/api", apis=[Liar()])])
        code, report = await self.run_at(port, "/api", "--phases=examples")
        self.assertEqual(code, 1, report)
        self.assertIn("Response violates schema", report)
