"""XEP-0484 Fast Authentication Streamlining Tokens, version 0.2.0, on a stream: what is offered, asked for and given.

modules/fast_auth_token.py keeps the tokens, auth/ht.py knows the mechanisms. A token is worth as much as the password
that it was issued under: once the account has another one, or is gone, its tokens are refused.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twisted.words.xish import domish

from dynxmpp.auth import ht
from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.scram import MECHANISM_HASHES
from dynxmpp.c2s.sasl import Challenge, Mechanism, SaslFailure, Success
from dynxmpp.jid import JID
from dynxmpp.modules.fast_auth_token import FastAuthToken, TokenRefused
from dynxmpp.protocol.timestamps import format_seconds
from dynxmpp.wire import escape

NS_FAST: Final = "urn:xmpp:fast:0"

#: Values of `count` (xs:int).
_MAX_COUNT: Final = 0x7FFF_FFFF
_COUNT = re.compile(r"[0-9]{1,10}").fullmatch
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class FastRequest:
    """What an <authenticate/> says about tokens.

    `agent`: the client's id, None when it has none. `wanted`: it asks for a token for this mechanism. `is_used`: it
    proves that it has one, with this counter, and wants it invalidated.
    """

    agent: str | None
    wanted: str | None = None
    is_used: bool = False
    count: int | None = None
    invalidate: bool = False


def read(agent: str | None, used: domish.Element | None, wanted: domish.Element | None) -> FastRequest:
    """<fast/> and <request-token/> of a client. Raises SaslFailure."""
    if agent is None and (used is not None or wanted is not None):
        raise SaslFailure("malformed-request", "A token needs a user-agent with an id")
    mechanism = None if wanted is None else wanted.getAttribute("mechanism", "")
    if used is None:
        return FastRequest(agent, mechanism)
    count = used.getAttribute("count")
    if count is not None and (not _COUNT(count) or int(count) > _MAX_COUNT):
        raise SaslFailure("malformed-request", "count must be a positive integer")
    invalidate = _BOOLEANS.get(used.getAttribute("invalidate", "false"))
    if invalidate is None:
        raise SaslFailure("malformed-request", "invalidate must be true or false")
    return FastRequest(agent, mechanism, True, None if count is None else int(count), invalidate)


class Fast:
    """Tokens on one encrypted stream of one domain."""

    def __init__(
        self, tokens: FastAuthToken, accounts: Accounts, domain: str, channel_bindings: Mapping[str, bytes]
    ) -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._domain = domain
        self._channel_bindings = channel_bindings
        #: Names of the mechanisms that take tokens.
        self.offered = ht.mechanisms(channel_bindings)

    def feature(self) -> str:
        """For <inline/> of XEP-0388."""
        names = "".join(f"<mechanism>{name}</mechanism>" for name in self.offered)
        return f"<fast xmlns='{NS_FAST}'>{names}</fast>"

    def mechanism(self, name: str, request: FastRequest) -> "HashedToken":
        """The exchange that a client with a token begins; it must be one of those offered. Raises SaslFailure."""
        if name not in self.offered:
            raise SaslFailure("invalid-mechanism", "not offered")
        if request.agent is None or not request.is_used:
            raise SaslFailure("malformed-request", "A token needs <fast/>, and a user-agent with an id")
        binding = ht.MECHANISMS[name]
        data = b"" if binding is None else self._channel_bindings[binding]
        return HashedToken(self._domain, self._accounts, self._tokens, name, data, request)

    async def token(self, account: JID, request: FastRequest, used: Mechanism) -> bytes:
        """<token/> for a client that has authenticated by `used`, if it asks for one or needs one; else nothing.

        Nothing, too, for a mechanism that is not offered: what a client knows of earlier streams need not be true here,
        and is no reason to refuse it. Raises Unavailable.
        """
        wanted = request.wanted
        if wanted is None and isinstance(used, HashedToken) and used.is_due and not request.invalidate:
            wanted = used.name
        if request.agent is None or wanted not in self.offered:
            return b""
        credential = await _credential(self._accounts, account)
        issued = await self._tokens.issue(account, request.agent, wanted, credential)
        attributes: dict[escape.AttributeName, str] = {
            "token": issued.token,
            "expiry": format_seconds(issued.expires),
        }
        return escape.open_tag("token", attributes, {}, NS_FAST, "/>").encode()


class HashedToken(Mechanism):
    """HT-SHA-256-*: one message, and our own proof with success."""

    def __init__(
        self,
        domain: str,
        accounts: Accounts,
        tokens: FastAuthToken,
        name: str,
        binding_data: bytes,
        request: FastRequest,
    ) -> None:
        super().__init__(domain, accounts)
        self.name = name
        self._tokens = tokens
        self._binding_data = binding_data
        self._request = request
        #: Should the client be given another token? Known after success.
        self.is_due = False

    async def _advance(self, data: bytes) -> Challenge | Success:
        try:
            claim = ht.read(data)
        except ht.HtSyntaxError as error:
            raise SaslFailure("malformed-request", str(error)) from error
        account = JID.of(self._username(claim.username), self._domain)
        assert account.local is not None and self._request.agent is not None
        credential = await _credential(self._accounts, account)
        try:
            redeemed = await self._tokens.redeem(
                account,
                self._request.agent,
                self.name,
                lambda token: ht.proves(claim.hashed_token, token, self._binding_data),
                credential,
                count=self._request.count,
                invalidate=self._request.invalidate,
            )
        except TokenRefused as refused:
            if refused.expired:
                raise SaslFailure("credentials-expired", "The token is no longer valid") from refused
            raise SaslFailure("not-authorized", "Wrong user name or token") from refused
        self.is_due = redeemed.is_due
        return Success(account.local, ht.answer(redeemed.token, self._binding_data))


async def _credential(accounts: Accounts, account: JID) -> bytes:
    """What changes with the account's password, and when it is removed. Raises Unavailable.

    Where accounts have no SCRAM records it says only whether there is such an account.
    """
    assert account.local is not None
    hashes = [name for mechanism, name in MECHANISM_HASHES.items() if mechanism in accounts.mechanisms()]
    if not hashes:
        return b"exists" if await accounts.exists(account.domain, account.local) else b""
    hash_name = "sha256" if "sha256" in hashes else hashes[0]
    record = await accounts.scram_record(account.domain, account.local, hash_name)
    return hashlib.sha256(record.salt + record.stored_key).digest()
