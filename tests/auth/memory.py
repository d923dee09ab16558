"""An auth method that keeps its accounts in a dict: small, quick, and honest about what it is asked."""

from collections.abc import Sequence
from typing import ClassVar

from dynxmpp.auth.base import PLAIN, AccountExists, Credentials, Localparts, NoSuchAccount, NotSupported
from dynxmpp.auth.scram import HASHES, MECHANISM_HASHES, ScramRecord, derive
from dynxmpp.core.interfaces import Stored
from dynxmpp.db.migrations import Migration

ITERATIONS = 4096
SALT = b"0123456789abcdef"


class MemoryAuth:
    """`calls` lists the names of the methods that were called, in order."""

    name: ClassVar[str] = "memory"
    migrations: ClassVar[tuple[Migration, ...]] = ()
    stored: ClassVar[tuple[Stored, ...]] = ()
    mechanisms = frozenset({PLAIN, *MECHANISM_HASHES})

    def __init__(self, **passwords: str) -> None:
        """Accounts of the domain `example.org`."""
        self.passwords = {("example.org", username): password for username, password in passwords.items()}
        self.calls: list[str] = []

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        self.calls.append("check_password")
        return self.passwords.get((domain, username)) == password

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        self.calls.append("scram_record")
        password = self.passwords.get((domain, username))
        if password is None or hash_name not in HASHES:
            return None
        return derive(password, hash_name, SALT, ITERATIONS)

    async def exists(self, domain: str, username: str) -> bool:
        self.calls.append("exists")
        return (domain, username) in self.passwords

    async def create(self, domain: str, username: str, password: str) -> None:
        self.calls.append("create")
        if (domain, username) in self.passwords:
            raise AccountExists(username)
        self.passwords[domain, username] = password

    async def set_password(self, domain: str, username: str, password: str) -> None:
        self.calls.append("set_password")
        if (domain, username) not in self.passwords:
            raise NoSuchAccount(username)
        self.passwords[domain, username] = password

    async def remove(self, domain: str, username: str) -> None:
        self.calls.append("remove")
        if self.passwords.pop((domain, username), None) is None:
            raise NoSuchAccount(username)

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts:
        self.calls.append("list")
        names = sorted(username for of_domain, username in self.passwords if of_domain == domain)
        return [name for name in names if after is None or name > after][:limit]

    async def count(self, domain: str) -> int:
        self.calls.append("count")
        return sum(of_domain == domain for of_domain, _ in self.passwords)

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        self.calls.append("credentials")
        found = sorted((user, text) for (of_domain, user), text in self.passwords.items() if of_domain == domain)
        return [Credentials(*entry) for entry in found if after is None or entry[0] > after][:limit]

    async def adopt(self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool) -> None:
        self.calls.append("adopt")
        raise NotSupported("passwords only")
