"""<scram-credentials/>: what a server keeps of a password, as an element and back."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from twisted.words.xish import domish

from dynxmpp.auth.scram import HASHES, MECHANISM_HASHES, InvalidScramRecord, ScramRecord, checked_record
from dynxmpp.protocol.pie import NS_PIE_SCRAM
from dynxmpp.wire.stanza import qualified

__all__ = ["SCRAM_KEY", "mechanism_of", "printed_record", "read_record", "usable"]

SCRAM_KEY: Final = qualified(NS_PIE_SCRAM, "scram-credentials")
#: Each login by PLAIN costs so many iterations, 0.3 us each.
MAX_ITERATIONS: Final = 1_000_000

_MECHANISMS: Final = {hash_name: mechanism for mechanism, hash_name in MECHANISM_HASHES.items()}
_count = re.compile("[1-9][0-9]{0,8}").fullmatch


def mechanism_of(record: ScramRecord) -> str:
    """The name of the mechanism that a record is for."""
    return _MECHANISMS[record.hash_name]


def printed_record(record: ScramRecord) -> str:
    """The element, which declares its own namespace."""
    texts = (base64.b64encode(value).decode() for value in (record.salt, record.server_key, record.stored_key))
    salt, server_key, stored_key = texts
    return (
        f"<scram-credentials xmlns='{NS_PIE_SCRAM}' mechanism='{mechanism_of(record)}'>"
        f"<iter-count>{record.iterations}</iter-count><salt>{salt}</salt>"
        f"<server-key>{server_key}</server-key><stored-key>{stored_key}</stored-key></scram-credentials>"
    )


def read_record(element: domish.Element) -> ScramRecord:
    """The record that an element spells. Raises InvalidScramRecord, without its values."""
    hash_name = MECHANISM_HASHES.get(element.getAttribute("mechanism", ""))
    if hash_name is None:
        raise InvalidScramRecord("a mechanism that is not served here")
    iterations = _text(element, "iter-count")
    if not _count(iterations) or int(iterations) > MAX_ITERATIONS:
        raise InvalidScramRecord(f"iter-count is not from 1 to {MAX_ITERATIONS}")
    salt, stored_key, server_key = (_bytes(element, name) for name in ("salt", "stored-key", "server-key"))
    return checked_record(ScramRecord(hash_name, salt, int(iterations), stored_key, server_key))


def usable(records: Sequence[ScramRecord]) -> tuple[list[ScramRecord], list[ScramRecord]]:
    """Those that can be kept together, and the rest: an account has one iteration count, that of its best hash."""
    best = max(records, key=lambda record: HASHES.index(record.hash_name), default=None)
    kept = {record.hash_name: record for record in records if best and record.iterations == best.iterations}
    return list(kept.values()), [record for record in records if record is not kept.get(record.hash_name)]


def _bytes(element: domish.Element, name: str) -> bytes:
    try:
        return base64.b64decode("".join(_text(element, name).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidScramRecord(f"{name} is not base64") from error


def _text(element: domish.Element, name: str) -> str:
    found = [child for child in element.elements() if child.name == name and child.uri == NS_PIE_SCRAM]
    if len(found) != 1:
        raise InvalidScramRecord(f"not one {name}")
    return str(found[0]).strip()
