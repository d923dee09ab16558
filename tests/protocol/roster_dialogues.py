"""What the tests of rosters, subscriptions and presence share: two host types, a domain each, on one database."""

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.db.migrations import Migration
from dynxmpp.jid import JID
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.roster import Roster, RosterConfig
from dynxmpp.protocol.subscription import State
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.dialogue import Accounts, Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase

ROMEO = "romeo@montague.example"
JULIET = "juliet@capulet.example"


class Tap:
    """Stands before a database: counts statements, holds them back, or loses the connection."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.statements: list[str] = []
        #: None, "before" (nothing was done) or "after" (it was committed, and nobody was told).
        self.away: str | None = None
        self.held: list[Deferred[None]] | None = None

    async def query(self, sql: str, params: Sequence[object] = ()) -> Any:
        self.statements.append(sql)
        if self.held is not None:
            gate: Deferred[None] = Deferred()
            self.held.append(gate)
            await gate
        if self.away == "before":
            raise Unavailable("away")
        rows = await self._database.query(sql, params)
        if self.away == "after":
            raise Unavailable("away")
        return rows

    def call_soon(self, function: Any) -> None:
        function()

    async def transaction(self, work: Any) -> Any:
        return await self._database.transaction(work)

    def hold(self) -> None:
        self.held = []

    def let_go(self) -> None:
        held, self.held = self.held or [], None
        for gate in held:
            gate.callback(None)

    def writes(self) -> int:
        return sum("WITH next" in sql for sql in self.statements)


def item_of(push: domish.Element) -> tuple[Any, ...]:
    """(jid, subscription, ask) of the one item in a push."""
    assert push.name == "iq" and push["type"] == "set", push.toXml()
    (item,) = push.query.elements()
    return item["jid"], item["subscription"], item.getAttribute("ask")


def shown(stanza: domish.Element) -> tuple[Any, ...]:
    """A stanza in short: a push as (jid, subscription, ask), presence as (type or None, from, to)."""
    if stanza.name == "iq":
        return item_of(stanza)
    assert stanza.name == "presence", stanza.toXml()
    return stanza.getAttribute("type"), stanza["from"], stanza.getAttribute("to")


class RosterDialogues(DatabaseTestCase):
    """Romeo is at home on one host type, Juliet on another."""

    migrations: ClassVar[Sequence[Migration]] = Roster.migrations
    config: ClassVar[RosterConfig] = RosterConfig()
    modules: ClassVar[Sequence[Any]] = ()

    host: Host
    tap: Tap

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host = await self.new_host()

    async def new_host(self) -> Host:
        """One more server on the same database; the last one made is `self.tap`'s."""
        self.tap = Tap(self.db)
        modules = [(Roster, self.config), Presence, *self.modules]
        host = Host(modules, database=self.tap, domains=["montague.example"], accounts=Accounts([ROMEO, JULIET]))
        host.add_host_type("advanced", modules, ["capulet.example"])
        await host.start()
        self.addCleanup(host.settle)
        return host

    def roster_module(self, domain: str = "montague.example", host: Host | None = None) -> Any:
        return (host or self.host).type_of(domain).modules["mod_roster"]

    async def online(self, jid: str, *, host: Host | None = None, priority: int = 0) -> TestSession:
        """A session that has got its roster and has sent presence; what it is told at that is dropped."""
        session = (host or self.host).session(jid)
        await session.asks("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        session.sends(f"<presence><priority>{priority}</priority></presence>")
        await session.host.settle()
        session.received.clear()
        return session

    async def told(self, session: TestSession) -> list[tuple[Any, ...]]:
        """In short, all that a session has been told meanwhile."""
        await session.host.settle()
        stanzas = [shown(stanza) for stanza in session.received]
        session.received.clear()
        return stanzas

    async def forget(self, *sessions: TestSession) -> None:
        for session in sessions:
            await self.told(session)

    async def items(self, session: TestSession) -> dict[str, tuple[str, str | None]]:
        """The roster as a client sees it: jid -> (subscription, ask)."""
        reply = await session.asks("<iq type='get' id='items'><query xmlns='jabber:iq:roster'/></iq>")
        return {item["jid"]: (item["subscription"], item.getAttribute("ask")) for item in reply.query.elements()}

    async def become_friends(self, romeo: TestSession, juliet: TestSession) -> None:
        """Both get the presence of each other."""
        await self.subscribe(romeo, juliet)
        await self.subscribe(juliet, romeo)
        await self.forget(*self.sessions())

    async def subscribe(self, user: TestSession, contact: TestSession) -> None:
        user.sends(f"<presence type='subscribe' to='{contact.jid.bare}'/>")
        await self.host.settle()
        contact.sends(f"<presence type='subscribed' to='{user.jid.bare}'/>")
        await self.forget(user, contact)

    def sessions(self) -> list[TestSession]:
        return list(self.host.sessions)  # type: ignore[arg-type]

    async def stored(self, account: str, contact: str) -> State | None:
        """What the database has of a contact."""
        jid = JID.parse(account)
        rows = await self.db.query(
            "SELECT subscription, ask, request IS NOT NULL FROM rosters"
            " WHERE server = %s AND username = %s AND contact = %s",
            (jid.domain, jid.local, contact),
        )
        return State.of(rows[0][0], ask=rows[0][1], pending_in=rows[0][2]) if rows else None

    async def store(self, account: str, contact: str, state: State) -> None:
        """Puts a contact into the database, as if it had come to that state."""
        jid = JID.parse(account)
        key = (jid.domain, jid.local)
        request = f"<presence type='subscribe' from='{contact}' to='{account}'/>".encode()
        await self.db.execute("INSERT INTO roster_versions VALUES (%s, %s, 1, 0) ON CONFLICT DO NOTHING", key)
        await self.db.execute(
            "INSERT INTO rosters VALUES (%s, %s, %s, '', '{}', %s, %s, %s, %s, 1)",
            (
                *key,
                contact,
                state.subscription,
                state.ask,
                state.visible,
                request if state.value.pending_in else None,
            ),
        )
