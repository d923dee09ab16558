"""SASL mechanisms, the server's side (RFC 6120 section 6): PLAIN (RFC 4616), SCRAM (RFC 5802, RFC 7677).

Knows neither streams nor elements, but for one stream feature: a negotiation (RFC 6120 or XEP-0388) decodes what came
in with `decode_initial` or `decode_response`, steps a `Mechanism`, and writes the outcome as its profile wants it.
Channel binding: `tls-exporter` (RFC 9266) and `tls-server-end-point` (RFC 5929), announced by XEP-0440, version 1.0.0.
"""

import binascii
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from twisted.words.xish import domish

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.base import PLAIN
from dynxmpp.auth.scram import MECHANISM_HASHES, ScramError, ScramRefused, ScramServer
from dynxmpp.jid import JID, InvalidJID, prepare_local
from dynxmpp.wire.errors import Unavailable

__all__ = [
    "CONFIG_MECHANISMS",
    "NS_CHANNEL_BINDING",
    "TLS_EXPORTER",
    "TLS_SERVER_END_POINT",
    "Challenge",
    "Mechanism",
    "SaslFailure",
    "Success",
    "channel_binding_feature",
    "create",
    "decode_initial",
    "decode_response",
    "encode",
    "from_base64",
    "offered_mechanisms",
    "to_base64",
]

NS_CHANNEL_BINDING: Final = "urn:xmpp:sasl-cb:0"
TLS_EXPORTER: Final = "tls-exporter"
TLS_SERVER_END_POINT: Final = "tls-server-end-point"

#: Longest message of a client, decoded; leaves room for a token given as a password.
MAX_MESSAGE_BYTES: Final = 16384
_NONCE_BYTES: Final = 18
_PLUS: Final = "-PLUS"

#: Values of `auth.sasl_mechanisms` that this server implements.
CONFIG_MECHANISMS: Final[Mapping[str, str]] = {
    "plain": PLAIN,
    **{f"scram_{hash_name}": name for name, hash_name in MECHANISM_HASHES.items()},
    **{f"scram_{hash_name}_plus": name + _PLUS for name, hash_name in MECHANISM_HASHES.items()},
}

Condition = Literal[
    "aborted",
    "account-disabled",
    "credentials-expired",
    "encryption-required",
    "incorrect-encoding",
    "invalid-authzid",
    "invalid-mechanism",
    "malformed-request",
    "mechanism-too-weak",
    "not-authorized",
    "temporary-auth-failure",
]


class SaslFailure(Exception):
    """The exchange ended without success. `condition` is a name of RFC 6120 6.5, `text` is for people."""

    def __init__(self, condition: Condition, text: str | None = None) -> None:
        super().__init__(condition if text is None else f"{condition}: {text}")
        self.condition: Condition = condition
        self.text = text


@dataclass(frozen=True)
class Challenge:
    """The client has to answer `data`."""

    data: bytes


@dataclass(frozen=True)
class Success:
    """The client is `username`, a prepared localpart. `data`: additional data with success, None for none."""

    username: str
    data: bytes | None


# Base64 (RFC 6120 6.4)


def decode_initial(text: str) -> bytes | None:
    """The content of <auth/>: None when there is no initial response, empty bytes for `=`. Raises SaslFailure."""
    return decode_response(text) if text else None


def decode_response(text: str) -> bytes:
    """The content of <response/>, where nothing and `=` both mean empty. Raises SaslFailure."""
    return b"" if text == "=" else from_base64(text)


def encode(data: bytes) -> str:
    """`data` as the content of <challenge/> or <success/>; `=` when it is empty."""
    return to_base64(data) or "="


def from_base64(text: str) -> bytes:
    """What `text` encodes, which must be canonical (XEP-0388 has no `=` for nothing). Raises SaslFailure."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise SaslFailure("incorrect-encoding", "broken base64") from error
    if to_base64(data) != text:
        raise SaslFailure("incorrect-encoding", "not canonical base64")
    return data


def to_base64(data: bytes) -> str:
    """`data` in base64, without line breaks."""
    return binascii.b2a_base64(data, newline=False).decode()


# What is offered


def offered_mechanisms(
    accounts_mechanisms: Collection[str],
    configured_order: Iterable[str],
    *,
    plain_allowed: bool,
    channel_bindings: Mapping[str, bytes],
) -> tuple[str, ...]:
    """Registered names of what this connection may choose from, in configured order.

    `accounts_mechanisms` is `Accounts.mechanisms()`; `configured_order` holds values of `auth.sasl_mechanisms`, those
    that are not implemented are passed over; `channel_bindings` is what the connection can do (empty without TLS).
    """
    offered = []
    for name in (CONFIG_MECHANISMS.get(configured) for configured in configured_order):
        if name is None or name in offered or name.removesuffix(_PLUS) not in accounts_mechanisms:
            continue
        if name.endswith(_PLUS) and not channel_bindings:
            continue
        if name == PLAIN and not plain_allowed:
            continue
        offered.append(name)
    return tuple(offered)


def channel_binding_feature(offered: Iterable[str], channel_bindings: Mapping[str, bytes]) -> domish.Element | None:
    """The stream feature of XEP-0440; None when no -PLUS mechanism is offered, where clients would have to abort."""
    if not channel_bindings or not any(name.endswith(_PLUS) for name in offered):
        return None
    feature = domish.Element((NS_CHANNEL_BINDING, "sasl-channel-binding"))
    for binding_type in channel_bindings:
        feature.addElement("channel-binding")["type"] = binding_type
    return feature


# Mechanisms


class Mechanism(ABC):
    """One exchange. Of all that `step` may meet, a client sees a `SaslFailure`; after one the object is used up."""

    def __init__(self, domain: str, accounts: Accounts) -> None:
        self._domain = domain
        self._accounts = accounts
        self._started = False
        self._closed = False

    async def step(self, data: bytes | None) -> Challenge | Success:
        """Takes what the client sent, decoded; None for an <auth/> without initial response. Raises SaslFailure.

        One step at a time: a client that does not wait for the answer breaks the exchange.
        """
        if self._closed:
            raise SaslFailure("malformed-request", "nothing was expected")
        started, self._started = self._started, True
        if data is None:
            if started:
                raise SaslFailure("malformed-request", "response expected")
            return Challenge(b"")  # RFC 6120 6.4.2: every mechanism here is one where the client speaks first
        if len(data) > MAX_MESSAGE_BYTES:
            raise SaslFailure("malformed-request", f"longer than {MAX_MESSAGE_BYTES} bytes")
        self._closed = True
        try:
            outcome = await self._advance(data)
        except Unavailable as error:
            raise SaslFailure("temporary-auth-failure", "Please try again later") from error
        self._closed = isinstance(outcome, Success)
        return outcome

    @abstractmethod
    async def _advance(self, data: bytes) -> Challenge | Success:
        """One message further."""

    def _username(self, authcid: str) -> str:
        """The localpart that the client calls itself. One that nobody can have is answered like a wrong password."""
        try:
            return prepare_local(authcid)
        except InvalidJID as error:
            raise _not_authorized() from error

    def _check_authzid(self, authzid: str | None, username: str) -> None:
        """RFC 6120 6.3.8: nobody acts for somebody else here, so it may only name the account itself."""
        if authzid is None:
            return
        try:
            jid = JID.parse(authzid)
        except InvalidJID as error:
            raise SaslFailure("invalid-authzid", "not an address") from error
        if jid.local != username or jid.domain != self._domain or jid.resource is not None:
            raise SaslFailure("invalid-authzid", "not the bare address of the account")


class Plain(Mechanism):
    """RFC 4616: `[authzid] NUL authcid NUL password`."""

    async def _advance(self, data: bytes) -> Success:
        try:
            authzid, authcid, password = data.decode().split("\0")
        except UnicodeDecodeError as error:
            raise SaslFailure("malformed-request", "not UTF-8") from error
        except ValueError as error:
            raise SaslFailure("malformed-request", "two NULs expected") from error
        if not authcid or not password:
            raise SaslFailure("malformed-request", "user name and password expected")
        username = self._username(authcid)
        self._check_authzid(authzid or None, username)
        if not await self._accounts.check_password(self._domain, username, password):
            raise _not_authorized()
        return Success(username, None)


class Scram(Mechanism):
    """SCRAM over any hash, with and without channel binding. The server's proof travels with success."""

    def __init__(self, domain: str, accounts: Accounts, hash_name: str, server: ScramServer) -> None:
        super().__init__(domain, accounts)
        self._hash_name = hash_name
        self._server = server
        self._claimed: str | None = None

    async def _advance(self, data: bytes) -> Challenge | Success:
        try:
            if self._claimed is None:
                return await self._first(data)
            return Success(self._claimed, self._server.client_final(data))
        except ScramRefused as error:
            if error.value == "invalid-proof":
                raise _not_authorized() from error
            raise SaslFailure("not-authorized", str(error)) from error
        except ScramError as error:
            raise SaslFailure("malformed-request", str(error)) from error

    async def _first(self, data: bytes) -> Challenge:
        claim = self._server.client_first(data)
        username = self._username(claim.username)
        self._check_authzid(claim.authzid, username)
        record = await self._accounts.scram_record(self._domain, username, self._hash_name)
        self._claimed = username
        return Challenge(self._server.server_first(record))


def create(
    mechanism_name: str,
    *,
    domain: str,
    accounts: Accounts,
    channel_bindings: Mapping[str, bytes],
    offered: Collection[str],
    random: Random,
) -> Mechanism:
    """The mechanism that the client chose, out of those `offered` on this stream. Raises SaslFailure.

    `domain` is the prepared domain of the stream, `random` has to be unpredictable (`random.SystemRandom`).
    """
    if mechanism_name not in offered:
        raise SaslFailure("invalid-mechanism", "not offered")
    if mechanism_name == PLAIN:
        return Plain(domain, accounts)
    hash_name = MECHANISM_HASHES[mechanism_name.removesuffix(_PLUS)]
    server = ScramServer(
        hash_name,
        nonce=binascii.b2a_base64(random.randbytes(_NONCE_BYTES), newline=False).decode(),
        plus=mechanism_name.endswith(_PLUS),
        plus_offered=any(name.endswith(_PLUS) for name in offered),
        channel_bindings=channel_bindings,
    )
    return Scram(domain, accounts, hash_name, server)


def _not_authorized() -> SaslFailure:
    # The same for an unknown account and a wrong password, so that accounts cannot be found out (RFC 6120 13.11).
    return SaslFailure("not-authorized", "Wrong user name or password")
