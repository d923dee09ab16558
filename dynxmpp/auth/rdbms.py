"""The `rdbms` method: accounts in the table `users`, passwords as SCRAM records or, if so configured, in clear.

Which of both a row holds is seen from the row, so a server whose `auth.password.format` changed goes on serving the
accounts it has. A hash that was enabled after an account got its password is not there for that account: SCRAM with it
fails until the password is set again.
"""

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from random import Random
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from dynxmpp.auth.base import (
    PLAIN,
    AccountExists,
    Credentials,
    Localparts,
    NoSuchAccount,
    TooManyAccounts,
    prepare_given_password,
    prepare_new_password,
)
from dynxmpp.auth.scram import (
    DEFAULT_ITERATIONS,
    HASHES,
    MECHANISM_HASHES,
    SALT_BYTES,
    InvalidScramRecord,
    ScramRecord,
    derive,
    derive_all,
    fake_record,
    matches,
    parse_records,
    serialise_records,
    stable_salt,
)
from dynxmpp.core.interfaces import Database, Stored, Transaction
from dynxmpp.db.lookup import LookupCombiner
from dynxmpp.db.migrations import Migration

__all__ = ["RdbmsAuth", "RunInThread", "load_secret"]

log = Logger()

_T = TypeVar("_T")

#: First half of the advisory locks that order registrations in a domain with a limit; "users" in ASCII, cut to 32 bits.
_LIMIT_LOCK: Final = 0x75736572
_CACHE_ENTRIES: Final = 16384
_SECRET_BYTES: Final = 32

_MIGRATIONS: Final = (
    Migration(
        component="auth_rdbms",
        version=1,
        name="users",
        sql="""
            CREATE TABLE users (
                server text COLLATE "C" NOT NULL,
                username text COLLATE "C" NOT NULL,
                password text NOT NULL,
                pass_details text,
                created_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (server, username)
            )
        """,
    ),
    Migration(
        component="auth_rdbms",
        version=2,
        name="auth_secret",
        # One row: what the salts of accounts that do not exist are made from, on all nodes and after restarts.
        sql="""
            CREATE TABLE auth_secret (
                only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
                secret bytea NOT NULL
            )
        """,
    ),
)


class RunInThread(Protocol):
    """Runs a function outside the reactor's thread; `deferToThread` is one."""

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]: ...


async def load_secret(db: Database, random: Random) -> bytes:
    """The secret of this database for `Accounts` and `RdbmsAuth`, made from `random` when it is first asked for."""
    await db.execute(
        "INSERT INTO auth_secret (secret) VALUES (%s) ON CONFLICT DO NOTHING", (random.randbytes(_SECRET_BYTES),)
    )
    rows = await db.query("SELECT secret FROM auth_secret")
    return bytes(rows[0][0])


# OFFSET 0: one look into the index for each, whatever the planner thinks of the number of accounts.
_ROWS = """
SELECT q.n, found.* FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS q (server, username, n)
CROSS JOIN LATERAL (
    SELECT password, pass_details FROM users WHERE server = q.server AND username = q.username OFFSET 0
) AS found
"""


class _Recent(Generic[_T]):
    """Answers of the key derivation, by a digest of what went in; bounded, the least recently used go first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, _T] = OrderedDict()

    def get(self, key: bytes) -> _T | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def keep(self, key: bytes, answer: _T) -> None:
        self._answers[key] = answer
        if len(self._answers) > _CACHE_ENTRIES:
            self._answers.popitem(last=False)


class RdbmsAuth:
    """Accounts of one host type in the pool `db`.

    `scram`: keep records for `hashes` (names of `scram.HASHES`) with `iterations`; otherwise keep prepared passwords
    in clear. `max_users_per_domain`: None for no limit; `limit_of` gives that of a single domain, and the lower one
    holds. `secret`: see `load_secret`. `random` makes salts and has to be unpredictable (`random.SystemRandom`). Key
    derivation runs by `run_in_thread`, never in the reactor's thread.

    Derivations are remembered: a client that logs in by PLAIN each minute costs one. What is kept in memory is a keyed
    digest over record and password, from which neither can be had; a new password makes a new record and so a new key.

    Accounts that do not exist cost the same work as those that do, so that time does not tell them apart.
    """

    name: ClassVar[str] = "rdbms"
    migrations: ClassVar[tuple[Migration, ...]] = _MIGRATIONS
    stored: ClassVar[tuple[Stored, ...]] = (Stored("users", "server", "username"),)

    def __init__(
        self,
        db: Database,
        *,
        secret: bytes,
        random: Random,
        scram: bool = True,
        hashes: Sequence[str] = HASHES,
        iterations: int = DEFAULT_ITERATIONS,
        max_users_per_domain: int | None = None,
        limit_of: Callable[[str], float] = lambda domain: inf,
        run_in_thread: RunInThread = deferToThread,
    ) -> None:
        if not hashes or not set(hashes) <= set(HASHES):
            raise ValueError(f"hashes: at least one of {', '.join(HASHES)}, and no other")
        self._db = db
        self._rows = LookupCombiner(db, _ROWS)
        self._secret = secret
        self._random = random
        self._scram = scram
        self._hashes = tuple(name for name in HASHES if name in hashes)
        self._iterations = iterations
        self._max_users = inf if max_users_per_domain is None else max_users_per_domain
        self._limit_of = limit_of
        self._run_in_thread = run_in_thread
        self._process_secret = random.randbytes(_SECRET_BYTES)
        self._matched: _Recent[bool] = _Recent()
        self._derived: _Recent[ScramRecord] = _Recent()
        self._mechanisms = frozenset(
            {PLAIN, *(name for name, hash_name in MECHANISM_HASHES.items() if hash_name in self._hashes)}
        )

    @property
    def mechanisms(self) -> frozenset[str]:
        return self._mechanisms

    # Logging in

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        given = prepare_given_password(password)
        if given is None:
            return False
        row = await self._row(domain, username)
        if row is None:
            if self._scram:
                await self._matches(self._fake_record(domain, username, self._hashes[0]), given)
            return False
        if not row[1]:
            return hmac.compare_digest(row[0].encode(), given.encode())
        records = self._records(domain, username, row[1])
        # The weakest hash is the fastest one; whoever could reverse it has no use for the others.
        return bool(records) and await self._matches(next(iter(records.values())), given)

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        if hash_name not in self._hashes:
            return None
        row = await self._row(domain, username)
        if row is not None and row[1]:
            return self._records(domain, username, row[1]).get(hash_name)
        if row is not None and row[0]:
            return await self._derive(domain, username, hash_name, row[0])
        if not self._scram:
            stand_in = hmac.digest(self._secret, f"password\0{domain}\0{username}".encode(), "sha256").hex()
            await self._derive(domain, username, hash_name, stand_in)
        return None

    async def _matches(self, record: ScramRecord, given: str) -> bool:
        key = self._digest(record.salt, record.stored_key, str(record.iterations).encode(), given.encode())
        if self._matched.get(key):
            return True
        matched = await self._run_in_thread(partial(matches, record, given))
        if matched:
            self._matched.keep(key, True)
        return matched

    async def _derive(self, domain: str, username: str, hash_name: str, password: str) -> ScramRecord:
        """The record of a password kept in clear. Its salt does not change, as that of a stored record does not."""
        salt = stable_salt(self._secret, domain, username, hash_name)
        key = self._digest(salt, hash_name.encode(), password.encode())
        record = self._derived.get(key)
        if record is None:
            record = await self._run_in_thread(partial(derive, password, hash_name, salt, self._iterations))
            self._derived.keep(key, record)
        return record

    def _digest(self, *parts: bytes) -> bytes:
        lengths = b"".join(len(part).to_bytes(4) for part in parts)
        return hmac.digest(self._process_secret, lengths + b"".join(parts), "sha256")

    def _fake_record(self, domain: str, username: str, hash_name: str) -> ScramRecord:
        return fake_record(self._secret, domain, username, hash_name, self._iterations)

    def _records(self, domain: str, username: str, pass_details: str) -> dict[str, ScramRecord]:
        try:
            return parse_records(pass_details)
        except InvalidScramRecord as error:
            log.error("password_record_broken", domain=domain, username=username, reason=str(error))
            return {}

    async def _row(self, domain: str, username: str) -> tuple[str, str | None] | None:
        rows = await self._rows.lookup((domain, username))
        return (rows[0][0], rows[0][1]) if rows else None

    # Administration

    async def exists(self, domain: str, username: str) -> bool:
        return bool(await self._db.query("SELECT 1 FROM users WHERE server = %s AND username = %s", (domain, username)))

    async def create(self, domain: str, username: str, password: str) -> None:
        prepared = prepare_new_password(password)
        # Saves the key derivation, which is a hundred times the cost of the question; the INSERT decides.
        if await self.exists(domain, username):
            raise AccountExists(username)
        await self._insert((domain, username, *await self._columns(prepared)))

    async def _insert(self, values: tuple[str, str, str, str | None]) -> None:
        """A new row. Raises AccountExists, TooManyAccounts."""
        limit = min(self._max_users, self._limit_of(values[0]))
        if limit == inf:
            created = await self._db.execute(_INSERT, values)
        else:
            created = await self._db.transaction(lambda transaction: _insert_within(transaction, values, int(limit)))
        if not created:
            raise AccountExists(values[1])

    async def set_password(self, domain: str, username: str, password: str) -> None:
        await self._update(domain, username, await self._columns(prepare_new_password(password)))

    async def _update(self, domain: str, username: str, columns: tuple[str, str | None]) -> None:
        """A new password for a row. Raises NoSuchAccount."""
        changed = await self._db.execute(
            "UPDATE users SET password = %s, pass_details = %s WHERE server = %s AND username = %s",
            (*columns, domain, username),
        )
        if not changed:
            raise NoSuchAccount(username)

    async def remove(self, domain: str, username: str) -> None:
        if not await self._db.execute("DELETE FROM users WHERE server = %s AND username = %s", (domain, username)):
            raise NoSuchAccount(username)

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts:
        # No prepared localpart is empty, so that all of them come after "".
        rows = await self._db.query(
            "SELECT username FROM users WHERE server = %s AND username > %s ORDER BY username LIMIT %s",
            (domain, after or "", limit),
        )
        return [row[0] for row in rows]

    async def count(self, domain: str) -> int:
        rows = await self._db.query("SELECT count(*) FROM users WHERE server = %s", (domain,))
        return int(rows[0][0])

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        rows = await self._db.query(
            "SELECT username, password, pass_details FROM users WHERE server = %s AND username > %s"
            " ORDER BY username LIMIT %s",
            (domain, after or "", limit),
        )
        return [self._credentials(domain, *row) for row in rows]

    def _credentials(self, domain: str, username: str, password: str, pass_details: str | None) -> Credentials:
        if not pass_details:
            return Credentials(username, password or None)
        return Credentials(username, None, tuple(self._records(domain, username, pass_details).values()))

    async def adopt(self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool) -> None:
        columns = ("", serialise_records(records))
        if overwrite:
            await self._update(domain, username, columns)
        else:
            await self._insert((domain, username, *columns))

    async def _columns(self, prepared: str) -> tuple[str, str | None]:
        """Values of `password` and `pass_details`."""
        if not self._scram:
            return prepared, None
        salts = {hash_name: self._random.randbytes(SALT_BYTES) for hash_name in self._hashes}
        records = await self._run_in_thread(partial(derive_all, prepared, salts, self._iterations))
        return "", serialise_records(records)


_INSERT: Final = (
    "INSERT INTO users (server, username, password, pass_details) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
)


async def _insert_within(transaction: Transaction, values: tuple[str, str, str, str | None], limit: int) -> int:
    """Inserts if the domain has less than `limit` accounts. Needs READ COMMITTED, the default of PostgreSQL.

    Registrations of one domain wait for each other; each counts in a statement of its own, which sees what the one
    before it committed. Counting ends at the limit, so that its cost is bounded by it.
    """
    domain = values[0]
    await transaction.query("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LIMIT_LOCK, domain))
    created = await transaction.execute(_INSERT, values)
    if created:
        counted = await transaction.query(
            "SELECT count(*) FROM (SELECT 1 FROM users WHERE server = %s LIMIT %s) AS counted", (domain, limit + 1)
        )
        if counted[0][0] > limit:
            raise TooManyAccounts(f"{domain} may have {limit}")
    return created
