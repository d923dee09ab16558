from typing import Any
from urllib.parse import quote

from dynxmpp.auth.base import NotSupported
from tests.rest.server import RestTestCase, at

ALICE = {"username": "alice", "password": "secret"}


class UsersTests(RestTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.node.service.insert("example.org", "basic")

    async def says(self, method: str, path: str, body: Any, status: int, answer: Any = None) -> None:
        self.assertEqual((await self.ask(method, path, body)).outcome, (status, answer), path)

    async def test_an_account_can_be_created_found_and_removed(self) -> None:
        answer = await self.ask("POST", "/api/users/example.org", {"username": "Alice", "password": "secret"})
        self.assertEqual(answer.outcome, (201, {"username": "alice"}))
        self.assertEqual(answer.headers.getRawHeaders("Location"), ["example.org/alice"])
        self.assertTrue(await self.accounts.check_password("example.org", "alice", "secret"))
        await self.says("GET", "/api/users/example.org/ALICE", None, 200, {"username": "alice", "sessions": 0})
        await self.says("POST", "/api/users/example.org", ALICE, 409, {"what": "user already exists"})
        await self.says("DELETE", "/api/users/example.org/alice", None, 204)
        await self.says("DELETE", "/api/users/example.org/alice", None, 404, {"what": "user not found"})
        await self.says("GET", "/api/users/example.org/alice", None, 404, {"what": "user not found"})

    async def test_a_static_domain_has_accounts_too(self) -> None:
        await self.says("POST", "/api/users/static.example", ALICE, 201, {"username": "alice"})

    async def test_refusals(self) -> None:
        await self.says("POST", "/api/users/unknown.example", ALICE, 404, {"what": "domain not found"})
        await self.says("POST", "/api/users/a%20b", ALICE, 400, {"what": "invalid domain name"})
        for name in ("", "a b", "a@b", "a/b", "x" * 1024, "a\0b"):
            body = {"username": name, "password": "secret"}
            await self.says("POST", "/api/users/example.org", body, 400, {"what": "invalid user name"})
            if name:
                path = f"/api/users/example.org/{quote(name, safe='')}"
                await self.says("GET", path, None, 400, {"what": "invalid user name"})
        for password in ("", "x" * 1024, "a\x07b"):
            body = {"username": "bob", "password": password}
            await self.says("POST", "/api/users/example.org", body, 400, {"what": "invalid password"})
        await self.says(
            "POST", "/api/users/example.org", {"username": "bob"}, 400, {"what": "'password' field is missing"}
        )
        await self.says(
            "POST", "/api/users/example.org", {"password": "x"}, 400, {"what": "'username' field is missing"}
        )
        await self.says("GET", "/api/users/example.org/bob", None, 404, {"what": "user not found"})
        await self.node.service.set_enabled("example.org", False)
        await self.says("POST", "/api/users/example.org", ALICE, 404, {"what": "domain not found"})

    async def test_a_full_domain(self) -> None:
        for number in range(self.max_users):
            await self.ask("POST", "/api/users/example.org", {"username": f"u{number}", "password": "x"})
        await self.says("POST", "/api/users/example.org", ALICE, 403, {"what": "too many users in the domain"})

    async def test_passwords(self) -> None:
        await self.ask("POST", "/api/users/example.org", ALICE)
        path = "/api/users/example.org/alice"
        await self.says("PUT", path, {"password": "other"}, 204)
        self.assertTrue(await self.accounts.check_password("example.org", "alice", "other"))
        self.assertFalse(await self.accounts.check_password("example.org", "alice", "secret"))
        await self.says("PUT", path, {"password": ""}, 400, {"what": "invalid password"})
        await self.says("PUT", "/api/users/example.org/bob", {"password": "x"}, 404, {"what": "user not found"})

    async def test_lists_by_pages(self) -> None:
        for name in ("b", "ab", "a", "ac"):
            await self.ask("POST", "/api/users/example.org", {"username": name, "password": "x"})
        for query, users, following in (
            ("", ["a", "ab", "ac", "b"], None),
            ("?limit=2", ["a", "ab"], "ab"),
            ("?limit=2&after=ab", ["ac", "b"], None),
            ("?prefix=A", ["a", "ab", "ac"], None),
            ("?prefix=a&limit=2", ["a", "ab"], "ab"),
            ("?prefix=a&limit=2&after=ab", ["ac"], None),
            ("?prefix=ab&after=a", ["ab"], None),
            ("?prefix=ab&after=b", [], None),
            ("?prefix=%00", [], None),
            ("?prefix=%20", [], None),
        ):
            answer = await self.ask("GET", f"/api/users/example.org{query}")
            self.assertEqual(answer.outcome, (200, {"users": users, "next": following}), query)

    async def test_removal_ends_the_sessions_and_takes_all_data(self) -> None:
        for name in ("alice", "bob"):
            await self.ask("POST", "/api/users/example.org", {"username": name, "password": "x"})
            await self.db.execute("INSERT INTO notes VALUES ('example.org', %s, 'x')", (name,))
        alice, bob = self.session("alice@example.org/phone"), self.session("bob@example.org/phone")
        await self.says("DELETE", "/api/users/example.org/alice", None, 204)
        assert alice.ended is not None
        self.assertEqual((alice.ended.condition, bob.ended), ("not-authorized", None))
        self.assertEqual(await self.db.query("SELECT username FROM notes"), [("bob",)])

    async def test_a_removal_that_failed_half_way_can_be_repeated(self) -> None:
        await self.ask("POST", "/api/users/example.org", ALICE)
        await self.db.execute("INSERT INTO notes VALUES ('example.org', 'alice', 'x')")
        await self.db.execute("ALTER TABLE notes RENAME TO elsewhere")
        await self.says("DELETE", "/api/users/example.org/alice", None, 500, {"what": "database error"})
        await self.db.execute("ALTER TABLE elsewhere RENAME TO notes")
        await self.says("DELETE", "/api/users/example.org/alice", None, 404, {"what": "user not found"})
        self.assertEqual(await self.db.query("SELECT username FROM notes"), [])

    async def test_accounts_that_are_administered_elsewhere_lose_nothing(self) -> None:
        async def refuses(*_: Any) -> Any:
            raise NotSupported

        await self.db.execute("INSERT INTO notes VALUES ('example.org', 'alice', 'x')")
        accounts: Any = self.accounts
        accounts.remove = accounts.create = refuses
        what = {"what": "not supported by the domain's auth methods"}
        await self.says("POST", "/api/users/example.org", ALICE, 403, what)
        await self.says("DELETE", "/api/users/example.org/alice", None, 403, what)
        self.assertEqual(await self.db.query("SELECT username FROM notes"), [("alice",)])

    async def test_the_other_dialect(self) -> None:
        await self.says("POST", "/six/users/example.org", ALICE, 201, {"username": "alice"})
        await self.says("POST", "/six/users/example.org", ALICE, 409, "User already exists")
        await self.says("GET", "/six/users/example.org/bob", None, 404, "Given user does not exist")


class SessionsTests(RestTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.node.service.insert("example.org", "basic")

    async def test_lists(self) -> None:
        self.session("bob@example.org/ä/b")
        self.session("alice@example.org/phone", address="192.0.2.1")
        self.session("alice@static.example/phone")
        answer = await self.ask("GET", "/api/sessions/example.org?limit=1")
        common = {"available": True, "priority": 5, "since": "2020-09-13T12:26:40.250+00:00"}
        alice = {"jid": "alice@example.org/phone", "username": "alice", "resource": "phone", "address": "192.0.2.1"}
        self.assertEqual(answer.outcome, (200, {"sessions": [{**alice, **common}], "next": "alice@example.org/phone"}))
        answer = await self.ask("GET", "/api/sessions/example.org?after=alice%40example.org%2Fphone")
        bob = {"jid": "bob@example.org/ä/b", "username": "bob", "resource": "ä/b"}
        self.assertEqual(answer.outcome, (200, {"sessions": [{**bob, **common}], "next": None}))
        answer = await self.ask("GET", "/api/sessions/unknown.example")
        self.assertEqual(answer.outcome, (404, {"what": "domain not found"}))

    async def test_ending_one(self) -> None:
        first, second = self.session("bob@example.org/ä/b"), self.session("bob@example.org/c")
        path = "/api/sessions/example.org/BOB/%C3%A4%2Fb"
        self.assertEqual((await self.ask("DELETE", path)).outcome, (204, None))
        assert first.ended is not None
        self.assertEqual((first.ended.condition, second.ended), ("policy-violation", None))
        self.assertEqual((await self.ask("DELETE", path)).outcome, (404, {"what": "session not found"}))
        self.assertEqual(
            (await self.ask("DELETE", "/api/sessions/example.org/bob/%00")).outcome, (400, {"what": "invalid resource"})
        )
        self.assertEqual((await self.ask("DELETE", at("/api", "x") + "/y")).status, 404)
