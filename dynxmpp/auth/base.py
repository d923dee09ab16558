"""What an auth method is, and what can go wrong with accounts.

A method keeps or knows the accounts of the domains of one host type. Domains and user names that reach it are prepared
(RFC 6122); passwords are as the client or the administrator typed them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from dynxmpp.auth.saslprep import SaslprepError, saslprep
from dynxmpp.auth.scram import ScramRecord
from dynxmpp.core.interfaces import Stored
from dynxmpp.db.migrations import Migration

__all__ = [
    "MAX_PASSWORD_BYTES",
    "PLAIN",
    "AccountError",
    "AccountExists",
    "AuthMethod",
    "Credentials",
    "InvalidPassword",
    "NoSuchAccount",
    "NotSupported",
    "TooManyAccounts",
    "prepare_given_password",
    "prepare_new_password",
]

PLAIN: Final = "PLAIN"
#: Longer passwords are refused when they are set: preparing them costs time that a stranger could make us spend.
MAX_PASSWORD_BYTES: Final = 1023

#: `list` names a method below, where the built-in is hidden.
Localparts = list[str]


class AccountError(Exception):
    """An account operation that was refused. Nothing was changed."""


class AccountExists(AccountError):
    """The user name is taken in its domain."""


class NoSuchAccount(AccountError):
    """There is no such user name in the domain."""


class TooManyAccounts(AccountError):
    """The domain has as many accounts as it may have (`auth.max_users_per_domain`)."""


class InvalidPassword(AccountError):
    """The new password is empty, too long, or refused by SASLprep. The message never quotes it."""


class NotSupported(AccountError):
    """This method cannot do that: its accounts are administered elsewhere."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is kept of an account for logging in: the prepared password, or SCRAM records; neither if it is broken."""

    username: str
    password: str | None
    records: tuple[ScramRecord, ...] = ()


class AuthMethod(Protocol):
    """One source of accounts. All awaitables may raise DatabaseUnavailable where a database is behind the method."""

    name: ClassVar[str]
    migrations: ClassVar[tuple[Migration, ...]]
    stored: ClassVar[tuple[Stored, ...]]

    @property
    def mechanisms(self) -> frozenset[str]:
        """SASL mechanisms that the method can serve, by their registered names; -PLUS follows from its base."""

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        """Whether the account exists and has this password."""

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        """The account's SCRAM record for that hash; None if there is no account, or none for that hash."""

    async def exists(self, domain: str, username: str) -> bool:
        """Whether there is such an account."""

    async def create(self, domain: str, username: str, password: str) -> None:
        """Raises AccountExists, TooManyAccounts, InvalidPassword, NotSupported."""

    async def set_password(self, domain: str, username: str, password: str) -> None:
        """Raises NoSuchAccount, InvalidPassword, NotSupported."""

    async def remove(self, domain: str, username: str) -> None:
        """Removes the account itself; what modules keep of it is theirs. Raises NoSuchAccount, NotSupported."""

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts:
        """Up to `limit` user names in code point order, those after `after` if given. Raises NotSupported."""

    async def count(self, domain: str) -> int:
        """Number of accounts of the domain. Raises NotSupported."""

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        """Of the accounts that `list` would name, in its order: for taking them elsewhere. Raises NotSupported."""

    async def adopt(self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool) -> None:
        """A new account with records from elsewhere, of one iteration count; with `overwrite` for one that is there.

        Raises AccountExists, NoSuchAccount, TooManyAccounts, NotSupported, InvalidScramRecord.
        """


def prepare_new_password(password: str) -> str:
    """`password` as it is kept or hashed (RFC 6120 6.3.8 asks for SASLprep). Raises InvalidPassword."""
    if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise InvalidPassword(f"longer than {MAX_PASSWORD_BYTES} bytes")
    try:
        prepared = saslprep(password, stored=True)
    except SaslprepError as error:
        raise InvalidPassword(str(error)) from error
    if not prepared:
        raise InvalidPassword("empty")
    return prepared


def prepare_given_password(password: str) -> str | None:
    """`password` ready to be compared; None for one that no account can have."""
    if len(password) > MAX_PASSWORD_BYTES:
        return None
    try:
        return saslprep(password, stored=False) or None
    except SaslprepError:
        return None
