"""Services under subdomains: who answers there, what waits, and messages of rooms to their members."""

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.commit import CommitTicket
from dynxmpp.core.iq_registry import IQ, Target
from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Stanza, StanzaError, Verdict, iq_get
from tests.core.test_router import condition
from tests.fixtures.dialogue import Host

ROOM = JID.parse("coven@rooms.montague.example")


class Rooms(Module):
    """A service with rooms; what it is sent may wait for the test."""

    name = "mod_rooms"
    subdomain = "rooms.@HOST@"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.got: list[str] = []
        self.waiting: list[Deferred[None]] = []

    @iq_get("urn:test", "where", at=Target.SERVICE)
    def service(self, iq: IQ) -> domish.Element:
        return domish.Element(("urn:test", "service"))

    @iq_get("urn:test", "where", at=Target.ROOM)
    async def room(self, iq: IQ) -> domish.Element:
        return domish.Element(("urn:test", "room"))

    @iq_get("urn:test", "no", at=Target.ROOM)
    def no(self, iq: IQ) -> None:
        raise StanzaError("not-allowed", text="No")

    def receive(self, stanza: Stanza, context: RoutingContext) -> Awaitable[None] | None:
        what = str(stanza.body or stanza.name)
        if what == "no":
            raise StanzaError("not-acceptable")
        if what.startswith("later"):
            return self._later(what)
        self.got.append(what)
        return None

    async def _later(self, what: str) -> None:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting
        self.got.append(what)
        if what == "later no":
            raise StanzaError("not-acceptable")


class Keeper(Module):
    """Writes something for each message that comes in."""

    name = "mod_keeper"

    def filters(self) -> tuple[Filter, ...]:
        return (Filter(Direction.INCOMING, Phase.ARCHIVE, self._keep),)

    def _keep(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        context.open_ticket().hold()
        return stanza


class Services(TestCase):
    async def setUp(self) -> None:
        self.host = await Host([Rooms]).start()
        self.rooms: Any = self.host.host_types[0].modules["mod_rooms"]
        self.romeo = self.host.session("romeo@montague.example/orchard")

    async def ask(self, to: str, payload: str = "where") -> domish.Element:
        return await self.romeo.asks(f"<iq type='get' id='1' to='{to}'><{payload} xmlns='urn:test'/></iq>")

    async def test_service_and_rooms_have_handlers_of_their_own(self) -> None:
        self.assertEqual("service", (await self.ask("rooms.montague.example")).firstChildElement().name)
        self.assertEqual("room", (await self.ask(ROOM.full)).firstChildElement().name)
        self.assertEqual([], self.rooms.got)

    async def test_an_occupant_has_none(self) -> None:
        self.romeo.sends(f"<iq type='get' id='1' to='{ROOM.full}/nick'><where xmlns='urn:test'/></iq>")
        await self.host.silence(self.romeo)
        self.assertEqual(["iq"], self.rooms.got)

    async def test_errors_of_services_are_short(self) -> None:
        for error in (await self.ask(ROOM.full, "no"), await self._error("no"), await self._error("later no")):
            self.assertEqual(["error"], [child.name for child in error.elements()])
            self.assertEqual((ROOM.full, "1"), (error["from"], error["id"]))

    async def _error(self, body: str) -> domish.Element:
        self.romeo.sends(f"<message to='{ROOM.full}' id='1'><body>{body}</body></message>")
        for waiting in self.rooms.waiting:
            waiting.callback(None)
        self.rooms.waiting.clear()
        error = await self.romeo.receives("message")
        self.assertEqual("not-acceptable", condition(error))
        return error

    async def test_what_waits_keeps_its_place_and_is_not_acknowledged(self) -> None:
        context = self.romeo.sends(f"<message to='{ROOM.full}'><body>later</body></message>")
        self.romeo.sends(f"<message to='{ROOM.full}'><body>second</body></message>")
        self.assertEqual([], self.rooms.got)
        self.assertFalse(context.ticket.settled)
        self.rooms.waiting.pop().callback(None)
        await self.host.settle()
        self.assertEqual(["later", "second"], self.rooms.got)
        self.assertTrue(context.ticket.committed)


class Members(TestCase):
    """Router.to_member."""

    async def setUp(self) -> None:
        self.host = await Host([Rooms, Keeper]).start()
        self.juliet = JID.parse("juliet@capulet.example")
        self.ticket = CommitTicket()

    def send(self) -> None:
        attributes = {"type": "groupchat", "id": "1", "from": f"{ROOM.full}/nick", "to": self.juliet.full}
        sender = JID.parse(f"{ROOM.full}/nick")
        self.host.router.to_member(Stanza("message", attributes), sender, self.juliet, self.ticket)

    def session(self, resource: str, priority: int | None) -> Any:
        session = self.host.session(f"{self.juliet.full}/{resource}")
        if priority is not None:
            session.available, session.priority = True, priority
        return session

    async def test_all_who_take_messages_get_it(self) -> None:
        high, low = self.session("high", 5), self.session("low", 0)
        negative, unavailable = self.session("negative", -1), self.session("unavailable", None)
        self.send()
        for session in (high, low):
            self.assertEqual(self.juliet.full, (await session.receives("message"))["to"])
        await self.host.silence(high, low, negative, unavailable)

    async def test_nobody_is_told_when_nobody_is_there(self) -> None:
        self.send()
        await self.host.silence()
        self.assertEqual([], self.host.host_types[0].modules["mod_rooms"].got)  # type: ignore[attr-defined]

    async def test_what_is_written_for_a_member_belongs_to_the_message(self) -> None:
        self.send()
        self.assertFalse(self.ticket.settled)

    async def test_from_elsewhere_such_a_message_comes_back(self) -> None:
        high = self.session("high", 5)
        romeo = self.host.session("romeo@montague.example/orchard")
        romeo.sends(f"<message type='groupchat' id='2' to='{self.juliet.full}'/>")
        self.assertEqual("service-unavailable", condition(await romeo.receives("message")))
        await self.host.silence(high)
