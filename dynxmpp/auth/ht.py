"""Hashed Token SASL mechanisms (draft-schmaus-kitten-sasl-ht-09) as XEP-0484, version 0.2.0, uses them. No I/O.

Both sides know a token and prove it in one round trip, each with a hash that also covers the TLS connection where the
mechanism's name says so. HT-SHA-256-UNIQ is left out, as tls-unique is.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynxmpp.tls.channel_binding import TLS_EXPORTER, TLS_SERVER_END_POINT

__all__ = ["MECHANISMS", "Claim", "HtSyntaxError", "answer", "mechanisms", "proves", "read"]

_HASH: Final = "sha256"
_HASH_BYTES: Final = 32

#: Mechanism to the type of channel binding that it needs, None for none; best first.
MECHANISMS: Final[Mapping[str, str | None]] = {
    "HT-SHA-256-EXPR": TLS_EXPORTER,
    "HT-SHA-256-ENDP": TLS_SERVER_END_POINT,
    "HT-SHA-256-NONE": None,
}


class HtSyntaxError(ValueError):
    """A message that is not what the grammar allows."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the client sends: who it is, as it wrote it (not prepared), and its hash of the token."""

    username: str
    hashed_token: bytes


def mechanisms(channel_bindings: Mapping[str, bytes]) -> tuple[str, ...]:
    """Those that a connection with these channel bindings can serve, best first."""
    return tuple(name for name, binding in MECHANISMS.items() if binding is None or binding in channel_bindings)


def read(message: bytes) -> Claim:
    """The initiator's message (section 3.1): `authcid NUL hashed-token`. Raises HtSyntaxError."""
    authcid, separator, hashed_token = message.partition(b"\0")
    if not separator or not authcid:
        raise HtSyntaxError("user name and hashed token expected")
    if len(hashed_token) != _HASH_BYTES:
        raise HtSyntaxError("hashed token of another length")
    try:
        return Claim(authcid.decode(), hashed_token)
    except UnicodeDecodeError as error:
        raise HtSyntaxError("not UTF-8") from error


def proves(hashed_token: bytes, token: bytes, binding_data: bytes) -> bool:
    """Whether the client that sent `hashed_token` has `token`. Takes the same time whatever differs."""
    return hmac.compare_digest(hashed_token, hmac.digest(token, b"Initiator" + binding_data, _HASH))


def answer(token: bytes, binding_data: bytes) -> bytes:
    """The responder's message (section 3.3): our own proof, so that the client knows whom it talks to."""
    return hmac.digest(token, b"Responder" + binding_data, _HASH)
