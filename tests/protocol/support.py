"""What tests of protocols share: answers compared as XML, a book of subscriptions, rows counted by what is declared."""

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.jid import JID
from dynxmpp.module import Module, ModuleContext, Stanza, SubscriptionBook
from tests.fixtures.dialogue import Accounts, Host, TestSession, canonical, parse
from tests.fixtures.postgres import DatabaseTestCase

#: Values that end, open or fill in SQL where it is put together by hand.
HOSTILE = (
    "'; DROP TABLE users; --",
    "x' OR '1'='1",
    '"; --',
    "%s",
    "%(name)s",
    "%",
    "\\",
    "\\'; --",
    "$1",
    "{}",
    '{"a"}',
    "NULL",
    "\u2028\U0001f600",
)

#: Localparts that nodeprep lets pass.
HOSTILE_LOCALPARTS = ("%s", "--", "a;drop--", "\\", "$1", "{a}", "null", "(select)", "%(name)s")


def condition(stanza: domish.Element) -> str:
    """The defined condition of an error stanza."""
    assert stanza["type"] == "error", stanza.toXml()
    return str(next(c.name for c in stanza.error.elements() if c.name != "text"))


class Contacts(Module):
    """A book of subscriptions as a roster keeps it; `cold` accounts must be loaded before they can be asked."""

    name = "mod_contacts"

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.subscriptions: dict[tuple[str, str], str] = {}
        self.loaded: set[str] = set()
        self.host_type.provide(SubscriptionBook, self)

    async def load(self, account: JID) -> None:
        self.loaded.add(account.bare)

    def subscription(self, account: JID, contact: JID) -> str | None:
        if account.bare not in self.loaded:
            return None
        return self.subscriptions.get((account.bare, contact.bare), "none")

    def subscribers(self, account: JID) -> Sequence[JID] | None:
        return self._contacts(account, "from")

    def subscribed_to(self, account: JID) -> Sequence[JID] | None:
        return self._contacts(account, "to")

    def requests(self, account: JID) -> Sequence[Stanza] | None:
        return () if account.bare in self.loaded else None

    def _contacts(self, account: JID, direction: str) -> Sequence[JID] | None:
        if account.bare not in self.loaded:
            return None
        found = self.subscriptions.items()
        return [JID.parse(c) for (a, c), value in found if a == account.bare and value in (direction, "both")]


class Dialogues(TestCase):
    """Sessions on one host type, without a database."""

    modules: ClassVar[Sequence[Any]] = ()
    domains: ClassVar[Sequence[str]] = ("montague.example", "capulet.example")

    host: Host

    async def setUp(self) -> None:  # type: ignore[override]
        self.host = await Host(self.modules, domains=self.domains, accounts=Accounts()).start()
        self.addCleanup(self.host.settle)

    def module(self, name: str) -> Any:
        return self.host.host_types[0].modules[name]

    def subscribe(self, account: str, contact: str, subscription: str = "both") -> None:
        """What `account` has in its roster about `contact`."""
        self.module("mod_contacts").subscriptions[account, contact] = subscription

    async def check(self, session: TestSession, request: str, expected: str) -> None:
        """The answer to `request` is `expected`, prefixes and order of attributes aside."""
        reply = await session.asks(request)
        self.assertEqual(canonical(parse(expected).copy_tree()), canonical(reply), reply.toXml())

    async def refusal(self, session: TestSession, request: str) -> str:
        """The condition of the error that answers `request`."""
        return condition(await session.asks(request))


class StoredDialogues(DatabaseTestCase, Dialogues):
    """Sessions on one host type whose modules have their tables."""

    async def setUp(self) -> None:  # type: ignore[override]
        classes = [entry[0] if isinstance(entry, tuple) else entry for entry in self.modules]
        type(self).migrations = [step for module in classes for step in module.migrations]
        await DatabaseTestCase.setUp(self)
        self.host = Host(self.modules, database=self.db, domains=self.domains, accounts=Accounts())
        await self.host.start()
        self.addCleanup(self.host.settle)

    async def rows(self, module: type[Module], domain: str, user: str | None = None) -> int:
        """How many rows the tables that a module declares have of a domain, or of an account."""
        count = 0
        for stored in module.stored:
            sql, params = f"SELECT count(*) FROM {stored.table} WHERE {stored.domain} = %s", [domain]
            if user is not None and stored.user is not None:
                sql, params = f"{sql} AND {stored.user} = %s", [domain, user]
            count += (await self.db.query(sql, params))[0][0]
        return count

    async def check_removal(self, module: type[Module], domain: str, neighbour: str) -> None:
        """What is declared as stored is all that there is, and enough to remove a domain and nothing of another."""
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        present = {name for (name,) in await self.db.query(tables)} - {"schema_migrations"}
        self.assertEqual({stored.table for stored in module.stored}, present & set(_created(module)))
        kept = await self.rows(module, neighbour)
        self.assertTrue(kept)
        self.assertTrue(await self.rows(module, domain))
        for stored in module.stored:
            await self.db.execute(f"DELETE FROM {stored.table} WHERE {stored.domain} = %s", (domain,))
        await self.module(module.name).remove_domain(domain)
        self.assertEqual(0, await self.rows(module, domain))
        self.assertEqual(kept, await self.rows(module, neighbour))


def _created(module: type[Module]) -> list[str]:
    """The tables that a module's migrations create."""
    words = " ".join(step.sql for step in module.migrations).split()
    return [
        name
        for verb, what, name in zip(words, words[1:], words[2:], strict=False)
        if (verb, what) == ("CREATE", "TABLE")
    ]
