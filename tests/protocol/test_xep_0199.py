"""XEP-0199 XMPP Ping."""

from dynxmpp.modules.ping import Ping, PingConfig
from tests.fixtures.dialogue import TestSession
from tests.protocol.support import Dialogues


class Answers(Dialogues):
    modules = [Ping]

    async def test_client_to_server(self) -> None:
        juliet = self.host.session("juliet@capulet.example/balcony")
        for to, sender in [
            ("to='capulet.example'", "capulet.example"),
            ("to='juliet@capulet.example'", "juliet@capulet.example"),
            ("", "juliet@capulet.example"),
            ("to='montague.example'", "montague.example"),
        ]:
            await self.check(
                juliet,
                f"<iq type='get' {to} id='c2s1'><ping xmlns='urn:xmpp:ping'/></iq>",
                f"<iq type='result' from='{sender}' to='juliet@capulet.example/balcony' id='c2s1'/>",
            )

    async def test_client_to_client(self) -> None:
        juliet = self.host.session("juliet@capulet.example/balcony")
        romeo = self.host.session("romeo@montague.example/orchard")
        romeo.sends("<iq to='juliet@capulet.example/balcony' type='get' id='e2e1'><ping xmlns='urn:xmpp:ping'/></iq>")
        ping = await juliet.receives("iq")
        self.assertEqual(("romeo@montague.example/orchard", "e2e1"), (ping["from"], ping["id"]))
        juliet.sends("<iq to='romeo@montague.example/orchard' id='e2e1' type='result'/>")
        self.assertEqual("result", (await romeo.receives("iq"))["type"])

    async def test_what_is_no_ping(self) -> None:
        juliet = self.host.session("juliet@capulet.example/balcony")
        for type_, payload in [
            ("set", "<ping xmlns='urn:xmpp:ping'/>"),
            ("get", "<pong xmlns='urn:xmpp:ping'/>"),
            ("get", "<ping xmlns='urn:xmpp:ping:1'/>"),
        ]:
            xml = f"<iq type='{type_}' to='capulet.example' id='1'>{payload}</iq>"
            self.assertEqual("service-unavailable", await self.refusal(juliet, xml))

    async def test_nobody_is_pinged_unasked(self) -> None:
        juliet = self.host.session("juliet@capulet.example/balcony")
        self.assertEqual([], self.host.clock.getDelayedCalls())
        await self.host.silence(juliet)


class Watching(Dialogues):
    """`send_pings`."""

    modules = [(Ping, PingConfig(send_pings=True, timeout_action="kill"))]

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.juliet = self.host.session("juliet@capulet.example/balcony")

    async def pinged(self, session: TestSession) -> str:
        ping = await session.receives("iq")
        self.assertEqual(
            ("get", "capulet.example", "juliet@capulet.example/balcony", "urn:xmpp:ping"),
            (ping["type"], ping["from"], ping["to"], ping.ping.uri),
        )
        return str(ping["id"])

    async def test_a_silent_client_is_pinged_and_ended_when_it_stays_silent(self) -> None:
        self.host.clock.advance(59.9)
        await self.host.silence(self.juliet)
        self.host.clock.advance(0.1)
        await self.pinged(self.juliet)
        self.host.clock.advance(31.9)
        self.assertIsNone(self.juliet.ended)
        self.host.clock.advance(0.1)
        assert self.juliet.ended is not None
        self.assertEqual("connection-timeout", self.juliet.ended.condition)
        self.assertEqual([], self.host.clock.getDelayedCalls())

    async def test_results_and_errors_are_signs_of_life(self) -> None:
        error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        for type_, inner in [("result", ""), ("error", error), ("result", "")]:
            self.host.clock.advance(60)
            id_ = await self.pinged(self.juliet)
            self.juliet.sends(f"<iq type='{type_}' id='{id_}' to='capulet.example'>{inner}</iq>")
            self.host.clock.advance(59.9)
            await self.host.silence(self.juliet)
            self.host.clock.advance(0.1)
            id_ = await self.pinged(self.juliet)
            self.juliet.sends(f"<iq type='{type_}' id='{id_}' to='capulet.example'>{inner}</iq>")
        self.assertIsNone(self.juliet.ended)

    async def test_who_talks_is_not_pinged(self) -> None:
        for xml in (
            "<message to='nobody@capulet.example' type='headline'/>",
            "<presence/>",
            "<iq type='result' id='x' to='capulet.example'/>",
        ):
            self.host.clock.advance(59)
            self.juliet.sends(xml)
        self.host.clock.advance(59)
        await self.host.silence(self.juliet)
        self.host.clock.advance(1)
        await self.pinged(self.juliet)

    async def test_what_others_send_is_no_sign_of_life(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        self.host.clock.advance(59)
        romeo.sends("<message to='juliet@capulet.example/balcony'/>")
        await self.juliet.receives("message")
        self.host.clock.advance(1)
        await self.pinged(self.juliet)

    async def test_ids_differ(self) -> None:
        other = self.host.session("juliet@capulet.example/chamber")
        self.host.clock.advance(60)
        self.assertNotEqual((await self.juliet.receives())["id"], (await other.receives())["id"])

    async def test_a_session_that_ended_leaves_no_timer(self) -> None:
        self.juliet.leaves()
        self.assertEqual([], self.host.clock.getDelayedCalls())

    async def test_stopping_leaves_no_timer(self) -> None:
        self.host.session("romeo@montague.example/orchard")
        await self.module("mod_ping").stop()
        self.assertEqual([], self.host.clock.getDelayedCalls())


class Patient(Dialogues):
    modules = [(Ping, PingConfig(send_pings=True, ping_interval=5, ping_req_timeout=10))]

    async def test_without_kill_a_client_is_pinged_again_and_again(self) -> None:
        juliet = self.host.session("juliet@capulet.example/balcony")
        self.host.clock.pump([5, 10, 5, 10, 5])
        self.assertEqual(3, len(juliet.received))
        self.assertIsNone(juliet.ended)
