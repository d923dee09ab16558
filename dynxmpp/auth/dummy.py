"""The `dummy` method: everybody exists and every password is right. For load tests, never for people."""

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final, NoReturn

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dynxmpp.auth.base import PLAIN, Credentials, Localparts, NotSupported
from dynxmpp.auth.scram import ScramRecord
from dynxmpp.core.interfaces import Stored
from dynxmpp.db.migrations import Migration

__all__ = ["DummyAuth"]


class DummyAuth:
    """Says yes after `base_time_ms` plus up to `variance_ms` milliseconds, as if it had worked."""

    name: ClassVar[str] = "dummy"
    migrations: ClassVar[tuple[Migration, ...]] = ()
    stored: ClassVar[tuple[Stored, ...]] = ()
    mechanisms: Final = frozenset({PLAIN})

    def __init__(self, *, clock: IReactorTime, random: Random, base_time_ms: int = 50, variance_ms: int = 450) -> None:
        self._clock = clock
        self._random = random
        self._base_time_ms = base_time_ms
        self._variance_ms = variance_ms

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        delay_ms = self._base_time_ms + self._random.randint(0, self._variance_ms)
        await deferLater(self._clock, delay_ms / 1000)
        return True

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        return None

    async def exists(self, domain: str, username: str) -> bool:
        return True

    async def create(self, domain: str, username: str, password: str) -> None:
        self._refuse()

    async def set_password(self, domain: str, username: str, password: str) -> None:
        self._refuse()

    async def remove(self, domain: str, username: str) -> None:
        self._refuse()

    async def list(self, domain: str, after: str | None, limit: int) -> Localparts:
        self._refuse()

    async def count(self, domain: str) -> int:
        self._refuse()

    async def credentials(self, domain: str, after: str | None, limit: int) -> Sequence[Credentials]:
        self._refuse()

    async def adopt(self, domain: str, username: str, records: Sequence[ScramRecord], *, overwrite: bool) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotSupported("the dummy method keeps no accounts")
