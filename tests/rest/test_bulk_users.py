"""Many accounts with one request."""

import json
from typing import Any

from twisted.internet.defer import Deferred

from dynxmpp.auth.base import NotSupported
from tests.rest.bulk import USERS, BulkTestCase, body_of


def account(jid: str, password: str = "secret") -> dict[str, str]:
    return {"jid": jid, "password": password}


def created(jid: str) -> dict[str, str]:
    return {"jid": jid, "result": "created"}


def wrong(jid: str | None, why: str) -> dict[str, str | None]:
    return {"jid": jid, "result": "error", "error": why}


class UsersTests(BulkTestCase):
    max_users = 1000

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.node.service.insert("example.org", "basic")

    async def test_accounts_of_many_domains(self) -> None:
        entries = [account(f"U{number}@{('EXAMPLE.org', 'static.example')[number % 2]}") for number in range(120)]
        expected = [created(f"u{number}@{('example.org', 'static.example')[number % 2]}") for number in range(120)]
        self.assertEqual(expected, await self.post(entries, USERS))
        for result in expected:
            name, _, domain = result["jid"].partition("@")
            self.assertTrue(await self.accounts.check_password(domain, name, "secret"))

    async def test_both_spellings(self) -> None:
        entries = [
            {"username": "Zoë", "domain": "EXAMPLE.org", "password": "x"},
            account("zoë@example.org"),
            account("bob@example.org/phone"),
        ]
        exists = {"jid": "zoë@example.org", "result": "exists"}
        self.assertEqual(
            [created("zoë@example.org"), exists, created("bob@example.org")], await self.post(entries, USERS)
        )
        self.assertTrue(await self.accounts.check_password("example.org", "zoë", "x"))

    async def test_the_first_line_of_an_account_counts(self) -> None:
        for name in ("alice", "bob", "carol"):
            entries = [account(f"{name}@example.org", f"password {number}") for number in range(20)]
            answer = await self.post(entries, USERS)
            self.assertEqual(created(f"{name}@example.org"), answer.pop(0))
            self.assertEqual({"exists"}, {result["result"] for result in answer})
            self.assertTrue(await self.accounts.check_password("example.org", name, "password 0"))

    async def test_one_that_fails_leaves_the_name_to_the_next(self) -> None:
        jid = "alice@example.org"
        self.assertEqual(
            [wrong(jid, "invalid password"), created(jid), {"jid": jid, "result": "exists"}],
            await self.post([account(jid, ""), account(jid, "a"), account(jid, "b")], USERS),
        )

    async def test_a_wrong_line_harms_no_other(self) -> None:
        cases: list[tuple[Any, str | None, str]] = [
            (b"nonsense", None, "failed to parse JSON"),
            (b"x" * 5000, None, "line is too long"),
            ({}, None, "'username' field is missing"),
            ({"jid": 1, "password": "x"}, None, "'jid' field is missing"),
            ({"username": "x", "password": "x"}, None, "'domain' field is missing"),
            ({"jid": "x@example.org"}, "x@example.org", "'password' field is missing"),
            ({"jid": "x@example.org", "password": 1}, "x@example.org", "'password' field is missing"),
            (account("example.org"), "example.org", "invalid user JID"),
            (account("a b@example.org"), "a b@example.org", "invalid user JID"),
            (account("x@a..b"), "x@a..b", "invalid user JID"),
            (account("x@" + "a." * 130 + "b"), "x@" + "a." * 130 + "b", "invalid domain name"),
            ({"username": "a@b", "domain": "example.org", "password": "x"}, "a@b@example.org", "invalid user name"),
            ({"username": "", "domain": "example.org", "password": "x"}, "@example.org", "invalid user name"),
            ({"username": "x", "domain": "a..b", "password": "x"}, "x@a..b", "invalid domain name"),
            (account("X@nowhere.example"), "x@nowhere.example", "domain not found"),
            (account("x@example.org", ""), "x@example.org", "invalid password"),
            (account("x@example.org", "a\x07b"), "x@example.org", "invalid password"),
            (account("x@example.org", "p" * 1024), "x@example.org", "invalid password"),
        ]
        entries: list[Any] = []
        expected: list[Any] = []
        for number, (line, jid, why) in enumerate(cases):
            entries += [line, account(f"u{number}@example.org")]
            expected += [wrong(jid, why), created(f"u{number}@example.org")]
        answer = await self.post(entries, USERS)
        self.assertEqual(expected, answer)
        self.assertEqual(len(cases), await self.accounts.count("example.org"))
        self.assertNotIn("secret", json.dumps(answer))

    async def test_a_full_domain(self) -> None:
        await self.post([account(f"u{number}@example.org") for number in range(self.max_users - 1)], USERS)
        answer = await self.post([account(f"v{number}@example.org") for number in range(10)], USERS)
        self.assertEqual(1, sum(result["result"] == "created" for result in answer))
        self.assertEqual(9, sum(result.get("error") == "too many users in the domain" for result in answer))

    async def test_methods_that_keep_no_accounts(self) -> None:
        async def create(domain: str, username: str, password: str) -> None:
            raise NotSupported

        self.patch(self.accounts, "create", create)
        why = "Not supported by the domain's auth methods"
        self.assertEqual([wrong("x@example.org", why)], await self.post([account("x@example.org")], "/six/users"))

    async def test_the_database_goes_away(self) -> None:
        create, count = self.accounts.create, 0

        async def goes_away(domain: str, username: str, password: str) -> None:
            nonlocal count
            count += 1
            if count == 60:
                Deferred.fromCoroutine(self.db.stop())
            await create(domain, username, password)

        self.patch(self.accounts, "create", goes_away)
        response: Any = None
        try:
            response = await self.exchange(
                body_of(account(f"u{number}@example.org") for number in range(120)), USERS, "application/jsonl"
            )
        except Exception as error:  # noqa: BLE001 - an answer that is not whole is the outcome
            self.assertIn("ResponseFailed", type(error).__name__)
        self.assertIsNone(response)
        self.assertLess(count, 70)
        self.assertEqual(1, len(self.flushLoggedErrors()))

    async def test_a_mistake_of_ours_is_no_result(self) -> None:
        async def create(domain: str, username: str, password: str) -> None:
            raise ZeroDivisionError

        self.patch(self.accounts, "create", create)
        status, _, content = await self.exchange(body_of([account("x@example.org")]), USERS, "application/jsonl")
        self.assertEqual((500, {"what": "internal error"}), (status, json.loads(content)))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
