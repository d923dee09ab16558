"""SCRAM (RFC 5802, RFC 7677): stored records, their text in a database, and the server's side of the exchange.

Nothing here reads or writes anything: bytes in, bytes out. Key derivation (`derive`, `derive_all`) takes milliseconds
and belongs into a thread; everything else takes microseconds. Left out: mandatory extensions (`m=`), of which none is
registered.
"""

import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "CONFIG_HASHES",
    "DEFAULT_ITERATIONS",
    "HASHES",
    "MECHANISM_HASHES",
    "SALT_BYTES",
    "ClientFirst",
    "InvalidScramRecord",
    "ScramError",
    "ScramRecord",
    "ScramRefused",
    "ScramServer",
    "ScramSyntaxError",
    "checked_record",
    "derive",
    "derive_all",
    "fake_record",
    "matches",
    "parse_records",
    "serialise_records",
    "stable_salt",
]

#: Names for hashlib, weakest first: the order in which a stored text lists them.
HASHES: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")
#: What `auth.password.hash` calls them.
CONFIG_HASHES: Final = {"sha": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
#: SASL mechanism, without -PLUS, to hash.
MECHANISM_HASHES: Final = {f"SCRAM-SHA-{name[3:]}": name for name in HASHES}
DEFAULT_ITERATIONS: Final = 10000
SALT_BYTES: Final = 16
#: Of a record that comes from elsewhere; the client is sent it with each login.
MAX_SALT_BYTES: Final = 1024

_DIGEST_BYTES: Final = {name: hashlib.new(name).digest_size for name in HASHES}
#: Each exactly ten characters long, hence the odd first one.
_TEXT_MARKS: Final = {
    "sha1": "===SHA1===",
    "sha224": "==SHA224==",
    "sha256": "==SHA256==",
    "sha384": "==SHA384==",
    "sha512": "==SHA512==",
}
_MARK_HASHES: Final = {mark: name for name, mark in _TEXT_MARKS.items()}
_MULTI_PREFIX: Final = "==MULTI_SCRAM==,"
_SHA1_PREFIX: Final = "==SCRAM==,"

_CHANNEL_BINDING_NAME = re.compile(r"[A-Za-z0-9.-]+").fullmatch
_SASL_NAME = re.compile(r"(?:[^=,\0]|=2C|=3D)+").fullmatch
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+").fullmatch
_ITERATIONS = re.compile(r"[1-9][0-9]{0,8}").fullmatch
_EXTENSION = re.compile(r"([A-Za-z])=[^,\0]+").fullmatch
#: Attributes with a meaning of their own (RFC 5802 5.1); none of them may stand where extensions do.
_RESERVED: Final = frozenset("anmrcsipve")


@dataclass(frozen=True)
class ScramRecord:
    """What the server keeps of a password for one hash; enough to check it, not enough to log in with it."""

    hash_name: str
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class InvalidScramRecord(ValueError):
    """A stored text that holds no SCRAM records. The message does not quote it."""


class ScramError(Exception):
    """The exchange failed. `value` is the server-error-value of RFC 5802 section 7, the message is for people."""

    def __init__(self, value: str, text: str) -> None:
        super().__init__(text)
        self.value = value


class ScramSyntaxError(ScramError):
    """A message that is not what the grammar, the mechanism or the announced features allow."""


class ScramRefused(ScramError):
    """A well-formed message that proves the wrong thing: nonce, channel binding or password."""


# Records


def derive(password: str, hash_name: str, salt: bytes, iterations: int) -> ScramRecord:
    """The record of a prepared `password` (RFC 5802 section 3). About 0.3 microseconds an iteration."""
    salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return ScramRecord(hash_name, salt, iterations, stored_key, hmac.digest(salted, b"Server Key", hash_name))


def derive_all(password: str, salts: Mapping[str, bytes], iterations: int) -> tuple[ScramRecord, ...]:
    """A record for each hash named in `salts`."""
    return tuple(derive(password, hash_name, salt, iterations) for hash_name, salt in salts.items())


def matches(record: ScramRecord, password: str) -> bool:
    """Whether the prepared `password` is the one of `record`. Costs what `derive` costs."""
    derived = derive(password, record.hash_name, record.salt, record.iterations)
    return hmac.compare_digest(derived.stored_key, record.stored_key)


def stable_salt(secret: bytes, domain: str, username: str, hash_name: str) -> bytes:
    """A salt that looks random and is the same each time it is asked for (RFC 5802 section 9 forbids neither)."""
    return _keyed(secret, "salt", domain, username, hash_name)[:SALT_BYTES]


def fake_record(secret: bytes, domain: str, username: str, hash_name: str, iterations: int) -> ScramRecord:
    """A record for an account that does not exist, so that an exchange with it looks like one with a wrong password.

    Its stored key is no hash of anything, so no proof fits it: who could make one has inverted the hash. `secret` has
    to outlive the process and to be the same on all nodes, otherwise a changing salt tells the difference.
    """
    size = _DIGEST_BYTES[hash_name]
    return ScramRecord(
        hash_name,
        stable_salt(secret, domain, username, hash_name),
        iterations,
        _keyed(secret, "stored key", domain, username, hash_name)[:size],
        _keyed(secret, "server key", domain, username, hash_name)[:size],
    )


def _keyed(secret: bytes, purpose: str, *parts: str) -> bytes:
    # Prepared localparts and domains hold no NUL, so that different parts make different inputs.
    return hmac.digest(secret, "\0".join((purpose, *parts)).encode(), "sha512")


def serialise_records(records: Iterable[ScramRecord]) -> str:
    """The text that `users.pass_details` keeps: `==MULTI_SCRAM==,ITERATIONS,MARK SALT|STORED|SERVER,...`.

    The format is MongooseIM's, so that an account table can be taken over. It has one iteration count for all hashes.
    """
    by_hash = {record.hash_name: record for record in records}
    if len({record.iterations for record in by_hash.values()}) != 1:
        raise InvalidScramRecord("records of one account share one iteration count")
    ordered = [by_hash[name] for name in HASHES if name in by_hash]
    parts = (
        _TEXT_MARKS[record.hash_name]
        + "|".join(_encode(value).decode() for value in (record.salt, record.stored_key, record.server_key))
        for record in ordered
    )
    return f"{_MULTI_PREFIX}{ordered[0].iterations}," + ",".join(parts)


def parse_records(text: str) -> dict[str, ScramRecord]:
    """The records in `text`, by hash, weakest first. Raises InvalidScramRecord.

    Reads the format of `serialise_records` and its predecessor for SHA-1 alone.
    """
    if text.startswith(_MULTI_PREFIX):
        count, *parts = text[len(_MULTI_PREFIX) :].split(",")
        records = [_parse_marked(part, count) for part in parts]
    elif text.startswith(_SHA1_PREFIX):
        stored_key, server_key, salt, count = _exactly(4, text[len(_SHA1_PREFIX) :].split(","))
        records = [_record("sha1", salt, count, stored_key, server_key)]
    else:
        raise InvalidScramRecord("unknown format")
    if not records:
        raise InvalidScramRecord("no hash")
    by_hash = {record.hash_name: record for record in records}
    return {name: by_hash[name] for name in HASHES if name in by_hash}


def _parse_marked(part: str, count: str) -> ScramRecord:
    hash_name = _MARK_HASHES.get(part[:10])
    if hash_name is None:
        raise InvalidScramRecord("unknown hash")
    salt, stored_key, server_key = _exactly(3, part[10:].split("|"))
    return _record(hash_name, salt, count, stored_key, server_key)


def _record(hash_name: str, salt: str, count: str, stored_key: str, server_key: str) -> ScramRecord:
    try:
        decoded = [_decode(value) for value in (salt, stored_key, server_key)]
    except ValueError as error:
        raise InvalidScramRecord("broken base64") from error
    if not _ITERATIONS(count):
        raise InvalidScramRecord("broken iteration count")
    return checked_record(ScramRecord(hash_name, decoded[0], int(count), decoded[1], decoded[2]))


def checked_record(record: ScramRecord) -> ScramRecord:
    """The record itself, if its values are as long as they have to be. Raises InvalidScramRecord."""
    size = _DIGEST_BYTES[record.hash_name]
    if not 0 < len(record.salt) <= MAX_SALT_BYTES or len(record.stored_key) != size or len(record.server_key) != size:
        raise InvalidScramRecord("value out of range")
    return record


def _exactly(number: int, parts: list[str]) -> list[str]:
    if len(parts) != number:
        raise InvalidScramRecord("wrong number of values")
    return parts


# The exchange


@dataclass(frozen=True)
class ClientFirst:
    """Whom the client claims to be: `username` as it was sent (not prepared yet), `authzid` if it named one."""

    username: str
    authzid: str | None


class ScramServer:
    """One exchange: `client_first`, then `server_first`, then `client_final`, each once and in this order.

    `plus`: the client chose the -PLUS variant. `plus_offered`: -PLUS was announced for this stream.
    `channel_bindings`: type to data of the connection, for the types that were announced. `nonce`: this server's part,
    printable ASCII without a comma, unpredictable and new for each exchange.
    """

    def __init__(
        self, hash_name: str, *, nonce: str, plus: bool, plus_offered: bool, channel_bindings: Mapping[str, bytes]
    ) -> None:
        self._hash_name = hash_name
        self._nonce = nonce
        self._plus = plus
        self._plus_offered = plus_offered
        self._channel_bindings = channel_bindings
        self._binding_input = b""
        self._client_first_bare = ""
        self._server_first = ""
        self._record: ScramRecord | None = None

    def client_first(self, message: bytes) -> ClientFirst:
        """Reads the client's first message (RFC 5802 section 7). Raises ScramError."""
        text = _text(message)
        flag, comma, rest = text.partition(",")
        authzid_attribute, second_comma, bare = rest.partition(",")
        if not comma or not second_comma:
            raise ScramSyntaxError("other-error", "GS2 header expected")
        self._binding_input = f"{flag},{authzid_attribute},".encode() + self._binding_data(flag)
        authzid = None
        if authzid_attribute:
            authzid = _saslname(_attribute("a", authzid_attribute), "other-error", "authorization identity")
        self._client_first_bare = bare
        attributes = bare.split(",")
        if attributes[0].startswith("m="):
            raise ScramSyntaxError("extensions-not-supported", "mandatory extension")
        if len(attributes) < 2:
            raise ScramSyntaxError("other-error", "user name and nonce expected")
        username = _saslname(_attribute("n", attributes[0]), "invalid-username-encoding", "user name")
        client_nonce = _attribute("r", attributes[1])
        if not _NONCE(client_nonce):
            raise ScramSyntaxError("other-error", "malformed nonce")
        self._nonce = client_nonce + self._nonce
        _check_extensions(attributes[2:])
        return ClientFirst(username, authzid)

    def server_first(self, record: ScramRecord) -> bytes:
        """The challenge for the account with this `record`."""
        self._record = record
        self._server_first = f"r={self._nonce},s={_encode(record.salt).decode()},i={record.iterations}"
        return self._server_first.encode()

    def client_final(self, message: bytes) -> bytes:
        """Checks the client's proof; the answer is the server's own (`v=`). Raises ScramError."""
        record = self._record
        if record is None:
            raise RuntimeError("client_final before server_first")
        without_proof, found, proof_text = _text(message).rpartition(",p=")
        attributes = without_proof.split(",")
        if not found or len(attributes) < 2:
            raise ScramSyntaxError("other-error", "channel binding, nonce and proof expected")
        binding = _base64(_attribute("c", attributes[0]), "channel binding")
        nonce = _attribute("r", attributes[1])
        _check_extensions(attributes[2:])
        proof = _base64(proof_text, "proof")
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            raise ScramRefused("other-error", "wrong nonce")
        if not hmac.compare_digest(binding, self._binding_input):
            raise ScramRefused("channel-bindings-dont-match", "channel binding does not match")
        signed = f"{self._client_first_bare},{self._server_first},{without_proof}".encode()
        if not self._proves(record, proof, signed):
            raise ScramRefused("invalid-proof", "wrong user name or password")
        return b"v=" + _encode(hmac.digest(record.server_key, signed, self._hash_name))

    def _binding_data(self, flag: str) -> bytes:
        """The connection's part of the channel binding that the GS2 `flag` asks for (RFC 5802 section 6)."""
        if flag.startswith("p="):
            name = flag[2:]
            if not _CHANNEL_BINDING_NAME(name):
                raise ScramSyntaxError("other-error", "malformed channel binding type")
            if not self._plus:
                raise ScramSyntaxError("channel-binding-not-supported", "channel binding needs a -PLUS mechanism")
            if name not in self._channel_bindings:
                raise ScramSyntaxError("unsupported-channel-binding-type", "channel binding type was not offered")
            return self._channel_bindings[name]
        if flag not in ("n", "y"):
            raise ScramSyntaxError("other-error", "malformed GS2 header")
        if self._plus:
            raise ScramSyntaxError("other-error", "a -PLUS mechanism needs channel binding")
        if flag == "y" and self._plus_offered:
            # The client did not see the -PLUS mechanisms that we announced: somebody between us removed them.
            raise ScramRefused("server-does-support-channel-binding", "channel binding was offered")
        return b""

    def _proves(self, record: ScramRecord, proof: bytes, signed: bytes) -> bool:
        signature = hmac.digest(record.stored_key, signed, self._hash_name)
        if len(proof) != len(signature):
            return False
        client_key = (int.from_bytes(proof) ^ int.from_bytes(signature)).to_bytes(len(signature))
        return hmac.compare_digest(hashlib.new(self._hash_name, client_key).digest(), record.stored_key)


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise ScramSyntaxError("invalid-encoding", "not UTF-8") from error


def _attribute(name: str, attribute: str) -> str:
    if attribute[:2] != f"{name}=":
        raise ScramSyntaxError("other-error", f"attribute {name} expected")
    return attribute[2:]


def _saslname(value: str, error_value: str, what: str) -> str:
    if not _SASL_NAME(value):
        raise ScramSyntaxError(error_value, f"malformed {what}")
    return value.replace("=2C", ",").replace("=3D", "=")


def _check_extensions(attributes: list[str]) -> None:
    """Optional extensions are ignored, as RFC 5802 5.1 asks, but must be ones."""
    for attribute in attributes:
        extension = _EXTENSION(attribute)
        if extension is None:
            raise ScramSyntaxError("other-error", "malformed extension")
        if extension[1] == "m":
            raise ScramSyntaxError("extensions-not-supported", "mandatory extension")
        if extension[1] in _RESERVED:
            raise ScramSyntaxError("other-error", f"attribute {extension[1]} out of place")


def _base64(value: str, what: str) -> bytes:
    try:
        return _decode(value)
    except ValueError as error:
        raise ScramSyntaxError("invalid-encoding", f"{what}: broken base64") from error


def _encode(value: bytes) -> bytes:
    return binascii.b2a_base64(value, newline=False)


def _decode(value: str) -> bytes:
    """Base64 as RFC 4648 section 4 has it, without any leniency. Raises ValueError."""
    decoded = binascii.a2b_base64(value, strict_mode=True)
    if _encode(decoded).decode() != value:
        raise ValueError("not canonical base64")
    return decoded
