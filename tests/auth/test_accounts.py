from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.base import AccountExists, AuthMethod, NoSuchAccount, NotSupported
from dynxmpp.auth.scram import matches
from dynxmpp.wire.errors import Unavailable
from tests.auth.memory import MemoryAuth

DOMAIN = "example.org"


class ReadOnlyAuth(MemoryAuth):
    """Accounts that are administered elsewhere."""

    mechanisms = frozenset({"PLAIN"})

    async def create(self, domain: str, username: str, password: str) -> None:
        raise NotSupported

    async def set_password(self, domain: str, username: str, password: str) -> None:
        raise NotSupported

    async def remove(self, domain: str, username: str) -> None:
        raise NotSupported

    async def list(self, domain: str, after: str | None, limit: int) -> Any:
        raise NotSupported

    async def count(self, domain: str) -> int:
        raise NotSupported


class SlowAuth(MemoryAuth):
    """Looks at once and answers `exists` when `answer` is fired; removing waits for `removal`."""

    def __init__(self, **passwords: str) -> None:
        super().__init__(**passwords)
        self.answer: Deferred[None] = Deferred()
        self.removal: Deferred[None] = Deferred()

    async def exists(self, domain: str, username: str) -> bool:
        found = await super().exists(domain, username)
        await self.answer
        return found

    async def remove(self, domain: str, username: str) -> None:
        await self.removal
        await super().remove(domain, username)


class BrokenAuth(MemoryAuth):
    async def exists(self, domain: str, username: str) -> bool:
        raise Unavailable

    async def remove(self, domain: str, username: str) -> None:
        raise Unavailable


def accounts_of(*methods: AuthMethod, cache_entries: int = 100) -> Accounts:
    return Accounts(methods, secret=b"secret", iterations=5000, cache_entries=cache_entries)


class SeveralMethodsTests(TestCase):
    def setUp(self) -> None:
        self.first = ReadOnlyAuth(ann="1", both="first")
        self.second = MemoryAuth(bob="2", both="second")
        self.accounts = accounts_of(self.first, self.second)

    def test_mechanisms_of_all(self) -> None:
        self.assertIn("SCRAM-SHA-256", self.accounts.mechanisms())
        self.assertEqual(accounts_of(self.first).mechanisms(), {"PLAIN"})
        self.assertEqual(accounts_of().mechanisms(), frozenset())

    async def test_the_first_that_accepts_ends_the_search(self) -> None:
        self.assertTrue(await self.accounts.check_password(DOMAIN, "ann", "1"))
        self.assertEqual(self.second.calls, [])
        self.assertTrue(await self.accounts.check_password(DOMAIN, "bob", "2"))
        self.assertTrue(await self.accounts.check_password(DOMAIN, "both", "second"))
        self.assertFalse(await self.accounts.check_password(DOMAIN, "bob", "1"))
        self.assertFalse(await self.accounts.check_password("example.com", "bob", "2"))

    async def test_exists_in_any(self) -> None:
        for username, found in (("ann", True), ("bob", True), ("eve", False)):
            self.assertEqual(await self.accounts.exists(DOMAIN, username), found)

    async def test_scram_record_of_the_first_that_has_it(self) -> None:
        record = await self.accounts.scram_record(DOMAIN, "both", "sha256")
        self.assertTrue(matches(record, "first"))
        self.assertTrue(matches(await self.accounts.scram_record(DOMAIN, "bob", "sha256"), "2"))

    async def test_scram_record_of_nobody(self) -> None:
        record = await self.accounts.scram_record(DOMAIN, "eve", "sha256")
        self.assertEqual((record.hash_name, record.iterations), ("sha256", 5000))
        self.assertEqual(record, await self.accounts.scram_record(DOMAIN, "eve", "sha256"))
        self.assertFalse(self.accounts.known(DOMAIN, "eve"))

    async def test_administration_goes_to_the_first_that_supports_it(self) -> None:
        await self.accounts.create(DOMAIN, "new", "3")
        self.assertEqual(await self.accounts.list(DOMAIN, None, 10), ["bob", "both", "new"])
        self.assertEqual(await self.accounts.list(DOMAIN, "bob", 1), ["both"])
        self.assertEqual(await self.accounts.count(DOMAIN), 3)
        await self.accounts.set_password(DOMAIN, "new", "4")
        self.assertTrue(await self.accounts.check_password(DOMAIN, "new", "4"))
        await self.accounts.remove(DOMAIN, "new")
        self.assertFalse(await self.accounts.exists(DOMAIN, "new"))

    async def test_administration_finds_the_method_that_has_the_account(self) -> None:
        other = MemoryAuth(carl="5")
        accounts = accounts_of(self.second, other)
        await accounts.set_password(DOMAIN, "carl", "6")
        self.assertEqual(other.passwords[DOMAIN, "carl"], "6")
        await accounts.remove(DOMAIN, "carl")
        self.assertEqual(other.passwords, {})
        with self.assertRaises(NoSuchAccount):
            await accounts.remove(DOMAIN, "carl")

    async def test_refusals(self) -> None:
        with self.assertRaises(AccountExists):
            await self.accounts.create(DOMAIN, "bob", "x")
        with self.assertRaises(NoSuchAccount):
            await self.accounts.set_password(DOMAIN, "ann", "x")
        for accounts in (accounts_of(), accounts_of(self.first)):
            for refused in (
                accounts.create(DOMAIN, "ann", "x"),
                accounts.set_password(DOMAIN, "ann", "x"),
                accounts.remove(DOMAIN, "ann"),
                accounts.list(DOMAIN, None, 1),
                accounts.count(DOMAIN),
            ):
                with self.assertRaises(NotSupported):
                    await refused


class KnownTests(TestCase):
    def setUp(self) -> None:
        self.method = MemoryAuth(ann="1", bob="2", carl="3")
        self.accounts = accounts_of(self.method, cache_entries=2)

    async def test_known_after_each_way_of_meeting_an_account(self) -> None:
        ways = (
            lambda accounts: accounts.exists(DOMAIN, "ann"),
            lambda accounts: accounts.check_password(DOMAIN, "ann", "1"),
            lambda accounts: accounts.scram_record(DOMAIN, "ann", "sha1"),
        )
        for meet in ways:
            accounts = accounts_of(MemoryAuth(ann="1"))
            self.assertFalse(accounts.known(DOMAIN, "ann"))
            await meet(accounts)
            self.assertTrue(accounts.known(DOMAIN, "ann"))
        await self.accounts.create(DOMAIN, "new", "4")
        self.assertTrue(self.accounts.known(DOMAIN, "new"))

    async def test_nothing_is_asked_twice(self) -> None:
        self.assertTrue(await self.accounts.exists(DOMAIN, "ann"))
        self.assertTrue(await self.accounts.exists(DOMAIN, "ann"))
        self.assertEqual(self.method.calls, ["exists"])

    async def test_absence_is_not_remembered(self) -> None:
        self.assertFalse(await self.accounts.exists(DOMAIN, "new"))
        self.method.passwords[DOMAIN, "new"] = "made by another node"
        self.assertTrue(await self.accounts.exists(DOMAIN, "new"))

    async def test_wrong_password_teaches_nothing(self) -> None:
        await self.accounts.check_password(DOMAIN, "ann", "wrong")
        self.assertFalse(self.accounts.known(DOMAIN, "ann"))

    async def test_least_recently_used_goes_first(self) -> None:
        await self.accounts.exists(DOMAIN, "ann")
        await self.accounts.exists(DOMAIN, "bob")
        self.accounts.known(DOMAIN, "ann")
        await self.accounts.exists(DOMAIN, "carl")
        self.assertEqual([self.accounts.known(DOMAIN, name) for name in ("ann", "bob", "carl")], [True, False, True])

    async def test_removed_account_is_forgotten(self) -> None:
        await self.accounts.exists(DOMAIN, "ann")
        await self.accounts.remove(DOMAIN, "ann")
        self.assertFalse(self.accounts.known(DOMAIN, "ann"))
        self.assertFalse(await self.accounts.exists(DOMAIN, "ann"))

    async def test_forgetting_one_account(self) -> None:
        await self.accounts.exists(DOMAIN, "ann")
        await self.accounts.exists(DOMAIN, "bob")
        self.accounts.forget(DOMAIN, "ann")
        self.accounts.forget(DOMAIN, "never heard of")
        self.assertEqual([self.accounts.known(DOMAIN, name) for name in ("ann", "bob")], [False, True])

    async def test_forgetting_a_domain(self) -> None:
        self.method.passwords["example.com", "ann"] = "1"
        accounts = accounts_of(self.method)
        for domain, username in self.method.passwords:
            await accounts.exists(domain, username)
        accounts.forget_domain(DOMAIN)
        accounts.forget_domain("never-heard-of.example")
        known = [account for account in self.method.passwords if accounts.known(*account)]
        self.assertEqual(known, [("example.com", "ann")])
        await accounts.exists(DOMAIN, "ann")
        self.assertTrue(accounts.known(DOMAIN, "ann"))

    def test_failed_removal_is_passed_on_and_nothing_is_assumed(self) -> None:
        accounts = accounts_of(BrokenAuth(ann="1"))
        self.successResultOf(Deferred.fromCoroutine(accounts.check_password(DOMAIN, "ann", "1")))
        self.failureResultOf(Deferred.fromCoroutine(accounts.remove(DOMAIN, "ann")), Unavailable)
        self.assertFalse(accounts.known(DOMAIN, "ann"))
        self.failureResultOf(Deferred.fromCoroutine(accounts.exists(DOMAIN, "ann")), Unavailable)


class RaceTests(TestCase):
    """An answer may arrive after the account that it speaks of is gone."""

    def setUp(self) -> None:
        self.method = SlowAuth(ann="1")
        self.accounts = accounts_of(self.method)
        self.question = Deferred.fromCoroutine(self.accounts.exists(DOMAIN, "ann"))
        self.assertNoResult(self.question)

    def test_answer_without_a_race_is_remembered(self) -> None:
        self.method.answer.callback(None)
        self.assertTrue(self.successResultOf(self.question))
        self.assertTrue(self.accounts.known(DOMAIN, "ann"))

    def test_account_removed_meanwhile(self) -> None:
        self.method.removal.callback(None)
        self.successResultOf(Deferred.fromCoroutine(self.accounts.remove(DOMAIN, "ann")))
        self.method.answer.callback(None)
        self.assertTrue(self.successResultOf(self.question))
        self.assertFalse(self.accounts.known(DOMAIN, "ann"))

    def test_domain_forgotten_meanwhile(self) -> None:
        self.accounts.forget_domain(DOMAIN)
        self.method.answer.callback(None)
        self.successResultOf(self.question)
        self.assertFalse(self.accounts.known(DOMAIN, "ann"))

    def test_answer_during_the_removal(self) -> None:
        removed = Deferred.fromCoroutine(self.accounts.remove(DOMAIN, "ann"))
        late_question = Deferred.fromCoroutine(self.accounts.exists(DOMAIN, "ann"))
        self.method.answer.callback(None)
        self.successResultOf(late_question)
        self.method.removal.callback(None)
        self.successResultOf(removed)
        self.assertFalse(self.accounts.known(DOMAIN, "ann"))
