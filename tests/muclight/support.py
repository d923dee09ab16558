"""Services with rooms and their users, as clients meet them."""

from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.words.xish import domish

from dynxmpp.core.interfaces import Announcements
from dynxmpp.module import JID, Migration
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_CREATE
from tests.fixtures.dialogue import Accounts, Host, TestSession, canonical, parse
from tests.fixtures.postgres import DatabaseTestCase

DOMAIN = "example.org"
SERVICE = f"muclight.{DOMAIN}"
LOBBY = f"lobby@{SERVICE}"
ANN, BEN, CAT, DAN = (f"{name}@{DOMAIN}" for name in ("ann", "ben", "cat", "dan"))

#: What an archive of rooms needs in the configuration.
ARCHIVE = MamConfig(muc=MucArchive(host="muclight.@HOST@"))

#: Old numbers of errors, which are sent as well (XEP-0086).
_CODES = {"bad-request": 400, "item-not-found": 404, "not-allowed": 405, "conflict": 409}


class RoomTestCase(DatabaseTestCase):
    """One domain with a service; ann, ben, cat and dan are online. `self.ann` and so on are their sessions."""

    migrations: ClassVar[tuple[Migration, ...]] = (*Mam.migrations, *MucLight.migrations)
    maxDiff = None
    config: ClassVar[MucLightConfig] = MucLightConfig()
    archive: ClassVar[MamConfig | None] = None
    #: Modules besides, as Host takes them.
    modules: ClassVar[tuple[Any, ...]] = ()
    domains: ClassVar[tuple[str, ...]] = (DOMAIN, "other.example")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host = await self.start_host(self.config)
        self.rooms: MucLight = self.host.host_types[0].modules["mod_muc_light"]  # type: ignore[assignment]
        self.ann, self.ben, self.cat, self.dan = (self.online(f"{user}/p") for user in (ANN, BEN, CAT, DAN))

    async def start_host(self, config: MucLightConfig, announcements: Announcements | None = None) -> Host:
        """A node; a further one on the same database when it is called again. By itself it hears of no others."""
        archive = () if self.archive is None else ((Mam, self.archive),)
        host = Host(
            [*self.modules, *archive, (MucLight, config)],
            database=self.db,
            domains=self.domains,
            accounts=Accounts(),
            clock=reactor,  # type: ignore[arg-type]
            announcements=announcements,
        )
        self.add_host_types(host)
        await host.start()
        self.addCleanup(host.settle)
        for host_type in host.host_types:
            for module in host_type:
                self.addCleanup(module.stop)
        return host

    def add_host_types(self, host: Host) -> None:
        """Called before the start, for those who need more than one."""

    def online(self, jid: str, priority: int = 0) -> TestSession:
        """A session that takes messages."""
        session = self.host.session(jid)
        session.available, session.priority = True, priority
        return session

    async def settle(self) -> None:
        """Until all that was sent has been dealt with."""
        await self.host.settle()

    # -- requests, each with its answer

    async def set(
        self, session: TestSession, to: str, namespace: str, content: str = "", id_: str = "s"
    ) -> domish.Element:
        """The answer to a request; what comes before it stays in `session.received`."""
        return await session.asks(
            f"<iq type='set' id='{id_}' to='{to}'><query xmlns='{namespace}'>{content}</query></iq>"
        )

    async def get(
        self, session: TestSession, to: str, namespace: str, content: str = "", id_: str = "g"
    ) -> domish.Element:
        return await session.asks(
            f"<iq type='get' id='{id_}' to='{to}'><query xmlns='{namespace}'>{content}</query></iq>"
        )

    async def create(
        self, creator: TestSession, *members: str, room: str = LOBBY, config: str = "", id_: str = "c"
    ) -> domish.Element:
        """Asks for a room with these members (bare addresses)."""
        occupants = "".join(f"<user affiliation='member'>{member}</user>" for member in members)
        content = f"<configuration>{config}</configuration><occupants>{occupants}</occupants>"
        return await self.set(creator, room, NS_CREATE, content, id_)

    async def room(self, *members: str, room: str = LOBBY, config: str = "") -> None:
        """A room of ann's with these members; the notices of its creation have been taken."""
        reply = await self.create(self.ann, *(members or (BEN, CAT)), room=room, config=config)
        assert reply["type"] == "result", reply.toXml()
        await self.settle()
        self.forget()

    async def affiliate(self, session: TestSession, *changes: tuple[str, str], room: str = LOBBY) -> domish.Element:
        """Asks for changes, (bare address, affiliation) pairs."""
        users = "".join(f"<user affiliation='{affiliation}'>{user}</user>" for user, affiliation in changes)
        return await self.set(session, room, NS_AFFILIATIONS, users, "a")

    async def configure(self, session: TestSession, fields: str, room: str = LOBBY) -> domish.Element:
        return await self.set(session, room, NS_CONFIGURATION, fields, "f")

    # -- what comes of a request, in full

    async def hear(
        self, session: TestSession, namespace: str, content: str = "", *, to: str = LOBBY, id_: str = "h"
    ) -> dict[str, list[Any]]:
        """Who gets what because of a request of the type set, in order; who gets nothing is not there."""
        self.forget()
        session.sends(f"<iq type='set' id='{id_}' to='{to}'><query xmlns='{namespace}'>{content}</query></iq>")
        await self.settle()
        return self.heard()

    def heard(self) -> dict[str, list[Any]]:
        """All that has come since it was last asked, as `seen` has it: by bare address, of other sessions by full."""
        found: dict[str, list[Any]] = {}
        for session in self.host.sessions:
            stanzas = [canonical(element) for element in session.received]  # type: ignore[attr-defined]
            if stanzas:
                found[session.jid.full.removesuffix("/p")] = stanzas
        self.forget()
        return found

    def forget(self) -> None:
        """What all sessions have been sent so far is of no interest."""
        for session in self.host.sessions:
            session.received.clear()  # type: ignore[attr-defined]

    # -- what there is

    async def members(self, room: str = LOBBY) -> dict[str, str]:
        """Affiliations by address, out of the database; empty for a room that there is not."""
        stored = await self.rooms.rooms.store.load(DOMAIN, JID.parse(room))
        return {} if stored is None else {jid.full: affiliation.text for jid, affiliation in stored.members.items()}

    async def version(self, room: str = LOBBY) -> str:
        stored = await self.rooms.rooms.store.load(DOMAIN, JID.parse(room))
        assert stored is not None
        return stored.version


def seen(xml: str) -> Any:
    """What stanzas must have in common to be this one."""
    return canonical(parse(xml).copy_tree())


def notice(to: str, content: str, *, id_: str = "h", room: str = LOBBY) -> Any:
    """A message of a room, with what is before its body."""
    return seen(f"<message type='groupchat' id='{id_}' from='{room}' to='{to}'>{content}<body/></message>")


def result(to: str, *, id_: str = "h", sender: str = LOBBY) -> Any:
    """An empty result for the session of an account."""
    return seen(f"<iq type='result' id='{id_}' from='{sender}' to='{to}/p'/>")


def error(
    to: str, condition: str, text: str | None = None, *, type_: str = "cancel", id_: str = "h", sender: str = LOBBY
) -> Any:
    """An error for the session of an account, with nothing else in it."""
    ns = "urn:ietf:params:xml:ns:xmpp-stanzas"
    words = "" if text is None else f"<text xmlns='{ns}'>{text}</text>"
    inner = f"<error type='{type_}' code='{_CODES[condition]}'><{condition} xmlns='{ns}'/>{words}</error>"
    return seen(f"<iq type='error' id='{id_}' from='{sender}' to='{to}/p'>{inner}</iq>")


def refusal(reply: domish.Element) -> tuple[str, str, str | None]:
    """Type, condition and text of an error; it has nothing but the error in it."""
    assert reply["type"] == "error", reply.toXml()
    (error,) = reply.elements()
    text: str | None = None
    condition = ""
    for child in error.elements():
        if child.name == "text":
            text = str(child)
        else:
            condition = child.name
    return error["type"], condition, text
