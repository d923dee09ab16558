"""Services with rooms and their users, as clients meet them."""

from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.words.xish import domish

from dynxmpp.module import JID
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_CREATE
from tests.fixtures.dialogue import Accounts, Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase

DOMAIN = "example.org"
SERVICE = f"muclight.{DOMAIN}"
LOBBY = f"lobby@{SERVICE}"
ANN, BEN, CAT, DAN = (f"{name}@{DOMAIN}" for name in ("ann", "ben", "cat", "dan"))

#: What an archive of rooms needs in the configuration.
ARCHIVE = MamConfig(muc=MucArchive(host="muclight.@HOST@"))


class RoomTestCase(DatabaseTestCase):
    """One domain with a service; ann, ben, cat and dan are online. `self.ann` and so on are their sessions."""

    migrations = (*Mam.migrations, *MucLight.migrations)
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

    async def start_host(self, config: MucLightConfig) -> Host:
        """A node; a further one on the same database when it is called again."""
        archive = () if self.archive is None else ((Mam, self.archive),)
        host = Host(
            [*self.modules, *archive, (MucLight, config)],
            database=self.db,
            domains=self.domains,
            accounts=Accounts(),
            clock=reactor,  # type: ignore[arg-type]
        )
        await host.start()
        self.addCleanup(host.settle)
        for module in host.host_types[0]:
            self.addCleanup(module.stop)
        return host

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
