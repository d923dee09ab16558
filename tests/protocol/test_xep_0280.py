"""XEP-0280 Message Carbons, and what XEP-0334 and XEP-0359 have to do with them."""

from collections.abc import Iterable
from typing import Any

from twisted.words.xish import domish

from dynxmpp.core.interfaces import CarbonCopies
from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, Module, Phase, RoutingContext, Stanza, Stop, Verdict
from dynxmpp.modules.carbons import REMEMBERED, Carbons
from dynxmpp.modules.presence import Presence
from dynxmpp.protocol.stanza_id import with_stanza_id
from tests.fixtures.dialogue import TestSession, canonical, parse
from tests.protocol.support import Dialogues, condition

NS = "urn:xmpp:carbons:2"
ENABLE = f"<iq type='set' id='enable1'><enable xmlns='{NS}'/></iq>"
DISABLE = f"<iq type='set' id='disable1'><disable xmlns='{NS}'/></iq>"
BODY = "<body>Neither, fair saint</body>"
COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
RECEIPT = "<received xmlns='urn:xmpp:receipts' id='r'/>"
DISPLAYED = "<displayed xmlns='urn:xmpp:chat-markers:0' id='d'/>"
PRIVATE = f"<private xmlns='{NS}'/>"
NO_COPY = "<no-copy xmlns='urn:xmpp:hints'/>"
ROOM_MESSAGE = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
MEDIATED = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='juliet@capulet.example'/></x>"
DIRECT = "<x xmlns='jabber:x:conference' jid='coven@rooms.example'/>"
ERROR = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"


class Way(Module):
    """What other modules do to messages: a policy that stops some, an archive that knows ids."""

    name = "mod_way"

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.POLICY, self._stop)
        yield Filter(Direction.INCOMING, Phase.POLICY, self._stop)
        yield Filter(Direction.OUTGOING, Phase.ARCHIVE, self._archive_sent)
        yield Filter(Direction.INCOMING, Phase.ARCHIVE, self._archive_received)

    def _stop(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        place = "in" if context.recipient_type is not None else "out"
        return Stop("policy") if stanza.has_child(f"urn:example:stop {place}") else stanza

    def _archive_sent(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if stanza.has_child("urn:example:archive a"):
            context.sent_as = "sent-1"
        return stanza

    def _archive_received(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if stanza.has_child("urn:example:archive a"):
            return with_stanza_id(stanza, context.recipient.bare, "received-1")
        return stanza


class CarbonsTestCase(Dialogues):
    modules = [Carbons, Presence, Way]

    async def comes(self, jid: str, *, carbons: bool = True, priority: int | None = 0) -> TestSession:
        """A client of an account; priority None: it stays unavailable."""
        session = self.host.session(jid)
        if carbons:
            await session.asks(ENABLE)
        if priority is not None:
            session.sends(f"<presence><priority>{priority}</priority></presence>")
        await self.host.settle()
        for other in self.host.sessions:
            assert isinstance(other, TestSession)
            other.received.clear()
        return session

    def carbon(self, element: domish.Element, kind: str, account: str, to: str, type_: str | None) -> domish.Element:
        """The message inside of what must be a copy of this kind."""
        attributes = {"from": account, "to": to} | ({"type": type_} if type_ is not None else {})
        self.assertEqual(("message", attributes), (element.name, element.attributes), element.toXml())
        [copy] = element.elements()
        self.assertEqual((NS, kind), (copy.uri, copy.name))
        [forwarded] = copy.elements()
        self.assertEqual(("urn:xmpp:forward:0", "forwarded"), (forwarded.uri, forwarded.name))
        [message] = forwarded.elements()
        self.assertEqual(("jabber:client", "message"), (message.uri, message.name))
        return message

    def kinds(self, session: TestSession) -> list[str]:
        """What has come since the last time: names of copies, `message` for what is none."""
        kinds = []
        while session.received:
            element = session.received.popleft()
            names = [str(child.name) for child in element.elements() if child.uri == NS]
            kinds.append(names[0] if names in (["received"], ["sent"]) else "message")
        return kinds


class EnablingTests(CarbonsTestCase):
    async def test_enabled_and_disabled_as_often_as_one_likes(self) -> None:
        romeo = self.host.session("romeo@montague.example/garden")
        carbons = self.host.host_types[0].require(CarbonCopies)
        self.assertFalse(carbons.enabled(romeo))
        for request, enabled in ((ENABLE, True), (ENABLE, True), (DISABLE, False), (DISABLE, False), (ENABLE, True)):
            id_ = parse(request)["id"]
            await self.check(
                romeo,
                request,
                f"<iq from='romeo@montague.example' to='romeo@montague.example/garden' id='{id_}' type='result'/>",
            )
            self.assertEqual(enabled, carbons.enabled(romeo))

    async def test_not_for_another_account(self) -> None:
        romeo = await self.comes("romeo@montague.example/garden", carbons=False)
        juliet = await self.comes("juliet@capulet.example/balcony", carbons=False)
        for request in (ENABLE, DISABLE):
            request = request.replace("<iq", "<iq to='juliet@capulet.example'")
            self.assertEqual("not-allowed", await self.refusal(romeo, request))
        carbons = self.host.host_types[0].require(CarbonCopies)
        self.assertEqual((False, False), (carbons.enabled(romeo), carbons.enabled(juliet)))

    async def test_requests_that_are_none(self) -> None:
        romeo = self.host.session("romeo@montague.example/garden")
        for request in (
            ENABLE.replace("type='set'", "type='get'"),
            ENABLE.replace("carbons:2", "carbons:1"),
            ENABLE.replace("<enable", "<private"),
            ENABLE.replace("<iq", "<iq to='montague.example'"),
        ):
            self.assertEqual("service-unavailable", await self.refusal(romeo, request))
        self.assertFalse(self.host.host_types[0].require(CarbonCopies).enabled(romeo))

    async def test_inline_with_bind_2(self) -> None:
        romeo = self.host.session("romeo@montague.example/garden")
        element = domish.Element((NS, "enable"))
        host_type = self.host.host_types[0]
        self.assertIsNone(host_type.bind_inlines[f"{NS} enable"](romeo, element))
        self.assertTrue(host_type.require(CarbonCopies).enabled(romeo))
        self.assertIn(NS, Carbons.bind_features)

    async def test_announced(self) -> None:
        host_type = self.host.host_types[0]
        self.assertIn(NS, host_type.features())
        self.assertIn(NS, host_type.account_features())

    async def test_disabled_is_disabled(self) -> None:
        other = await self.comes("romeo@montague.example/garden")
        romeo = await self.comes("romeo@montague.example/home")
        romeo.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["sent"], self.kinds(other))
        await other.asks(DISABLE)
        romeo.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}</message>")
        await self.host.silence(other)


class CopyTests(CarbonsTestCase):
    """The examples of sections 7 and 8."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.home = await self.comes("romeo@montague.example/home")
        self.garden = await self.comes("romeo@montague.example/garden")
        self.old = await self.comes("romeo@montague.example/old", carbons=False, priority=-1)
        self.balcony = await self.comes("juliet@capulet.example/balcony")
        self.chamber = await self.comes("juliet@capulet.example/chamber")

    async def test_sent_and_received(self) -> None:
        self.home.sends(
            f"<message id='1' to='juliet@capulet.example/balcony' type='chat'>{BODY}<thread>t</thread></message>"
        )
        original = await self.balcony.receives("message")
        sent = self.carbon(
            await self.garden.receives("message"),
            "sent",
            "romeo@montague.example",
            "romeo@montague.example/garden",
            "chat",
        )
        received = self.carbon(
            await self.chamber.receives("message"),
            "received",
            "juliet@capulet.example",
            "juliet@capulet.example/chamber",
            "chat",
        )
        self.assertEqual(canonical(original), canonical(sent))
        self.assertEqual(canonical(original), canonical(received))
        self.assertEqual("romeo@montague.example/home", received["from"])
        await self.host.silence(self.home, self.garden, self.old, self.balcony, self.chamber)

    async def test_to_a_bare_address_the_reached_get_no_copy(self) -> None:
        low = await self.comes("juliet@capulet.example/low", priority=-1)
        unavailable = await self.comes("juliet@capulet.example/away", priority=None)
        self.home.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["message"], self.kinds(self.balcony))
        self.assertEqual(["message"], self.kinds(self.chamber))
        self.assertEqual(["received"], self.kinds(low))
        self.assertEqual(["received"], self.kinds(unavailable))

    async def test_higher_priority_and_a_resource_that_is_gone(self) -> None:
        top = await self.comes("juliet@capulet.example/top", priority=5)
        for to in ("juliet@capulet.example", "juliet@capulet.example/gone"):
            self.home.sends(f"<message to='{to}' type='chat'>{BODY}</message>")
            self.assertEqual(["message"], self.kinds(top))
            self.assertEqual(["received"], self.kinds(self.balcony))
            self.assertEqual(["received"], self.kinds(self.chamber))

    async def test_a_refused_message_is_seen_all_the_same(self) -> None:
        self.home.sends(f"<message to='juliet@capulet.example/gone' type='normal'>{BODY}</message>")
        self.assertEqual("service-unavailable", condition(await self.home.receives("message")))
        self.assertEqual(["received"], self.kinds(self.balcony))

    async def test_without_a_type_and_with_a_prefix(self) -> None:
        self.home.sends(
            "<message xmlns:x='urn:example:x' xml:lang='it' to='juliet@capulet.example/balcony'>"
            f"{BODY}<x:y z='1'/></message>"
        )
        original = await self.balcony.receives("message")
        message = self.carbon(
            await self.chamber.receives("message"),
            "received",
            "juliet@capulet.example",
            "juliet@capulet.example/chamber",
            None,
        )
        self.assertEqual(canonical(original), canonical(message))

    async def test_a_domain_that_is_not_served(self) -> None:
        self.home.sends(f"<message to='juliet@elsewhere.example' type='chat'>{BODY}</message>")
        self.assertEqual(["sent"], self.kinds(self.garden))
        self.assertEqual("remote-server-not-found", condition(await self.home.receives("message")))

    async def test_other_stanzas_are_not_copied(self) -> None:
        self.home.sends("<iq id='1' type='get' to='juliet@capulet.example/balcony'><query xmlns='urn:example:q'/></iq>")
        self.home.sends("<presence to='juliet@capulet.example/balcony'/>")
        self.assertEqual("iq", (await self.balcony.receives()).name)
        self.assertEqual("presence", (await self.balcony.receives()).name)
        await self.host.silence(self.garden, self.chamber)

    async def test_what_the_server_sends_itself(self) -> None:
        """It has no session of a sender, but the recipient's devices see it."""
        sender, recipient = JID.parse("capulet.example"), JID.parse("juliet@capulet.example/balcony")
        attributes = {"from": sender.full, "to": recipient.full, "type": "chat"}
        self.host.router.route(Stanza("message", attributes, BODY.encode(), ("jabber:client body",)), sender, recipient)
        self.assertEqual(["message"], self.kinds(self.balcony))
        self.assertEqual(["received"], self.kinds(self.chamber))


class OwnMessageTests(CarbonsTestCase):
    """What an account sends to itself reaches each of its sessions once."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.phone = await self.comes("romeo@montague.example/phone")
        self.laptop = await self.comes("romeo@montague.example/laptop")
        self.tablet = await self.comes("romeo@montague.example/tablet", priority=-1)

    async def test_to_the_bare_address(self) -> None:
        for to in (" to='romeo@montague.example'", ""):
            self.phone.sends(f"<message{to} type='chat'>{BODY}</message>")
            self.assertEqual(["message"], self.kinds(self.phone))
            self.assertEqual(["message"], self.kinds(self.laptop))
            copy = await self.tablet.receives("message")
            message = self.carbon(copy, "sent", "romeo@montague.example", self.tablet.jid.full, "chat")
            self.assertEqual("romeo@montague.example", message["to"])
            await self.host.silence(self.phone, self.laptop, self.tablet)

    async def test_to_another_resource(self) -> None:
        self.phone.sends(f"<message to='romeo@montague.example/laptop' type='chat'>{BODY}</message>")
        self.assertEqual([], self.kinds(self.phone))
        self.assertEqual(["message"], self.kinds(self.laptop))
        self.assertEqual(["sent"], self.kinds(self.tablet))

    async def test_to_the_same_resource(self) -> None:
        self.phone.sends(f"<message to='romeo@montague.example/phone' type='chat'>{BODY}</message>")
        self.assertEqual(["message"], self.kinds(self.phone))
        self.assertEqual(["sent"], self.kinds(self.laptop))


class EligibilityTests(CarbonsTestCase):
    """Section 6.1."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.home = await self.comes("romeo@montague.example/home")
        self.garden = await self.comes("romeo@montague.example/garden")
        self.balcony = await self.comes("juliet@capulet.example/balcony")
        self.chamber = await self.comes("juliet@capulet.example/chamber")

    def copied(self, type_: str, inner: str) -> tuple[bool, bool]:
        """Was a message to a full address copied for (its sender, its recipient)?"""
        self.home.sends(f"<message to='juliet@capulet.example/balcony' type='{type_}'>{inner}</message>")
        self.assertEqual(["message"], self.kinds(self.balcony))
        sent, received = self.kinds(self.garden), self.kinds(self.chamber)
        self.assertIn(sent, ([], ["sent"]))
        self.assertIn(received, ([], ["received"]))
        return bool(sent), bool(received)

    async def test_which_messages(self) -> None:
        both, neither, only_sent = (True, True), (False, False), (True, False)
        for type_, inner, expected in (
            ("chat", "", both),
            ("chat", BODY, both),
            ("chat", "<x xmlns='urn:example:x'/>", both),
            ("normal", BODY, both),
            ("unheard-of", BODY, both),  # RFC 6121 5.2.2: as normal
            ("normal", "", neither),
            ("normal", "<subject>x</subject>", neither),
            ("normal", "<x xmlns='urn:example:x'><body>x</body></x>", neither),
            ("normal", "<body xmlns='urn:example:x'>x</body>", neither),
            ("normal", COMPOSING, both),
            ("normal", RECEIPT, both),
            ("normal", DISPLAYED, both),
            ("normal", "<request xmlns='urn:xmpp:receipts'/>", both),
            ("normal", DIRECT, both),
            ("normal", MEDIATED, both),
            ("headline", BODY, neither),
            ("headline", RECEIPT, both),
            ("groupchat", BODY, neither),
            ("groupchat", BODY + COMPOSING + DIRECT, neither),
            ("chat", BODY + ROOM_MESSAGE, only_sent),
            ("normal", BODY + ROOM_MESSAGE, only_sent),
            ("chat", BODY + PRIVATE, neither),
            ("chat", BODY + NO_COPY, neither),
            ("chat", BODY + PRIVATE + NO_COPY, neither),
            ("normal", DIRECT + PRIVATE, neither),
            ("chat", BODY + "<private xmlns='urn:example:x'/>", both),
            ("error", BODY, neither),
            ("error", RECEIPT, neither),
        ):
            with self.subTest(type=type_, inner=inner):
                self.assertEqual(expected, self.copied(type_, inner))

    async def test_a_room_invites_by_its_bare_address(self) -> None:
        sender, recipient = JID.parse("coven@rooms.example"), JID.parse("juliet@capulet.example/balcony")
        for inner, expected in ((MEDIATED, ["received"]), (ROOM_MESSAGE, [])):
            stanza = parse(f"<message from='{sender.full}' to='{recipient.full}'>{inner}</message>")
            self.host.router.route(stanza, sender, recipient)
            self.assertEqual(expected, self.kinds(self.chamber))

    async def test_headlines_are_not_doubled(self) -> None:
        """RFC 6121 8.5.2.1.1: they go to all resources with a priority that is not negative."""
        high = await self.comes("juliet@capulet.example/high", priority=5)
        low = await self.comes("juliet@capulet.example/low", priority=-1)
        self.home.sends(f"<message to='juliet@capulet.example' type='headline'>{RECEIPT}</message>")
        for session in (self.balcony, self.chamber, high):
            self.assertEqual(["message"], self.kinds(session))
        self.assertEqual(["received"], self.kinds(low))

    async def test_private_is_left_in(self) -> None:
        self.home.sends(f"<message to='juliet@capulet.example/balcony' type='chat'>{BODY}{PRIVATE}{NO_COPY}</message>")
        message = await self.balcony.receives("message")
        self.assertEqual(["body", "private", "no-copy"], [child.name for child in message.elements()])

    async def test_private_to_a_bare_address_goes_where_rfc_6121_says(self) -> None:
        self.home.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}{PRIVATE}{NO_COPY}</message>")
        self.assertEqual(["message"], self.kinds(self.balcony))
        self.assertEqual(["message"], self.kinds(self.chamber))
        await self.host.silence(self.garden)

    async def test_a_policy_has_the_first_word(self) -> None:
        message = f"<message to='juliet@capulet.example' type='chat'>{BODY}<{{}} xmlns='urn:example:stop'/></message>"
        self.home.sends(message.format("out"))
        await self.host.silence(self.garden, self.balcony, self.chamber)
        self.home.sends(message.format("in"))
        self.assertEqual(["sent"], self.kinds(self.garden))
        await self.host.silence(self.balcony, self.chamber)


class ErrorTests(CarbonsTestCase):
    """Section 6.1: an error is copied when the message that it answers was eligible."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.home = await self.comes("romeo@montague.example/home")
        self.garden = await self.comes("romeo@montague.example/garden")
        self.juliet = await self.comes("juliet@capulet.example/balcony")

    def error(self, id_: str, to: str = "romeo@montague.example/home", inner: str = "") -> None:
        self.juliet.sends(f"<message type='error' id='{id_}' to='{to}'>{inner}{ERROR}</message>")

    async def test_copied_where_the_message_was(self) -> None:
        self.home.sends(f"<message id='1' to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["sent"], self.kinds(self.garden))
        late = await self.comes("romeo@montague.example/late")
        self.error("1")
        self.assertEqual("service-unavailable", condition(await self.home.receives("message")))
        copy = await self.garden.receives("message")
        message = self.carbon(copy, "received", "romeo@montague.example", self.garden.jid.full, "error")
        self.assertEqual("service-unavailable", condition(message))
        await self.host.silence(late)

    async def test_whatever_it_contains_of_the_message(self) -> None:
        """XEP-0334 5: hints in an error count for nothing."""
        self.home.sends(f"<message id='1' to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["sent"], self.kinds(self.garden))
        self.error("1", inner=BODY + NO_COPY)
        self.assertEqual(["received"], self.kinds(self.garden))

    async def test_not_of_other_messages(self) -> None:
        self.home.sends(f"<message id='1' to='juliet@capulet.example' type='chat'>{BODY}{PRIVATE}</message>")
        self.home.sends(f"<message id='2' to='nurse@capulet.example' type='chat'>{BODY}</message>")
        self.home.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.kinds(self.garden)
        self.error("1", inner=BODY)
        self.error("2")
        self.error("3")
        self.juliet.sends(f"<message type='error' to='romeo@montague.example/home'>{ERROR}</message>")
        await self.host.silence(self.garden)

    async def test_a_client_that_refuses_what_another_one_took(self) -> None:
        chamber = await self.comes("juliet@capulet.example/chamber")
        self.home.sends(f"<message id='1' to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["message"], self.kinds(chamber))
        self.error("1")
        self.assertEqual(["sent"], self.kinds(chamber))

    async def test_an_error_to_a_bare_address_reaches_nobody_but_the_copies(self) -> None:
        self.home.sends(f"<message id='1' to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.assertEqual(["sent"], self.kinds(self.garden))
        self.error("1", to="romeo@montague.example")
        self.assertEqual(["received"], self.kinds(self.garden))
        await self.host.silence(self.home)

    async def test_the_server_refuses(self) -> None:
        self.home.sends(f"<message id='1' to='nobody@capulet.example' type='chat'>{BODY}</message>")
        await self.host.settle()
        self.assertEqual("error", (await self.home.receives("message"))["type"])
        self.assertEqual(["sent", "received"], self.kinds(self.garden))

    async def test_what_is_remembered_is_bounded(self) -> None:
        for number in range(REMEMBERED + 1):
            self.home.sends(f"<message id='{number}' to='juliet@capulet.example' type='chat'>{BODY}</message>")
        self.kinds(self.garden)
        self.error("0")
        await self.host.silence(self.garden)
        self.error("1")
        self.assertEqual(["received"], self.kinds(self.garden))


class ForgeryTests(CarbonsTestCase):
    """Section 11: a copy is only believed when it comes from one's own account."""

    async def test_what_looks_like_a_copy_is_a_message_of_its_sender(self) -> None:
        tybalt = await self.comes("tybalt@capulet.example/home")
        await self.comes("tybalt@capulet.example/other")
        romeo = await self.comes("romeo@montague.example/garden")
        await self.comes("romeo@montague.example/home", priority=-1)
        for kind in ("received", "sent"):
            tybalt.sends(
                f"<message to='romeo@montague.example/garden' type='chat'><body>x</body>"
                f"<{kind} xmlns='{NS}'><forwarded xmlns='urn:xmpp:forward:0'>"
                "<message xmlns='jabber:client' from='juliet@capulet.example/balcony' type='chat'>"
                "<body>Thou shall meet me tonite</body></message></forwarded>"
                f"</{kind}></message>"
            )
            message = await romeo.receives("message")
            self.assertEqual("tybalt@capulet.example/home", message["from"])
            await self.host.silence(*self.host.sessions)  # type: ignore[arg-type]


class ArchiveIdTests(CarbonsTestCase):
    """XEP-0359: a copy has the id under which the archive of the account keeps the message."""

    async def test_each_side_has_its_own(self) -> None:
        home = await self.comes("romeo@montague.example/home")
        garden = await self.comes("romeo@montague.example/garden")
        balcony = await self.comes("juliet@capulet.example/balcony")
        chamber = await self.comes("juliet@capulet.example/chamber")
        forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.example' id='forged'/>"
        home.sends(
            f"<message to='{balcony.jid.full}' type='chat'>{BODY}{forged}<a xmlns='urn:example:archive'/></message>"
        )
        sent = self.carbon(await garden.receives("message"), "sent", "romeo@montague.example", garden.jid.full, "chat")
        received = self.carbon(
            await chamber.receives("message"), "received", "juliet@capulet.example", chamber.jid.full, "chat"
        )
        self.assertEqual([("romeo@montague.example", "sent-1")], ids(sent))
        self.assertIn(("juliet@capulet.example", "received-1"), ids(received))
        self.assertNotIn(("romeo@montague.example", "sent-1"), ids(await balcony.receives("message")))

    async def test_none_for_what_is_not_kept(self) -> None:
        home = await self.comes("romeo@montague.example/home")
        garden = await self.comes("romeo@montague.example/garden")
        home.sends(f"<message to='juliet@capulet.example/balcony' type='chat'>{COMPOSING}</message>")
        sent = self.carbon(await garden.receives("message"), "sent", "romeo@montague.example", garden.jid.full, "chat")
        self.assertEqual([], ids(sent))


def ids(message: Any) -> list[tuple[str, str]]:
    """(by, id) of the <stanza-id/> elements."""
    return [(child["by"], child["id"]) for child in message.elements("urn:xmpp:sid:0", "stanza-id")]
