"""What is needed of modules and accounts: contracts, no code."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from twisted.words.xish import domish

from dynxmpp.auth.base import Credentials
from dynxmpp.auth.scram import ScramRecord
from dynxmpp.core.interfaces import AccountAdmin
from dynxmpp.jid import JID
from dynxmpp.protocol.pie import Imported

__all__ = ["Portable", "PortableAccounts"]


class Portable(Protocol):
    """A module, as far as it takes part."""

    imported: tuple[Imported, ...]

    def exported(self, account: JID) -> AsyncIterator[bytes]: ...

    async def import_element(self, account: JID, element: domish.Element) -> bool: ...


class PortableAccounts(AccountAdmin, Protocol):
    """What is needed of auth.accounts.Accounts."""

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        """Of up to `limit` accounts in the order of their names, after `after` if given. Raises NotSupported."""

    async def adopt(
        self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool = False
    ) -> None:
        """An account with records from elsewhere; with `overwrite` one that is there gets them.

        Raises AccountExists, NoSuchAccount, TooManyAccounts, NotSupported, InvalidScramRecord.
        """
