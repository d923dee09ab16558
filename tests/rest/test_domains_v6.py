"""Where the dialect of 6.0 to 6.5 differs."""

from typing import Any

from twisted.internet.defer import Deferred

from dynxmpp.domains.store import DomainStatus
from tests.rest.server import RestTestCase, at

ORG = at("/six", "example.org")
STATIC = at("/six", "static.example")
BASIC = {"host_type": "basic"}
DISABLED_SERVICE = "Dynamic domains service is disabled"


class SixTests(RestTestCase):
    async def says(self, method: str, path: str, body: Any, status: int, text: Any = None, **options: Any) -> None:
        answer = await self.ask(method, path, body, **options)
        self.assertEqual(answer.outcome, (status, text))

    async def test_adding(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        self.assertIn("example.org", self.node.table)
        await self.says("PUT", ORG, BASIC, 409, "Domain already exists")
        await self.says("PUT", ORG, {"host_type": "advanced"}, 409, "Domain already exists")
        await self.says("PUT", STATIC, {"host_type": "gold"}, 403, "Domain is static")
        await self.says("PUT", ORG, {"host_type": "gold"}, 403, "Unknown host type")
        await self.says("PUT", at("/six", "a b"), BASIC, 400, "Invalid domain name")
        for raw in (b"", b"{", b"[]"):
            await self.says("PUT", ORG, None, 400, "Invalid request body", raw=raw)
        await self.says("PUT", ORG, {}, 400, "'host_type' field is missing")

    async def test_looking(self) -> None:
        await self.says("GET", ORG, None, 404, "Given domain does not exist")
        await self.says("GET", STATIC, None, 403, "Domain is static")
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("GET", ORG, None, 200, {"host_type": "basic", "status": "enabled"})
        await self.says("PATCH", ORG, {"enabled": False}, 204)
        await self.says("GET", ORG, None, 200, {"host_type": "basic", "status": "disabled"})
        listed = {"domain": "example.org", "host_type": "basic", "status": "disabled"}
        await self.says("GET", "/six/domains?limit=1", None, 200, {"domains": [listed], "next": None})

    async def test_enabling(self) -> None:
        await self.says("PATCH", ORG, {"enabled": True}, 404, "Given domain does not exist")
        await self.says("PATCH", STATIC, {"enabled": True}, 403, "Domain is static")
        await self.says("PATCH", ORG, {}, 400, "'enabled' field is missing")
        await self.db.execute("INSERT INTO domain_settings (domain, host_type) VALUES ('gold.example', 'gold')")
        await self.says("PATCH", at("/six", "gold.example"), {"enabled": True}, 403, "Unknown host type")
        await self.node.store.insert("example.org", "basic")
        await self.node.store.begin_delete("example.org", "basic")
        await self.says("PATCH", ORG, {"enabled": True}, 403, "Domain has been deleted")

    async def test_deleting(self) -> None:
        await self.says("DELETE", ORG, BASIC, 404, "Given domain does not exist")
        await self.says("DELETE", STATIC, BASIC, 403, "Domain is static")
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("DELETE", ORG, {"host_type": "advanced"}, 403, "Wrong host type was provided")
        await self.says("DELETE", ORG, {"host_type": "gold"}, 403, "Unknown host type")
        await self.says("DELETE", ORG, {**BASIC, "request": "yes"}, 400, "'request' field is missing")
        await self.says("DELETE", ORG, BASIC, 204)
        await self.says("GET", ORG, None, 404, "Given domain does not exist")

    async def test_deleting_in_the_background(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        hold: Deferred[None] = Deferred()
        finish = self.node.store.finish_delete

        async def slow_finish(domain: str) -> Any:
            await hold
            return await finish(domain)

        self.node.store.finish_delete = slow_finish  # type: ignore[method-assign]
        await self.says("DELETE", ORG, {**BASIC, "request": True}, 202)
        await self.says("GET", ORG, None, 200, {"host_type": "basic", "status": "deleting"})
        hold.callback(None)
        await self.node.settle()
        await self.says("GET", ORG, None, 404, "Given domain does not exist")

    async def test_a_deletion_that_fails_leaves_the_domain_deleting(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.db.execute("ALTER TABLE notes RENAME TO elsewhere")
        await self.says("DELETE", ORG, BASIC, 500)
        await self.says("GET", ORG, None, 200, {"host_type": "basic", "status": "deleting"})
        await self.db.execute("ALTER TABLE elsewhere RENAME TO notes")
        await self.says("DELETE", ORG, BASIC, 204)
        self.assertIsNone(await self.node.store.get("example.org"))

    async def test_a_service_that_is_off_is_noticed_first(self) -> None:
        await self.node.service.stop()
        for method, body in (("PUT", BASIC), ("PATCH", {"enabled": True}), ("DELETE", BASIC), ("GET", None)):
            for path in (ORG, STATIC):
                await self.says(method, path, body, 403, DISABLED_SERVICE)
        await self.says("PUT", ORG, {"host_type": "gold"}, 403, DISABLED_SERVICE)
        await self.says("GET", "/six/domains", None, 403, DISABLED_SERVICE)

    async def test_a_database_error_says_nothing(self) -> None:
        await self.db.execute("DROP TABLE domain_settings")
        for method, body in (("PUT", BASIC), ("PATCH", {"enabled": True}), ("DELETE", BASIC), ("GET", None)):
            await self.says(method, ORG, body, 500)

    async def test_the_dialects_see_the_same_domains(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("GET", at("/api", "example.org"), None, 200, {"host_type": "basic", "enabled": True})
        await self.node.store.begin_delete("example.org", "basic")
        self.assertIs((await self.node.service.describe("example.org")).status, DomainStatus.DELETING)
        await self.says("GET", at("/api", "example.org"), None, 200, {"host_type": "basic", "enabled": False})
        await self.says("PUT", at("/api", "example.org"), BASIC, 409, {"what": "duplicate"})
