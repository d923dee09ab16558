"""A bound session: RFC 6120 8, 10; its ends: 4.4, 4.9."""

from twisted.trial.unittest import TestCase

from dynxmpp.c2s.stream import CLOSE_TIMEOUT_S
from dynxmpp.wire.errors import StreamError
from tests.fixtures.c2s import NOTHING, C2SServer, Client

PING = "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"


class SessionCase(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.server = C2SServer()
        self.ann = await self.server.logged_in("ann@a.example/phone")
        self.bob = await self.server.logged_in("bob@b.example/x")

    async def ann_again(self) -> Client:
        self.ann = await self.server.logged_in("ann@a.example/phone")
        return self.ann

    async def ends_ann(self, condition: str, sent: str | bytes) -> None:
        """This ends ann's stream with an error, and nobody else's."""
        ann = await self.ann_again()
        self.server.observer().ended.clear()
        ann.sends(sent)
        self.assertEqual(condition, ann.stream_error(), sent)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.assertEqual((1, {}, 1, 1), self.server.balance)
        self.assertTrue(self.bob.is_open)
        self.assertEqual([], self.bob.received())


class From(SessionCase):
    async def test_is_stamped(self) -> None:
        self.ann.sends("<message to='bob@b.example/x'><body>hi</body></message>")
        message = self.bob.receives("message")
        self.assertEqual(("ann@a.example/phone", "hi"), (message["from"], str(message.body)))

    async def test_own_addresses_in_any_spelling(self) -> None:
        for sender in ("ann@a.example", "ann@a.example/phone", "ANN@A.Example/phone", "Ann@a.example.", ""):
            attribute = f" from='{sender}'" if sender else ""
            self.ann.sends(f"<message{attribute} to='bob@b.example/x'/>")
            self.assertEqual("ann@a.example/phone", self.bob.receives("message")["from"])

    async def test_forged(self) -> None:
        for sender in (
            "bob@b.example",
            "bob@b.example/x",
            "ann@a.example/PHONE",
            "ann@a.example/tablet",
            "ann@b.example",
            "a.example",
            "ann",
            "",
            "@",
        ):
            for stanza in ("message", "presence", "iq"):
                await self.ends_ann("invalid-from", f"<{stanza} from='{sender}' to='bob@b.example/x'/>")


class Elements(SessionCase):
    async def test_what_is_no_stanza(self) -> None:
        for sent in (
            "<x xmlns='y'/>",
            "<message xmlns='jabber:server'/>",
            "<message xmlns=''/>",
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
            "<stream:features/>",
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        ):
            await self.ends_ann("unsupported-stanza-type", sent)

    async def test_bad_xml(self) -> None:
        for condition, sent in (
            ("not-well-formed", "<message></iq>"),
            ("not-well-formed", "<message <>"),
            ("not-well-formed", b"<message a='\xff'/>"),
            ("not-well-formed", "<message to='a' to='b'/>"),
            ("bad-namespace-prefix", "<x:message/>"),
            ("bad-format", "text<message/>"),
            ("restricted-xml", "<!-- comment -->"),
            ("restricted-xml", "<message><!-- comment --></message>"),
            ("restricted-xml", "<?php ?>"),
            ("restricted-xml", "<message><body>&lol;</body></message>"),
        ):
            await self.ends_ann(condition, sent)

    async def test_too_much(self) -> None:
        self.server = C2SServer(max_stanza_size=10_000, max_depth=5, max_attributes=5)
        self.bob = await self.server.logged_in("bob@b.example/x")
        for sent in (
            f"<message><body>{'x' * 10_000}</body></message>",
            "<message><body>" + "x" * 20_000,
            "<message " + "x" * 20_000,
            "<message>" + "<a>" * 6,
            "<message " + " ".join(f"a{n}='x'" for n in range(6)) + "/>",
        ):
            await self.ends_ann("policy-violation", sent)

    async def test_just_not_too_much(self) -> None:
        self.server = C2SServer(max_stanza_size=10_000, max_depth=5, max_attributes=5)
        ann = await self.server.logged_in("ann@a.example/phone")
        frame = "<message to='ann@a.example/phone'><body></body></message>"
        ann.sends(frame.replace("><body>", f"><body>{'x' * (10_000 - len(frame))}"))
        ann.receives("message")
        self.assertTrue(ann.is_open)

    async def test_what_came_before_the_error_counts(self) -> None:
        self.ann.sends("<message to='bob@b.example/x' id='1'/><message></iq>")
        self.assertEqual("1", self.bob.receives("message")["id"])
        self.assertEqual("not-well-formed", self.ann.stream_error())

    async def test_what_comes_after_the_error_does_not(self) -> None:
        self.ann.sends("<x/><message to='bob@b.example/x' id='1'/>")
        self.ann.sends("<message to='bob@b.example/x' id='2'/>")
        self.assertEqual("unsupported-stanza-type", self.ann.stream_error())
        self.assertEqual([], self.bob.received())

    async def test_white_space_keeps_alive(self) -> None:
        for _ in range(1000):
            self.ann.sends(" \n")
        self.assertEqual([], self.ann.received())
        self.ann.sends(" <message to='bob@b.example/x'/> ")
        self.bob.receives("message")

    async def test_a_session_needs_no_haste(self) -> None:
        self.server.clock.advance(86_400)
        self.assertTrue(self.ann.is_open)


class PeacefulEnds(SessionCase):
    async def test_the_client_closes(self) -> None:
        self.ann.sends("<message to='bob@b.example/x'/></stream:stream>")
        self.bob.receives("message")
        self.assertEqual([], self.ann.received())
        self.assertTrue(self.ann.closed)
        self.assertFalse(self.ann.transport.connected)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.assertEqual((1, {}, 1, 1), self.server.balance)

    async def test_answers_go_out_before_the_end(self) -> None:
        self.ann.sends(PING + "</stream:stream>")
        self.assertEqual("error", self.ann.receives("iq")["type"])
        self.assertTrue(self.ann.closed)

    async def test_what_follows_the_end_is_nothing(self) -> None:
        self.ann.sends("</stream:stream><message to='bob@b.example/x'/>")
        self.assertEqual([], self.bob.received())
        self.assertFalse(self.ann.transport.connected)

    async def test_a_client_that_does_not_take_its_end(self) -> None:
        self.ann.transport.peer_reads = False
        self.ann.sends("</stream:stream>")
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.server.clock.advance(CLOSE_TIMEOUT_S - 0.1)
        self.assertTrue(self.ann.transport.connected)
        self.server.clock.advance(0.2)
        self.assertFalse(self.ann.transport.connected)
        self.assertEqual((1, {}, 1, 1), self.server.balance)
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)

    async def test_nothing_is_left_behind_on_the_clock(self) -> None:
        for client in (self.ann, self.bob):
            client.sends("</stream:stream>")
        self.assertEqual([], self.server.clock.getDelayedCalls())

    async def test_the_connection_breaks(self) -> None:
        self.ann.loses()
        self.assertEqual(["ann@a.example/phone"], self.server.observer().ended)
        self.bob.sends("<message to='ann@a.example/phone' type='normal'/>")
        self.assertEqual("error", self.bob.receives("message")["type"])
        self.assertEqual([], self.server.clock.getDelayedCalls())


class EndsByTheServer(SessionCase):
    async def test_shutdown(self) -> None:
        """What SIGTERM does."""
        negotiating = self.server.connects()
        negotiating.header()
        negotiating.receives("features")
        silent = self.server.connects()
        self.server.factory.end_all(StreamError("system-shutdown"))
        for client in (self.ann, self.bob, negotiating, silent):
            self.assertEqual("system-shutdown", client.stream_error())
        self.assertEqual(NOTHING, self.server.balance)
        self.assertEqual(["ann@a.example/phone", "bob@b.example/x"], sorted(self.server.observer().ended))

    async def test_shutdown_twice(self) -> None:
        for _ in range(2):
            self.server.factory.end_all(StreamError("system-shutdown"))
        self.assertEqual("system-shutdown", self.ann.stream_error())

    async def test_the_domain_goes(self) -> None:
        for session in self.server.sessions.of_domain("b.example"):
            session.end(StreamError("host-gone"))
        self.assertEqual(0, self.server.sessions.count_domain("b.example"))
        self.assertEqual("host-gone", self.bob.stream_error())
        self.assertTrue(self.ann.is_open)

    async def test_an_end_in_the_middle_of_a_read(self) -> None:
        """A stanza that ends its own session: the rest of what was read is nobody's."""
        observer = self.server.observer()

        def ends_it(stanza: object, context: object) -> object:
            self.server.sessions.of("ann@a.example")[0].end(StreamError("reset"))
            return stanza

        self.patch(observer, "_look", ends_it)
        self.server.type_of("a.example").compile()
        self.ann.sends("<message to='bob@b.example/x'/><message to='bob@b.example/x'/>")
        self.assertEqual("reset", self.ann.stream_error())
        self.assertEqual(1, len(self.bob.received()))


class Sessions(SessionCase):
    async def test_what_people_see_of_it(self) -> None:
        session = self.server.sessions.of("ann@a.example")[0]
        self.assertEqual("192.0.2.1:50000", session.address)  # type: ignore[attr-defined]
        self.assertFalse(session.encrypted)  # type: ignore[attr-defined]
        self.assertIn("ann@a.example/phone", repr(session))
