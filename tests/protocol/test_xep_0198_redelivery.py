"""XEP-0198 section 4: what a client did not get goes to somebody who has not seen it, once, and with its first time."""

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Stanza, StanzaError, Verdict
from dynxmpp.modules.carbons import NS_CARBONS, Carbons
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.stream_management import NS_SM, StreamManagement, StreamManagementConfig
from dynxmpp.protocol.stanza_id import with_stanza_id
from tests.fixtures.c2s import C2SServer, Client
from tests.protocol.managed_streams import BOB, PHONE, ManagedCase, Records

ACCOUNT = "ann@a.example"
NO_COPY = "<no-copy xmlns='urn:xmpp:hints'/>"
PRIVATE = f"<private xmlns='{NS_CARBONS}'/>"
PRESENCE = "<presence><priority>%d</priority></presence>"


class Archive(Module):
    """Gives messages for ann an id, as an archive does, when the test says so."""

    name = "mod_archive"
    is_on = False

    def filters(self) -> list[Filter]:
        return [Filter(Direction.INCOMING, Phase.ARCHIVE, self._archive)]

    def _archive(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        return with_stanza_id(stanza, ACCOUNT, "kept-1") if self.is_on and context.recipient.bare == ACCOUNT else stanza


class RedeliveryCase(ManagedCase):
    async def setUp(self) -> None:  # type: ignore[override]
        management: Any = (StreamManagement, StreamManagementConfig(**self.options))
        self.server = C2SServer(modules=[Records, Presence, Carbons, Archive, management])
        self.ann = await self.server.logged_in(PHONE)
        self.bob = await self.server.logged_in(BOB)
        modules: dict[str, Any] = self.server.type_of("a.example").modules
        self.records: Records = modules["mod_records"]
        self.archive: Archive = modules["mod_archive"]

    async def other(self, resource: str = "desk", *, carbons: bool = False, priority: int = 0) -> Client:
        """One more client of ann, with stream management."""
        client = await self.server.logged_in(f"{ACCOUNT}/{resource}")
        self.enable(client)
        client.sends(PRESENCE % priority)
        if carbons:
            client.sends(f"<iq type='set' id='c'><enable xmlns='{NS_CARBONS}'/></iq>")
        client.received()
        self.acknowledges(client)
        return client

    def acknowledges(self, client: Client) -> None:
        """The client has all that it was sent."""
        session = self.session(str(client.stream.on_end.__self__.full))  # type: ignore[union-attr]
        assert session.manager is not None
        h = session.manager.acknowledged + len(session.manager._sent)
        client.sends(f"<a xmlns='{NS_SM}' h='{h}'/>")

    def kept(self) -> list[str]:
        return [body for body, _ in self.records.offline]

    def late(self, client: Client) -> list[domish.Element]:
        return [e for e in client.received() if e.name == "message"]

    def carbons(self, client: Client) -> list[domish.Element]:
        return [e for e in client.received() if e.name == "message" and e.received is not None]


class WhoHasSeenIt(RedeliveryCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.enable(self.ann)

    def waits(self) -> None:
        self.server.clock.advance(600)

    async def test_a_resource_of_lower_priority_has_not(self) -> None:
        """It was there when the message came, but messages for the account went to the other one."""
        desk = await self.other(priority=0)
        self.ann.sends(PRESENCE % 5)
        self.ann.loses()
        self.says(self.bob, 1, ACCOUNT)
        self.assertEqual([], self.bodies(desk))
        self.waits()
        self.assertEqual(["1"], [str(e.body) for e in self.late(desk)])
        self.assertEqual([], self.kept())

    async def test_a_resource_that_was_not_available_has_not(self) -> None:
        desk = await self.other(priority=-1)
        self.ann.sends(PRESENCE % 0)
        self.ann.loses()
        self.says(self.bob, 1, ACCOUNT)
        desk.sends(PRESENCE % 0)
        desk.received()
        self.waits()
        self.assertEqual(["1"], [str(e.body) for e in self.late(desk)])

    async def test_a_resource_of_the_same_priority_has(self) -> None:
        desk = await self.other()
        self.ann.sends(PRESENCE % 0)
        self.ann.loses()
        self.says(self.bob, 1, ACCOUNT)
        self.assertEqual(["1"], self.bodies(desk))
        self.acknowledges(desk)
        self.waits()
        self.assertEqual([], self.late(desk))
        self.assertEqual([], self.kept())

    async def test_once_all_that_had_it_are_gone_it_is_kept_once(self) -> None:
        """Two resources had it, and neither client has acknowledged it."""
        desk = await self.other()
        self.ann.sends(PRESENCE % 0)
        self.says(self.bob, 1, ACCOUNT)
        self.ann.loses()
        desk.loses()
        self.waits()
        self.assertEqual(["1"], self.kept())

    async def test_who_has_a_copy_has(self) -> None:
        desk = await self.other(carbons=True)
        self.ann.sends(PRESENCE % 0)
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        self.assertEqual(1, len(self.carbons(desk)))
        self.waits()
        self.assertEqual([], self.late(desk))
        self.assertEqual([], self.kept())

    async def test_of_a_message_that_is_not_copied_nobody_has_a_copy(self) -> None:
        desk = await self.other(carbons=True)
        self.ann.loses()
        for hint in (NO_COPY, PRIVATE):
            self.bob.sends(f"<message type='chat' to='{PHONE}'><body>secret</body>{hint}</message>")
        self.assertEqual([], self.late(desk))
        self.waits()
        self.assertEqual(["secret", "secret"], [str(e.body) for e in self.late(desk)])

    async def test_a_copy_for_a_client_that_is_away_too_is_none(self) -> None:
        """Copies are not kept when a session ends, so the message itself must not end with them."""
        desk = await self.other(carbons=True)
        self.ann.sends(PRESENCE % 0)
        self.ann.loses()
        self.server.clock.advance(1)
        desk.loses()
        self.says(self.bob, 1, PHONE)
        self.waits()
        self.assertEqual(["1"], self.kept())

    async def test_of_an_archived_message_a_copy_is_enough(self) -> None:
        self.archive.is_on = True
        desk = await self.other(carbons=True)
        self.ann.loses()
        self.server.clock.advance(1)
        desk.loses()
        self.says(self.bob, 1, PHONE)
        self.server.clock.advance(599)
        manager = self.session(f"{ACCOUNT}/desk").manager
        assert manager is not None
        self.assertEqual(["message"], [s.name for s, *_ in manager._sent if s.name == "message"])


class OnItsSecondWay(RedeliveryCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.enable(self.ann)
        self.ann.sends(PRESENCE % 0)
        self.ann.received()

    async def test_it_keeps_the_time_at_which_it_was_sent(self) -> None:
        """It is handed on twice, and then kept."""
        self.server.clock.advance(5)
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        self.server.clock.advance(1)
        desk = await self.other()
        self.server.clock.advance(599)
        self.assertEqual(["1970-01-01T00:00:05.000Z"], [e.delay["stamp"] for e in self.late(desk)])
        desk.loses()
        self.server.clock.advance(1)
        tablet = await self.other("tablet")
        self.server.clock.advance(599)
        messages = self.late(tablet)
        self.assertEqual(
            [["1970-01-01T00:00:05.000Z"]],
            [[d["stamp"] for d in m.elements("urn:xmpp:delay", "delay")] for m in messages],
        )
        tablet.sends("</stream:stream>")
        self.assertEqual([("1", 5.0)], self.records.offline)

    async def test_it_goes_to_who_came_while_the_account_was_looked_for(self) -> None:
        """Whatever its type: the resource that it was for is gone for good."""
        self.bob.sends(f"<message to='{PHONE}'><body>1</body></message>")
        answers: list[Any] = []
        accounts: Any = self.server.type_of("a.example").accounts

        async def exists(domain: str, username: str) -> bool:
            answers.append(Deferred())
            return bool(await answers[-1])

        self.patch(accounts, "known", lambda domain, username: False)
        self.patch(accounts, "exists", exists)
        self.ann.sends("</stream:stream>")
        self.assertEqual([], self.kept())
        desk = await self.other()
        answers.pop().callback(True)
        self.assertEqual(["1"], [str(e.body) for e in self.late(desk)])
        self.assertEqual([], self.bob.received())

    async def test_it_passes_no_filter_again(self) -> None:
        """So nothing is archived twice, and nobody gets a second copy."""
        self.ann.loses()
        self.says(self.bob, 1, PHONE)
        self.server.clock.advance(1)
        desk = await self.other(carbons=True)
        seen = len(self.server.observer().seen)
        self.archive.is_on = True
        self.server.clock.advance(601)
        late = self.late(desk)
        self.assertEqual(["1"], [str(e.body) for e in late])
        self.assertNotIn("stanza-id", late[0].toXml())
        self.assertEqual(seen, len(self.server.observer().seen))

    async def test_copies_and_results_of_the_archive_are_not_kept(self) -> None:
        session = self.session()
        for child in (
            f"<received xmlns='{NS_CARBONS}'/>",
            f"<sent xmlns='{NS_CARBONS}'/>",
            "<result xmlns='urn:xmpp:mam:2'/>",
        ):
            name = child[1 : child.index(" ")]
            key = f"{child.split(chr(39))[1]} {name}"
            attributes = {"type": "chat", "from": ACCOUNT, "to": PHONE}
            stanza = Stanza("message", attributes, child.encode(), (key,))
            session.deliver(stanza, stanza.to_bytes())
        self.says(self.bob, 1, PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["1"], self.kept())

    async def test_what_cannot_be_kept_is_told_to_its_sender_once(self) -> None:
        def full(stanza: Stanza, context: RoutingContext) -> Verdict:
            raise StanzaError("service-unavailable")

        host_type = self.server.type_of("a.example")
        step = host_type.pipelines.offline["message"][0]
        host_type.pipelines.offline["message"] = (type(step)(full, step.phase, step.module),)
        self.says(self.bob, 1, PHONE)
        self.ann.sends("</stream:stream>")
        errors = self.late(self.bob)
        self.assertEqual([("error", "1", PHONE)], [(e["type"], e["id"], e["from"]) for e in errors])

    async def test_order_is_kept(self) -> None:
        self.ann.loses()
        for number in range(20):
            self.says(self.bob, number, PHONE if number % 2 else ACCOUNT)
        self.server.clock.advance(600)
        self.assertEqual([str(number) for number in range(20)], self.kept())
        self.assertIsNone(self.server.sessions.get(JID.parse(PHONE)))


class Holds:
    """A gate that keeps everything."""

    def __init__(self) -> None:
        self.stanzas: list[Stanza] = []

    def take(self, stanza: Stanza, data: bytes) -> bool:
        self.stanzas.append(stanza)
        return True


class NothingIsKeptAlive(RedeliveryCase):
    async def test_what_went_to_several_is_forgotten_with_them(self) -> None:
        """Chat states that wait for inactive clients (XEP-0352) when their sessions end."""
        reached = self.server.host.router.delivery._reached
        self.enable(self.ann)
        self.ann.sends(PRESENCE % 0)
        desk = await self.other()
        for session in self.server.sessions.of(ACCOUNT):
            session.gate = Holds().take
        del session
        self.bob.sends(f"<message to='{ACCOUNT}' type='chat'><active xmlns='x'/></message>")
        self.assertEqual(1, len(reached))
        for client in (self.ann, desk):
            client.sends("</stream:stream>")
        del client, desk, self.ann
        self.server.observer().seen.clear()
        gc.collect()
        self.assertEqual(0, len(reached))
