"""Every row of the tables of the 5.0 dialect, over loopback."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from dynxmpp.db.pool import Database
from dynxmpp.domains.store import DomainStatus
from tests.fixtures.postgres import OwnServer
from tests.rest.server import RestTestCase, at

ORG = at("/api", "example.org")
BASIC = {"host_type": "basic"}


class FiveTestCase(RestTestCase):
    async def says(self, method: str, path: str, body: Any, status: int, what: Any = None, **options: Any) -> None:
        answer = await self.ask(method, path, body, **options)
        self.assertEqual(answer.outcome, (status, None if what is None else {"what": what}))

    async def status_of(self, domain: str) -> DomainStatus | None:
        row = await self.node.store.get(domain)
        return None if row is None else row.status


class AddingTests(FiveTestCase):
    async def test_the_domain_can_be_logged_in_to_when_the_answer_is_there(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        self.assertIn("example.org", self.node.table)

    async def test_other_members_of_the_body_are_ignored(self) -> None:
        await self.says("PUT", ORG, {"host_type": "basic", "enabled": False, "x": [1]}, 204)
        self.assertIs(await self.status_of("example.org"), DomainStatus.ENABLED)

    async def test_wrong_bodies(self) -> None:
        for raw, what in (
            (b"", "body is empty"),
            (b"{", "failed to parse JSON"),
            (b"[]", "failed to parse JSON"),
            (b'"x"', "failed to parse JSON"),
            (b"null", "failed to parse JSON"),
            (b"\xff", "failed to parse JSON"),
            (b'{"host_type": NaN}', "failed to parse JSON"),
            (b'{"host_type": "basic", "host_type": "basic"}', "failed to parse JSON"),
            (b'{"host_type": "\\ud800"}', "failed to parse JSON"),
            (b"[" * 60_000, "failed to parse JSON"),
            (b'\xef\xbb\xbf{"host_type": "basic"}', "failed to parse JSON"),
            ('{"host_type": "basic"}'.encode("utf-16"), "failed to parse JSON"),
            (b"{}", "'host_type' field is missing"),
            (b'{"host_type": 1}', "'host_type' field is missing"),
            (b'{"host_type": null}', "'host_type' field is missing"),
        ):
            await self.says("PUT", ORG, None, 400, what, raw=raw)
        self.assertIsNone(await self.status_of("example.org"))

    async def test_static_before_unknown_before_disabled(self) -> None:
        static = at("/api", "static.example")
        await self.says("PUT", static, BASIC, 403, "domain is static")
        await self.says("PUT", static, {"host_type": "gold"}, 403, "domain is static")
        await self.says("PUT", ORG, {"host_type": "gold"}, 403, "unknown host type")
        await self.says("PUT", ORG, {"host_type": "static.example"}, 403, "unknown host type")
        await self.says("PUT", ORG, {"host_type": "BASIC"}, 403, "unknown host type")
        await self.says("PUT", ORG, {"host_type": ""}, 403, "unknown host type")
        await self.says("PUT", ORG, {"host_type": "a\0"}, 403, "unknown host type")
        await self.node.service.stop()
        await self.says("PUT", static, BASIC, 403, "domain is static")
        await self.says("PUT", ORG, {"host_type": "gold"}, 403, "unknown host type")
        await self.says("PUT", ORG, BASIC, 403, "service disabled")

    async def test_again(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("PUT", ORG, {"host_type": "advanced"}, 409, "duplicate")
        await self.says("PATCH", ORG, {"enabled": False}, 204)
        await self.says("PUT", ORG, BASIC, 204)
        self.assertIs(await self.status_of("example.org"), DomainStatus.DISABLED)

    async def test_names(self) -> None:
        for name, stored in (
            ("EXAMPLE.ORG", "example.org"),
            ("Bücher.Example", "bücher.example"),
            ("xn--bcher-kva.example", "bücher.example"),
            ("trailing.example.", "trailing.example"),
        ):
            await self.says("PUT", at("/api", name), BASIC, 204)
            self.assertIn(stored, self.node.table)
        self.assertEqual(len(self.node.table), 4)

    async def test_impossible_names(self) -> None:
        long = ".".join(["a" * 50] * 5)
        for name in (
            "a b",
            "a..b",
            "a/b",
            "a@b",
            "a\0b",
            "a" * 64,
            long,
            "a'; DROP TABLE domain_settings; --",
            "-",
            "%",
        ):
            await self.says("PUT", at("/api", name), BASIC, 400, "invalid domain name")
            for method in ("GET", "DELETE", "PATCH"):
                body = {"host_type": "basic", "enabled": True} if method != "GET" else None
                await self.says(method, at("/api", name), body, 400, "invalid domain name")
        await self.says("PUT", "/api/domains/%FF%FE", BASIC, 400, "invalid domain name")

    async def test_the_body_errors_come_before_what_needs_the_database(self) -> None:
        await self.says("PUT", at("/api", "static.example"), None, 400, "body is empty", raw=b"")


class EnablingTests(FiveTestCase):
    async def test_there_and_back(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        session = self.session("alice@example.org/phone")
        for _ in range(2):
            await self.says("PATCH", ORG, {"enabled": False}, 204)
            self.assertNotIn("example.org", self.node.table)
        assert session.ended is not None
        self.assertEqual(session.ended.condition, "host-gone")
        self.assertEqual((await self.ask("GET", ORG)).outcome, (200, {"host_type": "basic", "enabled": False}))
        events = await self.db.query("SELECT count(*) FROM domain_events WHERE domain = 'example.org'")
        self.assertEqual(events, [(2,)])
        for _ in range(2):
            await self.says("PATCH", ORG, {"enabled": True}, 204)
            self.assertIn("example.org", self.node.table)

    async def test_refusals(self) -> None:
        await self.says("PATCH", ORG, None, 400, "body is empty", raw=b"")
        await self.says("PATCH", ORG, None, 400, "failed to parse JSON", raw=b"{")
        for body in ({}, {"enabled": "true"}, {"enabled": 1}, {"enabled": None}):
            await self.says("PATCH", ORG, body, 400, "'enabled' field is missing")
        await self.says("PATCH", at("/api", "static.example"), {"enabled": True}, 403, "domain is static")
        await self.says("PATCH", ORG, {"enabled": True}, 404, "domain not found")
        await self.db.execute("INSERT INTO domain_settings (domain, host_type) VALUES ('gold.example', 'gold')")
        await self.says("PATCH", at("/api", "gold.example"), {"enabled": False}, 403, "unknown host type")
        await self.node.store.insert("example.org", "basic")
        await self.node.store.begin_delete("example.org", "basic")
        await self.says("PATCH", ORG, {"enabled": True}, 403, "domain has been deleted")
        await self.node.service.stop()
        await self.says("PATCH", at("/api", "static.example"), {"enabled": True}, 403, "domain is static")
        await self.says("PATCH", ORG, {"enabled": True}, 403, "service disabled")


class LookingTests(FiveTestCase):
    async def test_one(self) -> None:
        await self.says("GET", ORG, None, 404, "domain not found")
        await self.says("PUT", ORG, BASIC, 204)
        self.assertEqual((await self.ask("GET", ORG)).outcome, (200, {"host_type": "basic", "enabled": True}))
        answer = await self.ask("GET", at("/api", "EXAMPLE.org"), raw=b"ignored")
        self.assertEqual(answer.outcome, (200, {"host_type": "basic", "enabled": True}))
        await self.says("GET", at("/api", "static.example"), None, 404, "domain not found")

    async def test_a_service_that_is_off_is_not_noticed(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.node.service.stop()
        self.assertEqual((await self.ask("GET", ORG)).status, 200)

    async def test_lists_by_pages(self) -> None:
        for name in ("b.example", "a.example", "c-x.example", "cx.example"):
            await self.says("PUT", at("/api", name), BASIC if name != "b.example" else {"host_type": "advanced"}, 204)
        await self.says("PATCH", at("/api", "a.example"), {"enabled": False}, 204)
        answer = await self.ask("GET", "/api/domains?limit=2")
        expected = [
            {"domain": "a.example", "host_type": "basic", "enabled": False},
            {"domain": "b.example", "host_type": "advanced", "enabled": True},
        ]
        self.assertEqual(answer.outcome, (200, {"domains": expected, "next": "b.example"}))

        async def names(query: str) -> tuple[list[str], Any]:
            body = (await self.ask("GET", f"/api/domains?{query}")).body
            return [entry["domain"] for entry in body["domains"]], body["next"]

        self.assertEqual(await names("limit=2&after=b.example"), (["c-x.example", "cx.example"], None))
        self.assertEqual(await names("host_type=advanced"), (["b.example"], None))
        self.assertEqual(await names("prefix=C-"), (["c-x.example"], None))
        self.assertEqual(await names("host_type=gold"), ([], None))
        self.assertEqual(await names("prefix=%00&x=y"), ([], None))
        self.assertEqual(await names("after=b.example%00z&limit=1"), (["c-x.example"], "c-x.example"))
        self.assertEqual(await names("prefix=%27%3B%20DROP%20TABLE%20domain_settings"), ([], None))

    async def test_impossible_queries(self) -> None:
        for query in ("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=%EF%BC%91"):
            await self.says("GET", f"/api/domains?{query}", None, 400, "invalid query parameter 'limit'")
        await self.says("GET", "/api/domains?prefix=%ff", None, 400, "invalid query parameter 'prefix'")


class DeletingTests(FiveTestCase):
    async def test_all_data_go_before_the_answer(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.ask("POST", "/api/users/example.org", {"username": "alice", "password": "secret"})
        await self.db.execute("INSERT INTO notes VALUES ('example.org', 'alice', 'x'), ('example.net', 'bob', 'x')")
        session = self.session("alice@example.org/phone")
        await self.says("DELETE", ORG, BASIC, 204)
        assert session.ended is not None
        self.assertEqual(session.ended.condition, "host-gone")
        self.assertEqual(
            await self.db.query("SELECT server FROM notes UNION SELECT server FROM users"), [("example.net",)]
        )
        await self.says("GET", ORG, None, 404, "domain not found")
        await self.says("DELETE", ORG, BASIC, 204)

    async def test_a_body_without_a_content_type_will_do(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("DELETE", ORG, None, 204, raw=b'{"host_type":"basic"}', headers={"Content-Type": "text/plain"})

    async def test_refusals(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        await self.says("DELETE", ORG, None, 400, "body is empty")
        await self.says("DELETE", ORG, None, 400, "failed to parse JSON", raw=b"{")
        await self.says("DELETE", ORG, {}, 400, "'host_type' field is missing")
        await self.says("DELETE", at("/api", "static.example"), BASIC, 403, "domain is static")
        await self.says("DELETE", ORG, {"host_type": "gold"}, 403, "unknown host type")
        await self.says("DELETE", ORG, {"host_type": "advanced"}, 403, "wrong host type")
        await self.node.service.stop()
        await self.says("DELETE", ORG, {"host_type": "gold"}, 403, "unknown host type")
        await self.says("DELETE", ORG, BASIC, 403, "service disabled")
        self.assertIs(await self.status_of("example.org"), DomainStatus.ENABLED)

    async def test_a_client_that_leaves_does_not_stop_what_it_began(self) -> None:
        await self.says("PUT", ORG, BASIC, 204)
        hold: Deferred[None] = Deferred()
        begun: Deferred[None] = Deferred()
        done: Deferred[None] = Deferred()
        finish = self.node.store.finish_delete

        async def slow_finish(domain: str) -> Any:
            begun.callback(None)
            await hold
            event_id = await finish(domain)
            done.callback(None)
            return event_id

        self.node.store.finish_delete = slow_finish  # type: ignore[method-assign]
        request = Deferred.fromCoroutine(self.ask("DELETE", ORG, BASIC))
        await begun
        request.cancel()
        await self.assertFailure(request, Exception)
        hold.callback(None)
        await done
        self.assertIsNone(await self.status_of("example.org"))


class FailureTests(FiveTestCase):
    async def test_a_statement_that_fails_is_a_database_error(self) -> None:
        await self.db.execute("DROP TABLE domain_events")
        await self.says("PUT", ORG, BASIC, 500, "database error")
        await self.db.execute("DROP TABLE domain_settings")
        for method, body in (("GET", None), ("PATCH", {"enabled": True}), ("DELETE", BASIC)):
            await self.says(method, ORG, body, 500, "database error")

    async def test_a_mistake_of_ours_is_logged_and_told_without_details(self) -> None:
        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("secret")

        table: Any = self.node.table
        table.is_static = broken
        await self.says("PUT", ORG, BASIC, 500, "internal error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class DatabaseAwayTests(FiveTestCase):
    """With every connection cut and new ones refused, answers come soon and say so."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.server = OwnServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.settings = self.server.create_database("away")

    async def test_it_takes_seconds_and_ends_well(self) -> None:
        database = Database(self.settings, clock=reactor, reactor=reactor)
        await database.start()
        self.addCleanup(database.stop, 0)
        from dynxmpp.db.migrations import migrate

        await migrate(database, self.migrations)
        self.database = database
        self.node = self.make_node()
        await self.node.start()
        self.addCleanup(self.node.service.stop)
        self.port = self.listen(self.places())
        await self.says("PUT", ORG, BASIC, 204)
        self.server.kill()
        before = reactor.seconds()
        requests = [
            Deferred.fromCoroutine(self.says(method, ORG, body, 500, "database error"))
            for method, body in (("PUT", BASIC), ("GET", None), ("PATCH", {"enabled": False}), ("DELETE", BASIC))
        ]
        for request in requests:
            await request
        self.assertLess(reactor.seconds() - before, 10)
        self.assertIn("example.org", self.node.table)
