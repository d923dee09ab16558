"""XEP-0352 Client State Indication."""

import math
from typing import ClassVar

from twisted.words.xish import domish

from dynxmpp.jid import JID
from dynxmpp.modules.carbons import Carbons
from dynxmpp.modules.csi import Csi, CsiConfig
from dynxmpp.modules.ping import Ping
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import TestSession, parse
from tests.protocol.support import Contacts, Dialogues

NS = "urn:xmpp:csi:0"
ACTIVE, INACTIVE = f"<active xmlns='{NS}'/>", f"<inactive xmlns='{NS}'/>"
STATES = "http://jabber.org/protocol/chatstates"
ROMEO, JULIET = "romeo@montague.example/garden", "juliet@capulet.example/balcony"


def presence(who: str, status: str = "", type_: str | None = None) -> str:
    attributes = f" type='{type_}'" if type_ is not None else ""
    return f"<presence from='{who}' to='{JULIET}'{attributes}><status>{status}</status></presence>"


def state(who: str, name: str, more: str = "", type_: str = "chat") -> str:
    return f"<message from='{who}' to='{JULIET}' type='{type_}'><{name} xmlns='{STATES}'/>{more}</message>"


def message(who: str, inner: str = "<body>Wherefore</body>", type_: str = "chat") -> str:
    return f"<message from='{who}' to='{JULIET}' type='{type_}'>{inner}</message>"


class CsiTestCase(Dialogues):
    modules: ClassVar = [Csi]

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.juliet = self.host.session(JULIET)

    def deliver(self, *stanzas: str) -> None:
        """What the server has for the client."""
        for xml in stanzas:
            stanza = parse(xml)
            self.juliet.deliver(stanza, stanza.to_bytes())

    def written(self, session: TestSession | None = None) -> list[str]:
        """What the client has got since the last time."""
        session = session or self.juliet
        elements = list(session.received)
        session.received.clear()
        return [said(element) for element in elements]


def said(element: domish.Element) -> str:
    """A stanza in a few words: where it is from, and what it says."""
    children = list(element.elements())
    what = str(children[0]) or children[0].name if children else ""
    return f"{JID.parse(element['from']).resource} {element.getAttribute('type', element.name)} {what}".strip()


class StateTests(CsiTestCase):
    """Sections 4 and 5."""

    async def test_announced_to_clients_that_bind(self) -> None:
        self.assertEqual((f"<csi xmlns='{NS}'/>".encode(),), Csi.stream_features)
        self.assertEqual((NS,), Csi.bind_features)

    async def test_a_session_begins_active(self) -> None:
        self.deliver(presence(ROMEO, "here"), state(ROMEO, "composing"))
        self.assertEqual(["garden presence here", "garden chat composing"], self.written())

    async def test_held_while_inactive_and_sent_when_active(self) -> None:
        self.juliet.sends(INACTIVE)
        self.deliver(presence(ROMEO, "here"), state(ROMEO, "composing"))
        self.assertEqual([], self.written())
        self.juliet.sends(ACTIVE)
        self.assertEqual(["garden presence here", "garden chat composing"], self.written())
        self.deliver(presence(ROMEO, "there"))
        self.assertEqual(["garden presence there"], self.written())
        self.assertIsNone(self.juliet.gate)

    async def test_the_same_again_changes_nothing(self) -> None:
        self.juliet.sends(ACTIVE)
        self.juliet.sends(INACTIVE)
        self.deliver(presence(ROMEO, "here"))
        self.juliet.sends(INACTIVE)
        self.assertEqual([], self.written())
        self.juliet.sends(ACTIVE)
        self.assertEqual(["garden presence here"], self.written())
        self.juliet.sends(ACTIVE)
        self.assertEqual([], self.written())

    async def test_bind_2_sets_the_first_state(self) -> None:
        handlers = self.host.host_types[0].bind_inlines
        self.assertIsNone(handlers[f"{NS} inactive"](self.juliet, domish.Element((NS, "inactive"))))
        self.deliver(presence(ROMEO, "here"))
        self.assertEqual([], self.written())
        self.assertIsNone(handlers[f"{NS} active"](self.juliet, domish.Element((NS, "active"))))
        self.assertEqual(["garden presence here"], self.written())

    async def test_a_resumed_stream_is_active(self) -> None:
        """Section 5.2."""
        self.juliet.sends(INACTIVE)
        self.deliver(presence(ROMEO, "here"))
        self.host.host_types[0].session_resumed(self.juliet)
        self.assertEqual(["garden presence here"], self.written())
        self.deliver(presence(ROMEO, "there"))
        self.assertEqual(["garden presence there"], self.written())

    async def test_each_session_has_its_own(self) -> None:
        other = self.host.session("juliet@capulet.example/chamber")
        other.sends(INACTIVE)
        self.deliver(presence(ROMEO, "here"))
        self.assertEqual(["garden presence here"], self.written())


class HoldingTests(CsiTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.juliet.sends(INACTIVE)

    def after(self, *stanzas: str) -> list[str]:
        """What the client gets of these when it becomes active."""
        self.deliver(*stanzas)
        self.assertEqual([], self.written())
        self.juliet.sends(ACTIVE)
        return self.written()

    async def test_the_last_presence_of_each_resource(self) -> None:
        self.assertEqual(
            ["home presence b", "garden presence c"],
            self.after(
                presence(ROMEO, "a"),
                presence("romeo@montague.example/home", "b"),
                presence(ROMEO, "c"),
            ),
        )

    async def test_coming_and_going(self) -> None:
        self.assertEqual(
            ["garden unavailable y", "home presence z"],
            self.after(
                presence("romeo@montague.example/home", "w", "unavailable"),
                presence(ROMEO, "x"),
                presence(ROMEO, "y", "unavailable"),
                presence("romeo@montague.example/home", "z"),
            ),
        )

    async def test_the_last_chat_state_of_each_sender(self) -> None:
        self.assertEqual(
            ["home chat active", "garden chat gone"],
            self.after(
                state(ROMEO, "composing"),
                state("romeo@montague.example/home", "active"),
                state(ROMEO, "paused", "<thread>t</thread>"),
                state(ROMEO, "gone", "<no-store xmlns='urn:xmpp:hints'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/>"),
            ),
        )

    async def test_presence_and_chat_states_of_one_sender_stay_in_order(self) -> None:
        self.assertEqual(
            ["garden chat paused", "garden presence b"],
            self.after(state(ROMEO, "composing"), presence(ROMEO, "a"), state(ROMEO, "paused"), presence(ROMEO, "b")),
        )

    async def test_what_cannot_wait_goes_after_what_was_held(self) -> None:
        for urgent, expected in (
            (message(ROMEO), "garden chat Wherefore"),
            (message(ROMEO, f"<body>x</body><active xmlns='{STATES}'/>"), "garden chat x"),
            (message(ROMEO, f"<active xmlns='{STATES}'/><encrypted xmlns='eu.siacs.conversations.axolotl'/>"), None),
            (message(ROMEO, "<subject>x</subject>", "groupchat"), "garden groupchat x"),
            (message(ROMEO, "<received xmlns='urn:xmpp:receipts' id='1'/>"), "garden chat received"),
            (message(ROMEO, "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"), "garden chat displayed"),
            (message(ROMEO, "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", "headline"), None),
            (message(ROMEO, "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>"), "garden chat retract"),
            (message(ROMEO, ""), "garden chat"),
            (message(ROMEO, "<thread>t</thread>"), "garden chat t"),
            (state(ROMEO, "composing", "<error/>", "error"), "garden error composing"),
            (presence(ROMEO, "", "subscribe"), "garden subscribe status"),
            (presence(ROMEO, "", "subscribed"), "garden subscribed status"),
            (presence(ROMEO, "", "error"), "garden error status"),
            (f"<presence from='{ROMEO}'><x xmlns='http://jabber.org/protocol/muc#user'/></presence>", None),
            (f"<iq type='get' id='1' from='{ROMEO}'><query xmlns='urn:example:q'/></iq>", "garden get query"),
            (f"<iq type='result' id='1' from='{ROMEO}'/>", "garden result"),
        ):
            with self.subTest(urgent=urgent):
                self.deliver(presence("nurse@capulet.example/n", "a"), state("nurse@capulet.example/n", "composing"))
                self.assertEqual([], self.written())
                self.deliver(urgent)
                written = self.written()
                self.assertEqual(["n presence a", "n chat composing"], written[:2])
                self.assertEqual(1, len(written[2:]))
                if expected is not None:
                    self.assertEqual(expected, written[2])

    async def test_it_goes_on_holding_afterwards(self) -> None:
        self.deliver(presence(ROMEO, "a"), message(ROMEO), presence(ROMEO, "b"))
        self.assertEqual(["garden presence a", "garden chat Wherefore"], self.written())
        self.juliet.sends(ACTIVE)
        self.assertEqual(["garden presence b"], self.written())

    async def test_one_more_than_the_buffer_takes(self) -> None:
        stanzas = [presence(f"romeo@montague.example/{number}", "x") for number in range(21)]
        self.deliver(*stanzas[:20], *stanzas[:20])
        self.assertEqual([], self.written())
        self.deliver(stanzas[20])
        self.assertEqual([f"{number} presence x" for number in range(21)], self.written())
        self.deliver(stanzas[0])
        self.assertEqual([], self.written())

    async def test_a_session_that_ends_takes_it_along(self) -> None:
        self.deliver(presence(ROMEO, "a"))
        self.juliet.leaves()
        await self.host.silence(self.juliet)
        again = self.host.session(JULIET)
        stanza = parse(presence(ROMEO, "b"))
        again.deliver(stanza, stanza.to_bytes())
        self.assertEqual(["garden presence b"], self.written(again))


class SmallBufferTests(CsiTestCase):
    modules: ClassVar = [(Csi, CsiConfig(buffer_max=0))]

    async def test_no_buffer(self) -> None:
        self.juliet.sends(INACTIVE)
        self.deliver(presence(ROMEO, "a"), state(ROMEO, "composing"))
        self.assertEqual(["garden presence a", "garden chat composing"], self.written())


class EndlessBufferTests(CsiTestCase):
    modules: ClassVar = [(Csi, CsiConfig(buffer_max=math.inf))]

    async def test_no_bound(self) -> None:
        self.juliet.sends(INACTIVE)
        self.deliver(*(presence(f"romeo@montague.example/{number}", "x") for number in range(100)))
        self.assertEqual([], self.written())
        self.juliet.sends(ACTIVE)
        self.assertEqual(100, len(self.written()))


class ConversationTests(Dialogues):
    """With the modules whose stanzas it holds."""

    modules: ClassVar = [Carbons, Contacts, Csi, Ping, Presence]

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.phone = self.host.session("juliet@capulet.example/phone")
        await self.phone.asks("<iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.laptop = self.host.session("juliet@capulet.example/laptop")
        self.romeo = self.host.session(ROMEO)
        for session in (self.phone, self.laptop, self.romeo):
            session.sends("<presence/>")
        await self.host.settle()
        for session in (self.phone, self.laptop, self.romeo):
            session.received.clear()
        self.phone.sends(INACTIVE)

    async def test_active_comes_before_the_answer_to_what_follows(self) -> None:
        """Section 5.1, its example."""
        self.romeo.sends("<presence to='juliet@capulet.example/phone'/>")
        await self.host.silence(self.phone)
        self.phone.sends(ACTIVE)
        self.phone.sends("<iq to='capulet.example' id='ping1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.assertEqual("presence", (await self.phone.receives()).name)
        self.assertEqual("ping1", (await self.phone.receives("iq"))["id"])

    async def test_copies_of_chat_states_wait_and_of_messages_do_not(self) -> None:
        to_laptop = "<message to='juliet@capulet.example/laptop' type='chat'>{}</message>"
        to_romeo = f"<message to='{ROMEO}' type='chat'>{{}}</message>"
        composing, paused = f"<composing xmlns='{STATES}'/>", f"<paused xmlns='{STATES}'/>"
        self.romeo.sends(to_laptop.format(composing))
        self.laptop.sends(to_romeo.format(composing))
        self.romeo.sends(to_laptop.format(paused))
        await self.host.silence(self.phone)
        self.romeo.sends(to_laptop.format(f"<active xmlns='{STATES}'/><body>O</body>"))
        copies = [next((await self.phone.receives("message")).elements()) for _ in range(3)]
        self.assertEqual(["sent", "received", "received"], [copy.name for copy in copies])
        inner = [next(copy.forwarded.elements()) for copy in copies]
        self.assertEqual(["composing", "paused", "active"], [next(message.elements()).name for message in inner])
        await self.host.silence(self.phone)

    async def test_copies_of_receipts_and_markers_do_not_wait(self) -> None:
        """What another device has displayed need not be notified any longer."""
        for inner in (
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
            f"<received xmlns='urn:xmpp:receipts' id='1'/><active xmlns='{STATES}'/>",
            f"<subject>body</subject><active xmlns='{STATES}'/>",
        ):
            self.laptop.sends(f"<message to='{ROMEO}' type='chat'>{inner}</message>")
            self.assertEqual("sent", next((await self.phone.receives("message")).elements()).name)

    async def test_what_only_looks_like_a_copy(self) -> None:
        composing = f"<composing xmlns='{STATES}'/>"
        for inner in (
            "<received xmlns='urn:xmpp:carbons:2'/>",
            f"<received xmlns='urn:xmpp:carbons:2'>{composing}</received>",
            "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
            f"{composing}</forwarded></received>",
            f"<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{composing}"
            "<message xmlns='jabber:client'/></forwarded></sent>",
        ):
            self.romeo.sends(f"<message to='juliet@capulet.example/phone' type='chat'>{inner}</message>")
            self.assertEqual(ROMEO, (await self.phone.receives("message"))["from"])

    async def test_a_forged_copy_replaces_nothing(self) -> None:
        copied = f"<message xmlns='jabber:client' from='{ROMEO}' to='juliet@capulet.example/laptop' type='chat'>"
        forged = f"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{copied}"
        forged += f"<gone xmlns='{STATES}'/></message></forwarded></received>"
        self.romeo.sends(
            f"<message to='juliet@capulet.example/laptop' type='chat'><composing xmlns='{STATES}'/></message>"
        )
        tybalt = self.host.session("tybalt@capulet.example/home")
        tybalt.sends(f"<message to='juliet@capulet.example/phone' type='chat'>{forged}</message>")
        await self.host.silence(self.phone)
        self.phone.sends(ACTIVE)
        senders = [(await self.phone.receives("message"))["from"] for _ in range(2)]
        self.assertEqual(["juliet@capulet.example", "tybalt@capulet.example/home"], senders)
