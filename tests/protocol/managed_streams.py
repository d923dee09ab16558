"""Streams with stream management (XEP-0198), and a module that stands for an archive: ann and bob are logged in."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.c2s.session import C2SSession
from dynxmpp.commit import CommitTicket
from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Stanza, Stop, Verdict, Wait
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.stream_management import NS_SM, StreamManagement, StreamManagementConfig
from tests.fixtures.c2s import C2SServer, Client

PHONE = "ann@a.example/phone"
BOB = "bob@b.example/x"


def first(element: domish.Element) -> str:
    """The condition: the name of the first child."""
    child = element.firstChildElement()
    assert child is not None, element.toXml()
    return str(child.name)


class Records(Module):
    """Stands for an archive: messages from or to ann are written, and committed when the test says so."""

    name = "mod_records"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.tickets: list[CommitTicket] = []
        self.is_slow = False
        self.wait: Deferred[None] | None = None
        self.offline: list[tuple[str, float | None]] = []
        self.resumed: list[str] = []

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.ARCHIVE, self._write)
        yield Filter(Direction.OFFLINE, Phase.DELIVER, self._keep)

    def _write(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if self.wait is not None:
            return Wait(self._later(stanza))
        if self.is_slow:
            ticket = context.open_ticket()
            ticket.hold()
            self.tickets.append(ticket)
        return stanza

    async def _later(self, stanza: Stanza) -> Stanza | Stop:
        assert self.wait is not None
        await self.wait
        return stanza

    def _keep(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        self.offline.append((str(stanza.body), context.sent_at))
        return Stop("kept")

    def session_resumed(self, session: Any) -> None:
        self.resumed.append(session.jid.full)

    def commits(self) -> None:
        """The first of what waits is safe."""
        self.tickets.pop(0).release()


class ManagedCase(TestCase):
    options: dict[str, Any] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        management: Any = (StreamManagement, StreamManagementConfig(**self.options))
        self.server = C2SServer(modules=[Records, Presence, management])
        self.ann = await self.server.logged_in(PHONE)
        self.bob = await self.server.logged_in(BOB)
        self.records: Records = self.server.type_of("a.example").modules["mod_records"]  # type: ignore[assignment]

    def enable(self, client: Client, attributes: str = " resume='true'") -> domish.Element:
        client.sends(f"<enable xmlns='{NS_SM}'{attributes}/>")
        return client.receives("enabled")

    def available(self, client: Client) -> None:
        client.sends("<presence/>")
        client.receives("presence")

    def says(self, client: Client, number: int, to: str = BOB) -> None:
        client.sends(f"<message to='{to}' type='chat' id='{number}'><body>{number}</body></message>")

    def asks(self, client: Client) -> None:
        client.sends(f"<r xmlns='{NS_SM}'/>")

    def h(self, client: Client) -> int:
        """What the server says next that it has."""
        return int(client.receives("a")["h"])

    async def authenticated(self, username: str = "ann", domain: str = "a.example") -> Client:
        client = self.server.connects()
        client.authenticated(username, domain)
        return client

    async def resumes(self, previous: str, h: int, username: str = "ann", domain: str = "a.example") -> Client:
        client = await self.authenticated(username, domain)
        client.sends(f"<resume xmlns='{NS_SM}' previd='{previous}' h='{h}'/>")
        return client

    def bodies(self, client: Client) -> list[str]:
        """The messages that came; requests for acknowledgements are passed over."""
        return [str(e.body) for e in client.received() if e.name == "message"]

    def session(self, address: str = PHONE) -> C2SSession:
        session = self.server.sessions.get(JID.parse(address))
        assert isinstance(session, C2SSession)
        return session


class EnabledCase(ManagedCase):
    """Ann's session is available and can be resumed; both sides have counted one stanza, her presence."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.id = self.enable(self.ann)["id"]
        self.available(self.ann)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.ann.received()
