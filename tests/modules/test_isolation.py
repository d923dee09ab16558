"""mod_domain_isolation: who reaches whom, from all sides."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.module import Module, RoutingContext, Stanza
from dynxmpp.modules.isolation import TEXT, DomainIsolation
from dynxmpp.modules.ping import Ping
from tests.fixtures.dialogue import Host


class Rooms(Module):
    """A service below each domain that keeps what it is sent."""

    name = "mod_rooms"
    subdomain = "rooms.@HOST@"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.got: list[Stanza] = []

    def receive(self, stanza: Stanza, context: RoutingContext) -> None:
        self.got.append(stanza)


STANZAS = (
    "<message to='{0}' type='chat' id='1'><body>hello</body></message>",
    "<message to='{0}' type='groupchat' id='1'><body>hello</body></message>",
    "<message to='{0}' type='headline' id='1'><body>hello</body></message>",
    "<presence to='{0}' id='1'/>",
    "<presence to='{0}' type='unavailable' id='1'/>",
    "<presence to='{0}' type='subscribe' id='1'/>",
    "<iq to='{0}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
)


class Walls(TestCase):
    async def setUp(self) -> None:
        self.host = Host([DomainIsolation, Rooms, Ping])
        self.host.add_host_type("open", [Rooms, Ping], ["open.example"])
        await self.host.start()
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.juliet = self.host.session("juliet@capulet.example/balcony")
        self.mercutio = self.host.session("mercutio@montague.example/street")
        self.nurse = self.host.session("nurse@open.example/kitchen")
        for session in (self.romeo, self.juliet, self.mercutio, self.nurse):
            session.available = True

    async def test_between_domains_everything_comes_back(self) -> None:
        for to in (
            "juliet@capulet.example",
            "juliet@capulet.example/balcony",
            "capulet.example",
            "rooms.capulet.example",
        ):
            for xml in STANZAS:
                self.romeo.sends(xml.format(to))
                error = await self.romeo.receives()
                self.assertEqual(("error", "1", to), (error["type"], error["id"], error["from"]), xml)
                self.assertEqual(("503", "cancel"), (error.error["code"], error.error["type"]))
                self.assertIsNotNone(error.error.__getattr__("service-unavailable"))
                self.assertEqual(TEXT, str(error.error.text))
                await self.host.silence(self.romeo, self.juliet)
        self.assertEqual([], self.host.host_types[0].modules["mod_rooms"].got)  # type: ignore[attr-defined]

    async def test_what_was_sent_is_kept_in_the_error(self) -> None:
        self.romeo.sends(STANZAS[0].format("juliet@capulet.example"))
        self.assertEqual("hello", str((await self.romeo.receives()).body))

    async def test_within_a_domain_everything_passes(self) -> None:
        self.romeo.sends(STANZAS[0].format("mercutio@montague.example"))
        await self.mercutio.receives("message")
        self.romeo.sends(STANZAS[0].format("rooms.montague.example"))
        self.romeo.sends("<message to='room@rooms.montague.example/x' type='groupchat'/>")
        self.assertEqual(2, len(self.host.host_types[0].modules["mod_rooms"].got))  # type: ignore[attr-defined]
        reply = await self.romeo.asks(STANZAS[6].format("montague.example"))
        self.assertEqual("result", reply["type"])

    async def test_errors_are_not_answered(self) -> None:
        self.romeo.sends("<message to='juliet@capulet.example/balcony' type='error' id='1'/>")
        self.romeo.sends("<iq to='juliet@capulet.example/balcony' type='error' id='1'><error/></iq>")
        await self.host.silence(self.romeo, self.juliet)

    async def test_the_receiving_host_type_decides(self) -> None:
        self.romeo.sends(STANZAS[0].format("nurse@open.example"))
        await self.nurse.receives("message")
        self.nurse.sends(STANZAS[0].format("romeo@montague.example"))
        self.assertEqual(TEXT, str((await self.nurse.receives()).error.text))
        self.romeo.sends(STANZAS[6].format("open.example"))
        await self.host.silence(self.romeo, self.nurse)

    async def test_a_room_of_another_domain(self) -> None:
        rooms = self.host.host_types[0].modules["mod_rooms"]
        message = Stanza("message", {"from": "room@rooms.capulet.example/x", "to": "romeo@montague.example"})
        rooms.send(message)  # type: ignore[attr-defined]
        await self.host.silence(self.romeo)

    async def test_subdomains_of_one_parent(self) -> None:
        rooms = self.host.host_types[0].modules["mod_rooms"]
        message = Stanza("message", {"from": "room@rooms.montague.example/x", "to": "romeo@montague.example"})
        rooms.send(message)  # type: ignore[attr-defined]
        await self.romeo.receives("message")
