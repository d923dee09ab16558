"""Documents of a host type with all modules, without HTTP."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from dynxmpp.module import Module
from dynxmpp.portability.exporting import document_of
from dynxmpp.portability.importing import Importer, Options
from dynxmpp.portability.reader import Child, DocumentReader, Event, User
from dynxmpp.portability.report import Report
from tests.fixtures.dialogue import canonical
from tests.test_every_module import Removal

SCRAM = (
    "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count>"
    "<salt>QSXCR+Q6sek8bf92</salt><server-key>D+CSWLOshSulAsxiupA+qs2/fTE=</server-key>"
    "<stored-key>6dlGYMOdZcOPutkcNY8U2g7vK9Y=</stored-key></scram-credentials>"
)
"""RFC 7677 and RFC 5802 section 5: the password is `pencil`."""


def document(*users: str, host: str = "verona.example") -> bytes:
    """A document with one host."""
    inner = "".join(users)
    return f"<server-data xmlns='urn:xmpp:pie:0'><host jid='{host}'>{inner}</host></server-data>".encode()


def user(name: str, *children: str, credentials: str = SCRAM) -> str:
    return f"<user name='{name}'>{credentials}{''.join(children)}</user>"


async def pieces(data: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    """`data` as it comes from a network."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def events(data: bytes, host: str, *, in_parts: Iterable[str] = (), size: int = 65_536) -> list[Event]:
    """What a reader makes of a document."""
    reader = DocumentReader(wants_host=host.__eq__, comes_in_parts=set(in_parts).__contains__)
    found: list[Event] = []
    for start in range(0, len(data), size):
        found.extend(reader.feed(data[start : start + size]))
    found.extend(reader.close())
    return found


def accounts_in(data: bytes, host: str) -> dict[str, list[Any]]:
    """The children of each <user/>, in a form that can be compared; white space does not count."""
    found: dict[str, list[Any]] = {}
    current: list[Any] = []
    for event in events(data, host):
        if isinstance(event, User):
            current = found[event.name] = [event.password]
        elif isinstance(event, Child):
            current.append(canonical(event.element, ""))
    return found


class PortabilityCase(Removal):
    """`first` and `second` of montague.example and capulet.example have something of everything; verona.example and
    mantua.example have nobody."""

    test_everybody_has_something_in_every_table: Any = None
    test_nothing_is_left_of_a_domain: Any = None
    test_a_domain_of_the_same_name_begins_empty: Any = None
    test_nothing_is_left_of_an_account: Any = None
    test_the_remover_alone_leaves_the_account_to_its_method: Any = None

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for domain in ("verona.example", "mantua.example"):
            await self.store.insert(domain, "basic")
            self.host.domains.insert(domain, "basic")

    @property
    def modules(self) -> list[Module]:
        return [module for module in self.host_type if isinstance(module, Module)]

    @property
    def accounts(self) -> Any:
        return cast(Any, self.host.accounts)

    async def export(self, domain: str) -> bytes:
        return b"".join([piece async for piece in document_of(domain, self.accounts, self.modules)])

    def importer(self, domain: str, host: str | None = None, **options: bool) -> Importer:
        async def begin() -> None:
            self.begun = True

        self.begun = False
        return Importer(
            domain,
            self.accounts,
            self.modules,
            Options(host or domain, **options),
            begin=begin,
            is_served=lambda: domain in self.host.domains,
            remove_account=self.remover.remove_account,
        )

    async def take(
        self,
        data: bytes,
        domain: str = "verona.example",
        host: str | None = None,
        *,
        overwrite: bool = False,
        dry_run: bool = False,
    ) -> Report:
        importer = self.importer(domain, host, overwrite=overwrite, dry_run=dry_run)
        report = await importer.run(pieces(data))
        await self.written()
        return report

    async def query(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        return await self.db.query(sql, params)

    async def usernames(self, domain: str = "verona.example") -> list[str]:
        names: list[str] = await self.accounts.list(domain, None, 100)
        return names
