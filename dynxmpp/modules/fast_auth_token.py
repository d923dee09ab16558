"""XEP-0484 Fast Authentication Streamlining Tokens, version 0.2.0: the tokens; c2s/fast.py has the protocol.

A client, known by the id of its <user-agent/>, has up to two tokens: the *current* one, and a *new* one that it was
given and has not used yet. Using the new one makes it the current one. Each is bound to the mechanism that it was asked
for, and to the password under which it was issued: the caller hands in a mark of it, and a token with another mark is
as good as expired. Tokens are kept in clear, because the mechanisms need them so.

Left out: tokens in TLS 0-RTT data, which this server does not accept.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dynxmpp.config.model import non_negative, one_of
from dynxmpp.module import (
    JID,
    Migration,
    Module,
    ModuleContext,
    Section,
    Stored,
    Transaction,
    Xep,
    option,
    section,
)

#: Random bytes of a token.
_TOKEN_BYTES = 32
#: Clients of one account that have tokens; of more, those whose tokens end first lose them.
MAX_CLIENTS = 50
_CURRENT, _NEW = 0, 1
_UNIT_S = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}

_CREATE = """
CREATE TABLE fast_token (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    agent uuid NOT NULL,
    slot smallint NOT NULL,
    mechanism text COLLATE "C" NOT NULL,
    token bytea NOT NULL,
    credential bytea NOT NULL,
    expires bigint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (server, username, agent, slot)
)
"""

_OF_CLIENT = "server = %s AND username = %s AND agent = %s"
_SELECT = f"""
SELECT slot, token, credential, expires, count FROM fast_token WHERE {_OF_CLIENT} AND mechanism = %s ORDER BY slot DESC
"""
_DELETE = f"DELETE FROM fast_token WHERE {_OF_CLIENT}"
_DELETE_SLOT = f"{_DELETE} AND slot = %s"
_UPDATE = f"UPDATE fast_token SET slot = %s, count = greatest(count, %s) WHERE {_OF_CLIENT} AND slot = %s"
_INSERT = """
INSERT INTO fast_token (server, username, agent, slot, mechanism, token, credential, expires, count)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0)
ON CONFLICT (server, username, agent, slot) DO UPDATE SET
    mechanism = excluded.mechanism, token = excluded.token, credential = excluded.credential,
    expires = excluded.expires
"""
_DELETE_EXPIRED = "DELETE FROM fast_token WHERE server = %s AND username = %s AND expires <= %s"
_DELETE_SURPLUS = """
DELETE FROM fast_token WHERE server = %s AND username = %s AND agent IN (
    SELECT agent FROM fast_token WHERE server = %s AND username = %s
    GROUP BY agent ORDER BY max(expires) DESC, agent = %s DESC OFFSET %s
)
"""


@section
class Period(Section):
    """A length of time."""

    value: int = option(check=non_negative)
    unit: Literal["days", "hours", "minutes", "seconds"] = option()

    @property
    def seconds(self) -> int:
        return self.value * _UNIT_S[self.unit]


DEFAULT_ACCESS = Period(value=3, unit="days")
DEFAULT_ROTATION = Period(value=6, unit="hours")


@section
class ValidityPeriod(Section):
    """[modules.mod_fast_auth_token.validity_period]

    How long a token is valid (`access`), and how long before its end the client is given a new one.
    """

    access: Period | None = option(default=None)
    rotate_before_expire: Period | None = option(default=None)


@section
class FastAuthTokenConfig(Section):
    """[modules.mod_fast_auth_token]"""

    backend: str = option(default="rdbms", check=one_of("rdbms", kind="backend"), unused=True)
    validity_period: ValidityPeriod = option(factory=ValidityPeriod)


class TokenRefused(Exception):
    """The client has no such token; `expired`: it had it once."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("expired" if expired else "unknown")
        self.expired = expired


@dataclass(frozen=True, slots=True)
class Issued:
    """A token for a client. `expires`: seconds since 1970."""

    token: str
    expires: int


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A token that a client has just used. `is_due`: it should be given another one."""

    token: bytes
    is_due: bool


@dataclass(frozen=True, slots=True)
class _Row:
    slot: int
    token: bytes
    credential: bytes
    expires: int
    count: int


class FastAuthToken(Module):
    """Issues tokens, and takes them back. All methods may raise Unavailable."""

    name = "mod_fast_auth_token"
    xep = Xep(484, "0.2.0")
    config_model = FastAuthTokenConfig
    stored = (Stored("fast_token", domain="server", user="username"),)
    migrations = (Migration("mod_fast_auth_token", 1, "fast_token", _CREATE),)

    def __init__(self, context: ModuleContext, config: FastAuthTokenConfig) -> None:
        super().__init__(context, config)
        periods = config.validity_period
        self._lifetime_s = (periods.access or DEFAULT_ACCESS).seconds
        self._rotation_s = (periods.rotate_before_expire or DEFAULT_ROTATION).seconds

    async def start(self) -> None:
        self.host_type.provide(FastAuthToken, self)

    async def issue(self, account: JID, agent: str, mechanism: str, credential: bytes) -> Issued:
        """A token for the client `agent` (a UUID); one that it was given before and has not used is void."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = int(self.clock.seconds())
        expires = now + self._lifetime_s
        owner = (account.domain, account.local)

        async def store(transaction: Transaction) -> None:
            await transaction.execute(_DELETE_EXPIRED, (*owner, now))
            values = (*owner, agent, _NEW, mechanism, token.encode(), credential, expires)
            await transaction.execute(_INSERT, values)
            await transaction.execute(_DELETE_SURPLUS, (*owner, *owner, agent, MAX_CLIENTS))

        await self.database.transaction(store)
        return Issued(token, expires)

    async def redeem(
        self,
        account: JID,
        agent: str,
        mechanism: str,
        fits: Callable[[bytes], bool],
        credential: bytes,
        *,
        count: int | None = None,
        invalidate: bool = False,
    ) -> Redeemed:
        """Takes the token that `fits` says yes to. Raises TokenRefused.

        `count`: the client's counter, which must have grown. `invalidate`: the client is left without tokens.
        """
        client = (account.domain, account.local, agent)
        row = self._find(await self.database.query(_SELECT, (*client, mechanism)), fits, credential, count)
        if row.slot == _NEW or count is not None or invalidate:
            row = await self.database.transaction(
                lambda transaction: self._take(transaction, client, mechanism, fits, credential, count, invalidate)
            )
        return Redeemed(row.token, row.expires - self.clock.seconds() < self._rotation_s)

    async def _take(
        self,
        transaction: Transaction,
        client: tuple[str, str | None, str],
        mechanism: str,
        fits: Callable[[bytes], bool],
        credential: bytes,
        count: int | None,
        invalidate: bool,
    ) -> _Row:
        """Once more with the rows locked, so that of two uses of one counter one is refused."""
        rows = await transaction.query(f"{_SELECT} FOR UPDATE", (*client, mechanism))
        row = self._find(rows, fits, credential, count)
        if invalidate:
            # Who logs out is out: a new token that may not have arrived must not stay behind either.
            await transaction.execute(_DELETE, client)
            return row
        if row.slot == _NEW:
            await transaction.execute(_DELETE_SLOT, (*client, _CURRENT))
        await transaction.execute(_UPDATE, (_CURRENT, count or 0, *client, row.slot))
        return row

    def _find(
        self,
        rows: Iterable[tuple[int, bytes, bytes, int, int]],
        fits: Callable[[bytes], bool],
        credential: bytes,
        count: int | None,
    ) -> _Row:
        row = next((row for row in (_Row(*values) for values in rows) if fits(row.token)), None)
        if row is None:
            raise TokenRefused(expired=False)
        if row.expires <= self.clock.seconds() or not hmac.compare_digest(row.credential, credential):
            raise TokenRefused(expired=True)
        if count is not None and count <= row.count:
            raise TokenRefused(expired=False)  # a replay
        return row
