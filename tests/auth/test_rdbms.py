"""Accounts in PostgreSQL."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.trial.unittest import SynchronousTestCase

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.base import (
    AccountExists,
    AuthMethod,
    InvalidPassword,
    NoSuchAccount,
    TooManyAccounts,
)
from dynxmpp.auth.rdbms import RdbmsAuth, load_secret
from dynxmpp.auth.scram import HASHES, derive, matches, parse_records, serialise_records
from dynxmpp.core.interfaces import Database, Transaction
from tests.auth.test_scram import PADTHAI
from tests.fixtures.postgres import DatabaseTestCase

DOMAIN = "example.org"
OTHER = "example.com"

_T = TypeVar("_T")


class CountingThreads:
    """Runs at once and counts; what would be milliseconds in a thread is one iteration here."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]:
        self.runs += 1
        return succeed(function())


class HeldDatabase:
    """Commits no transaction before `commit` is fired."""

    def __init__(self, db: Database, commit: Deferred[None]) -> None:
        self._commit = commit
        self._db = db
        self.query = db.query
        self.execute = db.execute

    async def transaction(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        async def held(transaction: Transaction) -> _T:
            result = await work(transaction)
            await self._commit
            return result

        return await self._db.transaction(held)


class RdbmsTestCase(DatabaseTestCase):
    migrations = RdbmsAuth.migrations

    def auth(self, **options: Any) -> RdbmsAuth:
        self.threads = CountingThreads()
        options = {"iterations": 2, "random": Random(1), "run_in_thread": self.threads, "db": self.db, **options}
        return RdbmsAuth(secret=b"secret", **options)

    async def row(self, username: str) -> tuple[str, str | None]:
        rows = await self.db.query(
            "SELECT password, pass_details FROM users WHERE server = %s AND username = %s", (DOMAIN, username)
        )
        return rows[0][0], rows[0][1]

    async def insert(self, username: str, password: str, pass_details: str | None) -> None:
        await self.db.execute(
            "INSERT INTO users (server, username, password, pass_details) VALUES (%s, %s, %s, %s)",
            (DOMAIN, username, password, pass_details),
        )


class AccountTests(RdbmsTestCase):
    async def test_an_account_from_beginning_to_end(self) -> None:
        auth = self.auth()
        self.assertFalse(await auth.exists(DOMAIN, "ann"))
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "sesame"))
        await auth.create(DOMAIN, "ann", "sesame")
        self.assertTrue(await auth.exists(DOMAIN, "ann"))
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "Sesame"))
        await auth.set_password(DOMAIN, "ann", "barley")
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "barley"))
        await auth.remove(DOMAIN, "ann")
        self.assertFalse(await auth.exists(DOMAIN, "ann"))
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "barley"))

    async def test_domains_do_not_meet(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        self.assertFalse(await auth.exists(OTHER, "ann"))
        self.assertFalse(await auth.check_password(OTHER, "ann", "sesame"))
        self.assertIsNone(await auth.scram_record(OTHER, "ann", "sha1"))
        await auth.create(OTHER, "ann", "barley")
        await auth.remove(OTHER, "ann")
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertEqual((await auth.count(DOMAIN), await auth.count(OTHER)), (1, 0))

    async def test_created_twice(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        with self.assertRaises(AccountExists):
            await auth.create(DOMAIN, "ann", "barley")
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))

    async def test_created_twice_at_once(self) -> None:
        auth = self.auth()
        outcomes = await _all(*(auth.create(DOMAIN, "ann", password) for password in ("sesame", "barley", "oats")))
        self.assertEqual(sorted(map(_kind, outcomes)), ["AccountExists", "AccountExists", "None"])
        self.assertEqual(await auth.count(DOMAIN), 1)

    async def test_no_such_account(self) -> None:
        auth = self.auth()
        with self.assertRaises(NoSuchAccount):
            await auth.set_password(DOMAIN, "nobody", "sesame")
        with self.assertRaises(NoSuchAccount):
            await auth.remove(DOMAIN, "nobody")

    async def test_invalid_passwords_change_nothing(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        for password in ("", "\x00", "\u00ad", "\u0221", "\ud800", "x" * 2000):
            with self.assertRaises(InvalidPassword):
                await auth.create(DOMAIN, "bob", password)
            with self.assertRaises(InvalidPassword):
                await auth.set_password(DOMAIN, "ann", password)
            self.assertFalse(await auth.check_password(DOMAIN, "ann", password))
        self.assertEqual(await auth.list(DOMAIN, None, 10), ["ann"])

    async def test_two_ways_of_typing_one_password(self) -> None:
        for scram in (True, False):
            auth = self.auth(scram=scram)
            name = f"ann-{scram}".lower()
            await auth.create(DOMAIN, name, "stra\u00dfe \u2168")
            self.assertTrue(await auth.check_password(DOMAIN, name, "stra\u00df\u00ade\u00a0IX"))

    async def test_list_in_pages(self) -> None:
        auth = self.auth(scram=False)
        names = ["a", "a_", "ab", "zoë", "éa", "ж", "\U00010400"]
        for name in reversed(names):
            await auth.create(DOMAIN, name, "x")
        await auth.create(OTHER, "b", "x")
        await self.db.execute("ANALYZE users")  # now PostgreSQL knows that reading in order of insertion is cheapest
        self.assertEqual(await auth.list(DOMAIN, None, 100), names)
        self.assertEqual(await auth.list(DOMAIN, None, 2), names[:2])
        self.assertEqual(await auth.list(DOMAIN, names[1], 3), names[2:5])
        self.assertEqual(await auth.list(DOMAIN, names[-1], 3), [])
        self.assertEqual(await auth.list(DOMAIN, "aa", 1), ["ab"])
        self.assertEqual(await auth.count(DOMAIN), len(names))

    async def test_works_with_the_default_threads(self) -> None:
        auth = RdbmsAuth(self.db, secret=b"secret", random=Random(1), hashes=("sha256",), iterations=10)
        await auth.create(DOMAIN, "ann", "sesame")
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "barley"))


class FormatTests(RdbmsTestCase):
    async def test_scram_keeps_no_password(self) -> None:
        auth = self.auth(iterations=3)
        await auth.create(DOMAIN, "ann", "sesame")
        password, pass_details = await self.row("ann")
        assert pass_details is not None
        self.assertEqual(password, "")
        self.assertNotIn("sesame", pass_details)
        records = parse_records(pass_details)
        self.assertEqual(list(records), list(HASHES))
        self.assertEqual({record.iterations for record in records.values()}, {3})
        self.assertEqual(len({record.salt for record in records.values()}), len(HASHES))
        for name, record in records.items():
            self.assertTrue(matches(record, "sesame"))
            self.assertEqual(await auth.scram_record(DOMAIN, "ann", name), record)

    async def test_configured_hashes_only(self) -> None:
        auth = self.auth(hashes=("sha512", "sha256"))
        await auth.create(DOMAIN, "ann", "sesame")
        self.assertEqual(list(parse_records((await self.row("ann"))[1] or "")), ["sha256", "sha512"])
        self.assertEqual(auth.mechanisms, {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))

    async def test_hash_that_was_disabled_later(self) -> None:
        await self.auth().create(DOMAIN, "ann", "sesame")
        auth = self.auth(hashes=("sha512",))
        self.assertIsNone(await auth.scram_record(DOMAIN, "ann", "sha1"))
        self.assertIsNotNone(await auth.scram_record(DOMAIN, "ann", "sha512"))

    async def test_hash_that_was_enabled_later(self) -> None:
        await self.auth(hashes=("sha1",)).create(DOMAIN, "ann", "sesame")
        auth = self.auth()
        self.assertIsNone(await auth.scram_record(DOMAIN, "ann", "sha256"))
        await auth.set_password(DOMAIN, "ann", "sesame")
        self.assertIsNotNone(await auth.scram_record(DOMAIN, "ann", "sha256"))

    async def test_new_password_has_new_salts(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        before = await auth.scram_record(DOMAIN, "ann", "sha1")
        await auth.set_password(DOMAIN, "ann", "sesame")
        after = await auth.scram_record(DOMAIN, "ann", "sha1")
        assert before is not None
        assert after is not None
        self.assertNotEqual(before.salt, after.salt)

    async def test_plain_keeps_the_prepared_password(self) -> None:
        auth = self.auth(scram=False)
        await auth.create(DOMAIN, "ann", "\u2168")
        self.assertEqual(await self.row("ann"), ("IX", None))
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "IX"))
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "I"))
        for name in HASHES:
            record = await auth.scram_record(DOMAIN, "ann", name)
            assert record is not None
            self.assertTrue(matches(record, "IX"))

    async def test_plain_record_stays_the_same(self) -> None:
        await self.auth(scram=False).create(DOMAIN, "ann", "sesame")
        one, two = [await self.auth(scram=False).scram_record(DOMAIN, "ann", "sha1") for _ in range(2)]
        self.assertIsNotNone(one)
        self.assertEqual(one, two)

    async def test_rows_of_the_other_format_go_on_working(self) -> None:
        await self.auth(scram=True).create(DOMAIN, "ann", "sesame")
        await self.auth(scram=False).create(DOMAIN, "bob", "barley")
        for auth in (self.auth(scram=True), self.auth(scram=False)):
            for username, password in (("ann", "sesame"), ("bob", "barley")):
                self.assertTrue(await auth.check_password(DOMAIN, username, password))
                self.assertFalse(await auth.check_password(DOMAIN, username, "oats"))
                record = await auth.scram_record(DOMAIN, username, "sha256")
                assert record is not None
                self.assertTrue(matches(record, password))

    async def test_changed_format_takes_over_with_the_next_password(self) -> None:
        await self.auth(scram=True).create(DOMAIN, "ann", "sesame")
        await self.auth(scram=False).set_password(DOMAIN, "ann", "barley")
        self.assertEqual(await self.row("ann"), ("barley", None))
        await self.auth(scram=True).set_password(DOMAIN, "ann", "oats")
        self.assertEqual((await self.row("ann"))[0], "")

    async def test_account_of_another_server(self) -> None:
        await self.insert("ann", "", PADTHAI)
        self.assertTrue(await self.auth().check_password(DOMAIN, "ann", "padthai"))

    async def test_broken_row_lets_nobody_in_and_is_reported(self) -> None:
        await self.insert("ann", "", "==MULTI_SCRAM==,4096,nonsense")
        await self.insert("bob", "", None)
        auth = self.auth()
        for username in ("ann", "bob"):
            self.assertFalse(await auth.check_password(DOMAIN, username, "nonsense"))
            self.assertIsNone(await auth.scram_record(DOMAIN, username, "sha1"))
            self.assertFalse(await auth.check_password(DOMAIN, username, ""))
        await auth.set_password(DOMAIN, "ann", "sesame")
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))


class WorkTests(RdbmsTestCase):
    """What costs a key derivation, and what does not."""

    async def runs_of(self, work: Awaitable[Any]) -> int:
        before = self.threads.runs
        await work
        return self.threads.runs - before

    async def test_second_login_costs_nothing(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        self.assertEqual(await self.runs_of(auth.check_password(DOMAIN, "ann", "sesame")), 1)
        self.assertEqual(await self.runs_of(auth.check_password(DOMAIN, "ann", "sesame")), 0)

    async def test_wrong_password_always_costs(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        await auth.check_password(DOMAIN, "ann", "sesame")
        for _ in range(2):
            self.assertEqual(await self.runs_of(auth.check_password(DOMAIN, "ann", "barley")), 1)

    async def test_unknown_account_costs_the_same(self) -> None:
        auth = self.auth()
        for _ in range(2):
            self.assertEqual(await self.runs_of(auth.check_password(DOMAIN, "nobody", "sesame")), 1)

    async def test_what_is_remembered_belongs_to_the_record(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        await auth.create(DOMAIN, "bob", "barley")
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertFalse(await auth.check_password(DOMAIN, "bob", "sesame"))
        # Changed behind our back, as another node would.
        records = [derive("oats", "sha1", b"salt of another!", 2)]
        await self.db.execute(
            "UPDATE users SET pass_details = %s WHERE username = 'ann'", (serialise_records(records),)
        )
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "sesame"))
        self.assertTrue(await auth.check_password(DOMAIN, "ann", "oats"))

    async def test_removed_account_is_not_remembered(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        await auth.check_password(DOMAIN, "ann", "sesame")
        await auth.remove(DOMAIN, "ann")
        self.assertFalse(await auth.check_password(DOMAIN, "ann", "sesame"))

    async def test_plain_format(self) -> None:
        auth = self.auth(scram=False)
        self.assertEqual(await self.runs_of(auth.create(DOMAIN, "ann", "sesame")), 0)
        self.assertEqual(await self.runs_of(auth.check_password(DOMAIN, "ann", "sesame")), 0)
        for username in ("ann", "nobody"):
            self.assertEqual(await self.runs_of(auth.scram_record(DOMAIN, username, "sha1")), 1)
            self.assertEqual(await self.runs_of(auth.scram_record(DOMAIN, username, "sha1")), 0)

    async def test_duplicate_registration_costs_nothing(self) -> None:
        auth = self.auth()
        await auth.create(DOMAIN, "ann", "sesame")
        before = self.threads.runs
        with self.assertRaises(AccountExists):
            await auth.create(DOMAIN, "ann", "sesame")
        self.assertEqual(self.threads.runs, before)


class LimitTests(RdbmsTestCase):
    async def test_limit_counts_per_domain(self) -> None:
        auth = self.auth(max_users_per_domain=2)
        for username in ("ann", "bob"):
            await auth.create(DOMAIN, username, "x")
        with self.assertRaises(TooManyAccounts):
            await auth.create(DOMAIN, "carl", "x")
        self.assertEqual(await auth.list(DOMAIN, None, 10), ["ann", "bob"])
        await auth.create(OTHER, "carl", "x")
        await auth.remove(DOMAIN, "ann")
        await auth.create(DOMAIN, "carl", "x")

    async def test_taken_name_in_a_full_domain(self) -> None:
        auth = self.auth(max_users_per_domain=1)
        await auth.create(DOMAIN, "ann", "x")
        with self.assertRaises(AccountExists):
            await auth.create(DOMAIN, "ann", "x")

    async def test_limit_below_what_is_there(self) -> None:
        for username in ("ann", "bob", "carl"):
            await self.auth().create(DOMAIN, username, "x")
        with self.assertRaises(TooManyAccounts):
            await self.auth(max_users_per_domain=1).create(DOMAIN, "dora", "x")

    async def test_many_at_once(self) -> None:
        auth = self.auth(max_users_per_domain=3, scram=False)
        outcomes = await _all(*(auth.create(DOMAIN, f"user{number}", "x") for number in range(12)))
        self.assertEqual(sorted(map(_kind, outcomes)), ["None"] * 3 + ["TooManyAccounts"] * 9)
        self.assertEqual(await auth.count(DOMAIN), 3)

    async def test_registration_waits_for_one_that_is_not_committed(self) -> None:
        commit: Deferred[None] = Deferred()
        first, second = (
            self.auth(max_users_per_domain=1, db=HeldDatabase(self.db, commit)),
            self.auth(max_users_per_domain=1),
        )
        ann = Deferred.fromCoroutine(first.create(DOMAIN, "ann", "x"))
        await self.until("granted", ann)
        bob = Deferred.fromCoroutine(second.create(DOMAIN, "bob", "x"))
        await self.until("NOT granted", bob)
        await second.create(OTHER, "carl", "x")
        commit.callback(None)
        await ann
        await self.assertFailure(bob, TooManyAccounts)

    async def until(self, condition: str, running: Deferred[None]) -> None:
        """Returns when one advisory lock of this database meets `condition`, fails when `running` ends before."""
        sql = f"""
            SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
            WHERE datname = current_database() AND locktype = 'advisory' AND {condition}
        """
        while await self.db.query(sql) != [(1,)]:
            self.assertFalse(running.called, "ended without waiting")


class SecretTests(RdbmsTestCase):
    async def test_made_once(self) -> None:
        first = await load_secret(self.db, Random(1))
        self.assertEqual(len(first), 32)
        self.assertEqual(await load_secret(self.db, Random(2)), first)

    async def test_made_once_by_two_nodes(self) -> None:
        first, second = await _all(load_secret(self.db, Random(1)), load_secret(self.db, Random(2)))
        self.assertEqual(first, second)

    async def test_unknown_account_behind_accounts(self) -> None:
        accounts = Accounts([self.auth(iterations=7)], secret=await load_secret(self.db, Random(1)), iterations=7)
        await accounts.create(DOMAIN, "ann", "sesame")
        real, fake = [await accounts.scram_record(DOMAIN, name, "sha256") for name in ("ann", "nobody")]
        self.assertEqual((real.iterations, len(real.salt)), (fake.iterations, len(fake.salt)))
        self.assertEqual(fake, await accounts.scram_record(DOMAIN, "nobody", "sha256"))


class OptionTests(SynchronousTestCase):
    def test_hashes(self) -> None:
        for hashes in ((), ("md5",), ("sha",)):
            with self.assertRaises(ValueError):
                RdbmsAuth(None, secret=b"", random=Random(1), hashes=hashes)  # type: ignore[arg-type]

    def test_is_an_auth_method(self) -> None:
        method: AuthMethod = RdbmsAuth(None, secret=b"", random=Random(1))  # type: ignore[arg-type]
        self.assertEqual(method.name, "rdbms")
        self.assertEqual({stored.table for stored in method.stored}, {"users"})


async def _all(*coroutines: Any) -> list[Any]:
    """Runs all at once; results and exceptions in order."""
    deferreds = [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    for deferred in deferreds:
        deferred.addErrback(lambda failure: failure.value)
    return list(await gatherResults(deferreds))


def _kind(outcome: object) -> str:
    return "None" if outcome is None else type(outcome).__name__
