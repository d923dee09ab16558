"""Isolated domains with everything in them that stanzas pass, and what is stored below each domain."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

from twisted.internet import reactor
from twisted.words.xish import domish

from dynxmpp.module import Module, RoutingContext, Stanza
from dynxmpp.module_loader import discover, stop_modules
from dynxmpp.modules.isolation import TEXT, DomainIsolation
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from tests.fixtures.dialogue import Accounts, Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.support import condition

MONTAGUE, CAPULET = "montague.example", "capulet.example"
ROMEO, MERCUTIO = f"romeo@{MONTAGUE}", f"mercutio@{MONTAGUE}"
JULIET, TYBALT = f"juliet@{CAPULET}", f"tybalt@{CAPULET}"

#: Contacts of each other.
BENVOLIO, ROSALINE = f"benvolio@{MONTAGUE}", f"rosaline@{CAPULET}"

#: A service under a name that is below no domain.
FIXED = "plaza.example"

#: A room below each domain.
LOBBY, HALL = f"lobby@muclight.{MONTAGUE}", f"hall@muclight.{CAPULET}"
MUC = "urn:xmpp:muclight:0"

#: By name: is it isolated, and its domains.
Layout = Mapping[str, tuple[bool, tuple[str, ...]]]

ARCHIVES = MamConfig(pm=PmArchive(), muc=MucArchive(host="muclight.@HOST@"))


class Plaza(Module):
    """A service under a fixed name that keeps what it is sent."""

    name = "mod_plaza"
    subdomain = FIXED

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.got: list[Stanza] = []

    def receive(self, stanza: Stanza, context: RoutingContext) -> None:
        self.got.append(stanza)


def _modules() -> dict[str, type[Module]]:
    """All that there is but in-band registration, which needs accounts that can be made."""
    return {name: cls for name, cls in discover().items() if name not in ("mod_register", DomainIsolation.name)}


class WallTestCase(DatabaseTestCase):
    """Host types with all modules, and mod_domain_isolation in some."""

    migrations = tuple(step for cls in _modules().values() for step in cls.migrations)
    layout: ClassVar[Layout] = {}

    host: Host

    async def start_host(self, accounts: Iterable[str] = ()) -> Host:
        """As `new_host`, stopped at the end of the test."""
        host = await self.new_host(accounts)
        self.addCleanup(stop_modules, host.host_types)
        self.addCleanup(host.settle)
        return host

    async def new_host(self, accounts: Iterable[str] = ()) -> Host:
        """Host types as `layout` has them, with these accounts from the start; CAPULET's serves the fixed name."""
        host = Host(database=self.db, domains=(), accounts=Accounts(accounts), clock=cast(Any, reactor))
        for name, (is_isolated, domains) in self.layout.items():
            modules: list[Any] = [(cls, ARCHIVES) if cls is Mam else cls for cls in _modules().values()]
            if is_isolated:
                modules.append(DomainIsolation)
            if CAPULET in domains:
                modules.append(Plaza)
            host.add_host_type(name, modules, domains)
        return await host.start()

    def online(self, jid: str) -> TestSession:
        """A session that is available, asks for its roster and for copies, and has been told what there is."""
        session = self.host.session(jid)
        session.sends("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        session.sends("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        session.sends("<presence/>")
        return session

    async def written(self) -> None:
        """Until all that was sent has been dealt with, and is in the database."""
        await self.host.settle()
        for host_type in self.host.host_types:
            for module in host_type:
                writer = getattr(module, "_writer", None) or getattr(module, "store", None)
                if writer is not None:
                    await writer.flush()
        await self.host.settle()

    # -- what was sent

    def forget(self) -> None:
        """What all sessions have been sent so far is of no interest."""
        for session in self.sessions():
            session.received.clear()

    def sessions(self) -> list[TestSession]:
        return cast(list[TestSession], list(self.host.sessions))

    async def heard(self) -> dict[str, list[domish.Element]]:
        """All that has come since it was last asked, by full address; who got nothing is not there."""
        await self.host.settle()
        found = {session.jid.full: list(session.received) for session in self.sessions() if session.received}
        self.forget()
        return found

    async def hears(self, session: TestSession, xml: str) -> dict[str, list[domish.Element]]:
        """Who gets what because of a stanza."""
        self.forget()
        session.sends(xml)
        return await self.heard()

    async def assert_refused(self, session: TestSession, xml: str, sender: str) -> domish.Element:
        """The error of the wall comes back from `sender`, and nobody else gets anything; gives the error."""
        heard = await self.hears(session, xml)
        self.assertEqual([session.jid.full], list(heard), xml)
        (error,) = heard[session.jid.full]
        self.assertEqual((sender, TEXT), (error["from"], wall_text(error)), error.toXml())
        return error

    # -- what is stored

    async def rows(self, domain: str, *tables: str) -> list[tuple[str, dict[str, str]]]:
        """All rows below a domain, each with its table and its columns as texts; of these tables only, if given."""
        columns: dict[str, list[str]] = {}
        for table, column in await self.db.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ):
            columns.setdefault(table, []).append(column)
        archives = dict(await self.db.query("SELECT id::text, server FROM mam_archive"))
        rooms = dict(await self.db.query("SELECT id::text, server FROM muc_light_rooms"))
        found = []
        for table in tables or columns:
            texts = ", ".join(f"{name}::text" for name in columns[table])
            for values in await self.db.query(f"SELECT {texts} FROM {table}"):
                row = dict(zip(columns[table], map(_readable, values), strict=True))
                owners = {archives.get(row.get("archive")), rooms.get(row.get("room")), row.get("server")}
                if domain in owners:
                    found.append((table, row))
        return found

    async def stored(self, domain: str, text: str, *tables: str) -> list[str]:
        """The tables with rows below a domain that have `text` in them."""
        rows = await self.rows(domain, *tables)
        return sorted({table for table, row in rows if any(text in value for value in row.values())})

    async def befriend(self, account: str, contact: str) -> None:
        """Both have each other in their rosters, as if there had been no wall between them. Before their sessions."""
        for one, other in ((account, contact), (contact, account)):
            username, _, server = one.partition("@")
            await self.db.execute(
                "INSERT INTO roster_versions VALUES (%s, %s, 1, 0) ON CONFLICT DO NOTHING", (server, username)
            )
            await self.db.execute(
                "INSERT INTO rosters VALUES (%s, %s, %s, '', '{}', 'both', false, true, NULL, 1)",
                (server, username, other),
            )


class Verona(WallTestCase):
    """Romeo and Juliet are online with two clients each, Mercutio of Romeo's domain with one, Tybalt of Juliet's away.

    Benvolio and Rosaline, of these domains as well and away, have each other's presence from before there were walls.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.befriend(BENVOLIO, ROSALINE)
        self.host = await self.start_host([TYBALT, BENVOLIO, ROSALINE])
        self.romeo, self.phone = self.online(f"{ROMEO}/orchard"), self.online(f"{ROMEO}/phone")
        self.juliet, self.tablet = self.online(f"{JULIET}/balcony"), self.online(f"{JULIET}/tablet")
        self.mercutio = self.online(f"{MERCUTIO}/street")
        await self.host.settle()
        self.forget()

    @property
    def plaza(self) -> Plaza:
        """The service under the fixed name."""
        return cast(Plaza, self.host.type_of(CAPULET).modules[Plaza.name])

    def keeps(self, session: TestSession) -> list[Stanza]:
        """What a session is sent from now on, which its client does not get."""
        taken: list[Stanza] = []

        def gate(stanza: Stanza, data: bytes) -> bool:
            taken.append(stanza)
            return True

        session.gate = gate
        return taken

    async def create(self, owner: TestSession, room: str, *members: str) -> None:
        """A room, of which nobody has heard anything afterwards."""
        users = "".join(f"<user affiliation='member'>{member}</user>" for member in members)
        reply = await owner.asks(
            f"<iq type='set' id='create' to='{room}'>"
            f"<query xmlns='{MUC}#create'><occupants>{users}</occupants></query></iq>"
        )
        assert reply["type"] == "result", reply.toXml()
        await self.heard()

    async def was_member(self, room: str, user: str) -> None:
        """Somebody who was in the room before there was a wall."""
        (name, _, service), (username, _, domain) = room.partition("@"), user.partition("@")
        await self.db.execute(
            "INSERT INTO muc_light_occupants (room, server, username, affiliation)"
            " SELECT id, %s, %s, 2 FROM muc_light_rooms WHERE service = %s AND name = %s",
            (domain, username, service, name),
        )
        for host_type in self.host.host_types:
            rooms: Any = host_type.modules.get("mod_muc_light")
            if rooms is not None:
                rooms.rooms.forget_all()

    async def contacts(self, account: str) -> dict[str, tuple[str, str]]:
        """A roster in the database: subscription and ask by contact, with requests of others."""
        name, _, domain = account.partition("@")
        rows = [row for _, row in await self.rows(domain, "rosters") if row["username"] == name]
        return {row["contact"]: (row["subscription"], row["ask"]) for row in rows}

    async def nothing_in_rosters(self, *accounts: str) -> None:
        """Neither contacts, nor requests, nor a version: nothing was ever written."""
        for account in accounts or (ROMEO, JULIET, TYBALT):
            name, _, domain = account.partition("@")
            rows = await self.rows(domain, "rosters", "roster_versions")
            self.assertEqual([], [row for _, row in rows if row["username"] == name])


def wall_text(error: domish.Element) -> str:
    """The text of an error, which must have the attributes and the condition of the wall's."""
    assert (error.error["type"], error.error["code"]) == ("cancel", "503"), error.toXml()
    assert condition(error) == "service-unavailable", error.toXml()
    return str(error.error.text or "")


def _readable(value: str | None) -> str:
    """The text of a column; of a bytea what it holds."""
    if value is None or not value.startswith("\\x"):
        return value or ""
    return bytes.fromhex(value[2:]).decode(errors="replace")
