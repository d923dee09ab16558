"""Section 3: what may be sent to rooms and their service, what is refused, and what outsiders learn (nothing)."""

from collections.abc import Iterator
from typing import Any, ClassVar

from dynxmpp.module import JID
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.names import (
    NS_AFFILIATIONS,
    NS_BLOCKING,
    NS_CONFIGURATION,
    NS_CREATE,
    NS_DESTROY,
    NS_INFO,
    NS_MUC_LIGHT,
)
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.roster import Roster
from dynxmpp.protocol.disco_info import NS_DISCO_INFO
from tests.fixtures.dialogue import TestSession
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, LOBBY, SERVICE, RoomTestCase, refusal

#: Type, condition and text of an error.
Refusal = tuple[str, str, str | None]

NOT_FOUND = ("cancel", "item-not-found", None)
BAD_REQUEST = ("modify", "bad-request", None)
HAS_RESOURCE = ("modify", "bad-request", "Resource expected to be empty")
UNCATEGORIZED = ("modify", "bad-request", "Uncategorized bad request")
UNKNOWN_IQ = ("cancel", "feature-not-implemented", "mod_muc_iq returns error")
NO_ENTRY = ("cancel", "not-allowed", "The action is not allowed. Not allowed to enter the room.")

NOWHERE = f"nowhere@{SERVICE}"
PRESENCE_TYPES = (
    *("", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error"),
    "nonsense",
)


def presence(type_: str, to: str, content: str = "") -> str:
    attribute = f" type='{type_}'" if type_ else ""
    return f"<presence{attribute} to='{to}'>{content}</presence>"


class Addresses(RoomTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.room()

    async def refused(self, session: TestSession, xml: str) -> tuple[str, str, str | None]:
        """What the error says; it comes at once, from where the stanza went, and nobody else gets anything."""
        session.sends(xml)
        await self.settle()
        reply = await session.receives()
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        to = xml.partition("to='")[2].partition("'")[0]
        self.assertEqual((to, session.jid.full, "x"), (reply["from"], reply["to"], reply["id"]))
        return refusal(reply)

    async def test_a_resource(self) -> None:
        """It is the first thing that is looked at, whatever is sent, by whomever, and be there a room or not."""
        stanzas = [f"<message{type_} id='x' to='%s'><body>hi</body></message>" for type_ in MESSAGE_TYPES]
        for type_, namespace in (
            *(("get", namespace) for namespace in (NS_INFO, NS_DISCO_INFO, NS_BLOCKING, "jabber:iq:version")),
            *(("set", namespace) for namespace in (NS_CREATE, NS_DESTROY, "jabber:iq:private")),
        ):
            stanzas.append(f"<iq type='{type_}' id='x' to='%s'><query xmlns='{namespace}'/></iq>")
        for stanza in stanzas:
            for to in (f"{LOBBY}/{ANN}", f"{NOWHERE}/x", f"{SERVICE}/x"):
                for session in (self.ann, self.dan):
                    self.assertEqual(HAS_RESOURCE, await self.refused(session, stanza % to), stanza % to)

    async def test_answers_and_errors_are_answered_by_nothing(self) -> None:
        body = "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        for to in (LOBBY, f"{LOBBY}/{BEN}", NOWHERE, SERVICE, f"{SERVICE}/x"):
            for session in (self.ann, self.dan):
                session.sends(f"<message type='error' id='x' to='{to}'><body>hi</body>{body}</message>")
                session.sends(f"<iq type='error' id='x' to='{to}'><query xmlns='{NS_INFO}'/>{body}</iq>")
                session.sends(f"<iq type='error' id='x' to='{to}'>{body}</iq>")
                session.sends(f"<iq type='result' id='x' to='{to}'/>")
                session.sends(f"<iq type='result' id='x' to='{to}'><query xmlns='{NS_INFO}'/></iq>")
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_messages_that_are_not_said_in_a_room(self) -> None:
        for type_ in MESSAGE_TYPES:
            if "groupchat" not in type_:
                for to in (LOBBY, NOWHERE, SERVICE):
                    for session in (self.ann, self.dan):
                        message = f"<message{type_} id='x' to='{to}'><body>hi</body></message>"
                        self.assertEqual(UNCATEGORIZED, await self.refused(session, message), message)

    async def test_nothing_is_said_to_the_service(self) -> None:
        message = f"<message type='groupchat' id='x' to='{SERVICE}'><body>hi</body></message>"
        self.assertEqual(UNCATEGORIZED, await self.refused(self.ann, message))

    async def test_requests_that_are_none(self) -> None:
        """Payloads in the namespaces of rooms, in the wrong place, of the wrong type or name."""
        for to, type_, namespace, name in (
            *((SERVICE, "get", namespace, "query") for namespace in (NS_INFO, NS_CONFIGURATION, NS_AFFILIATIONS)),
            *((SERVICE, "set", namespace, "query") for namespace in (NS_CONFIGURATION, NS_AFFILIATIONS, NS_DESTROY)),
            *((to, "get", namespace, "query") for to in (SERVICE, LOBBY) for namespace in (NS_CREATE, NS_DESTROY)),
            *((LOBBY, type_, NS_BLOCKING, "query") for type_ in ("get", "set")),
            (LOBBY, "set", NS_INFO, "query"),
            *((LOBBY, "get", namespace, "x") for namespace in (NS_INFO, NS_CONFIGURATION, NS_AFFILIATIONS)),
            *((LOBBY, "set", namespace, "x") for namespace in (NS_CREATE, NS_CONFIGURATION, NS_DESTROY)),
            *((to, "get", NS_MUC_LIGHT, "query") for to in (SERVICE, LOBBY)),
            (LOBBY, "get", f"{NS_MUC_LIGHT}#nonsense", "query"),
        ):
            for session in (self.ann, self.dan):
                iq = f"<iq type='{type_}' id='x' to='{to}'><{name} xmlns='{namespace}'/></iq>"
                self.assertEqual(BAD_REQUEST, await self.refused(session, iq), iq)

    async def test_requests_that_nobody_knows(self) -> None:
        for payload in (
            "<query xmlns='jabber:iq:version'/>",
            "<vCard xmlns='vcard-temp'/>",
            "<ping xmlns='urn:xmpp:ping'/>",
            "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
            "<query xmlns='urn:x'><secret>s</secret></query>",
            "<query xmlns='urn:xmpp:mam:2'/>",
        ):
            for type_ in ("get", "set"):
                for to in (LOBBY, NOWHERE, SERVICE):
                    for session in (self.ann, self.dan):
                        iq = f"<iq type='{type_}' id='x' to='{to}'>{payload}</iq>"
                        self.assertEqual(UNKNOWN_IQ, await self.refused(session, iq), iq)

    async def test_stanzas_that_are_none(self) -> None:
        """They don't come as far as the service: an IQ without a payload, or with two."""
        for content in ("", f"<query xmlns='{NS_INFO}'/><query xmlns='{NS_INFO}'/>"):
            reply = await self.ann.asks(f"<iq type='get' id='x' to='{LOBBY}'>{content}</iq>")
            self.assertEqual("bad-request", reply.error.firstChildElement().name)

    async def test_presence(self) -> None:
        join = "<x xmlns='http://jabber.org/protocol/muc'/>"
        before = await self.members(), await self.version()
        for type_ in PRESENCE_TYPES[:-1]:
            for to in (LOBBY, f"{LOBBY}/ann", NOWHERE, f"{NOWHERE}/x", SERVICE, f"{SERVICE}/x"):
                for session in (self.ann, self.dan):
                    session.sends(presence(type_, to))
                    session.sends(presence(type_, to, join))
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        self.assertEqual(before, (await self.members(), await self.version()))
        self.assertIsNone(await self.rooms.rooms.get(JID.parse(NOWHERE)))

    async def test_presence_of_a_type_that_there_is_none_of(self) -> None:
        """Refused where it is sent, not by the room."""
        self.ann.sends(presence(PRESENCE_TYPES[-1], LOBBY))
        self.assertEqual("bad-request", (await self.ann.receives("presence")).error.firstChildElement().name)
        await self.host.silence(self.ann, self.ben)


MESSAGE_TYPES = ("", *(f" type='{type_}'" for type_ in ("normal", "chat", "headline", "nonsense", "groupchat")))


class PresenceInUse(RoomTestCase):
    """With rosters: rooms are no contacts that answer."""

    migrations = (*RoomTestCase.migrations, *Roster.migrations)
    modules: ClassVar[tuple[Any, ...]] = (Roster, Presence)

    async def test_a_room_neither_answers_nor_asks(self) -> None:
        await self.room()
        self.ann.sends("<presence/>")
        await self.settle()
        self.forget()
        for type_ in PRESENCE_TYPES[:-1]:
            for to in (LOBBY, f"{LOBBY}/ann", SERVICE):
                self.ann.sends(presence(type_, to))
        await self.settle()
        heard = [element.toXml() for element in self.ann.received if element.getAttribute("from", "").endswith(SERVICE)]
        self.assertEqual([], heard)
        await self.host.silence(self.ben, self.cat)
        self.ann.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        self.assertEqual(["message"], [element.name for element in self.ben.received])


class Spelling(RoomTestCase):
    async def test_case_makes_no_difference(self) -> None:
        await self.room()
        for to in ("LOBBY@MUCLIGHT.EXAMPLE.ORG", "lObby@muclight.example.org"):
            self.ben.sends(f"<message type='groupchat' id='m' to='{to}'><body>hi</body></message>")
            self.assertEqual(f"{LOBBY}/{BEN}", (await self.ann.receives("message"))["from"])
            reply = await self.get(self.ann, to, NS_AFFILIATIONS)
            self.assertEqual(("result", LOBBY), (reply["type"], reply["from"]))
            self.assertEqual(LOBBY, (await self.create(self.dan, room=to))["from"])

    async def test_internationalised_names(self) -> None:
        await self.room(room=f"Straße.ÄÖ@{SERVICE}")
        self.ben.sends(f"<message type='groupchat' id='m' to='strasse.äö@{SERVICE}'><body>hi</body></message>")
        self.assertEqual(f"strasse.äö@{SERVICE}/{BEN}", (await self.ann.receives("message"))["from"])

    async def test_names_that_no_room_can_have(self) -> None:
        long = "n" * 1024
        for name in ("be n", "a&amp;b", "a&quot;b", "a:b", "&lt;", "\u200e", "\ue000", long, ""):
            for stanza in (
                f"<message type='groupchat' id='x' to='{name}@{SERVICE}'><body>hi</body></message>",
                f"<iq type='set' id='x' to='{name}@{SERVICE}'><query xmlns='{NS_CREATE}'/></iq>",
                f"<iq type='get' id='x' to='{name}@{SERVICE}'><query xmlns='{NS_INFO}'/></iq>",
            ):
                self.ann.sends(stanza)
                reply = await self.ann.receives()
                self.assertEqual(("error", "x"), (reply["type"], reply["id"]), stanza)
                self.assertEqual("jid-malformed", reply.error.firstChildElement().name, stanza)
        await self.host.silence(self.ann)
        self.assertEqual(0, (await self.db.query("SELECT count(*) FROM muc_light_rooms"))[0][0])

    async def test_the_longest_name(self) -> None:
        room = f"{'n' * 1023}@{SERVICE}"
        await self.room(room=room)
        self.ann.sends(f"<message type='groupchat' id='m' to='{room}'><body>hi</body></message>")
        self.assertEqual(f"{room}/{ANN}", (await self.ben.receives("message"))["from"])


class OtherServices(RoomTestCase):
    """A room of one service is none of another's."""

    async def test_a_room_of_the_same_name_is_another_room(self) -> None:
        there = "lobby@muclight.other.example"
        await self.room()
        for namespace in (NS_INFO, NS_CONFIGURATION, NS_AFFILIATIONS):
            self.assertEqual(NOT_FOUND, refusal(await self.get(self.ann, there, namespace)))
        self.assertEqual(NOT_FOUND, refusal(await self.set(self.ann, there, NS_DESTROY)))
        self.ann.sends(f"<message type='groupchat' id='x' to='{there}'><body>hi</body></message>")
        self.assertEqual(NOT_FOUND, refusal(await self.ann.receives("message")))
        reply = await self.create(self.dan, room=there)
        self.assertEqual(("result", there), (reply["type"], reply["from"]))
        self.assertEqual(NOT_FOUND, refusal(await self.get(self.ann, there, NS_INFO)))
        self.assertEqual(NOT_FOUND, refusal(await self.get(self.dan, LOBBY, NS_INFO)))
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members())
        await self.host.silence(self.ann, self.ben, self.cat)

    async def test_where_there_is_no_service(self) -> None:
        """A domain of another host type, which has no rooms."""
        self.host.add_host_type("plain", [], ["third.example"])
        await self.room()
        for domain in ("muclight.third.example", "muclight.fourth.example"):
            reply = await self.create(self.ann, room=f"lobby@{domain}")
            self.assertEqual("remote-server-not-found", reply.error.firstChildElement().name)


class Probing(RoomTestCase):
    """Who is not in a room gets the same bytes as if there were none, whatever he sends."""

    async def test_outsiders_learn_nothing(self) -> None:
        nothing = {}
        for xml, expected in self.operations():
            nothing[xml], reply = await self.answer(xml)
            self.assertEqual(expected, refusal(reply), xml)
        for state in (self.room, self.forgotten, self.told, self.left, self.set_up_again):
            await state()
            for xml, data in nothing.items():
                self.assertEqual(data, (await self.answer(xml))[0], f"{state.__name__}: {xml}")
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members())

    def operations(self) -> Iterator[tuple[str, Refusal]]:
        """Stanzas to the lobby, and what the error to an outsider says."""
        return operations()

    async def answer(self, xml: str) -> tuple[bytes, Any]:
        """What dan gets: bytes, and the element. Nobody else gets anything."""
        sent: list[bytes] = []

        def note(stanza: Any, data: bytes) -> bool:
            sent.append(data)
            return False

        self.dan.gate = note
        self.dan.sends(xml)
        reply = await self.dan.receives()
        self.dan.gate = None
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        (data,) = sent
        return data, reply

    async def forgotten(self) -> None:
        """The room is there, and not in memory."""
        self.rooms.rooms.forget_all()

    async def told(self) -> None:
        """It is in memory."""
        self.ben.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        self.forget()

    async def left(self) -> None:
        """He has been in it."""
        await self.affiliate(self.ann, ("dan@example.org", "member"))
        await self.affiliate(self.dan, ("dan@example.org", "none"))
        await self.settle()
        self.forget()

    async def set_up_again(self) -> None:
        """It has been another one."""
        await self.set(self.ann, LOBBY, NS_DESTROY)
        await self.room()


class ProbingArchives(Probing):
    """Who asks for an archive hears that he may not enter the room, be there one or not."""

    archive: ClassVar[MamConfig | None] = ARCHIVE

    def operations(self) -> Iterator[tuple[str, Refusal]]:
        yield from operations()
        for type_, payload in (
            *(("set", f"<query xmlns='urn:xmpp:mam:{version}'/>") for version in (1, 2)),
            (
                "set",
                "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>x</max></set></query>",
            ),
            *(("get", f"<{name} xmlns='urn:xmpp:mam:2'/>") for name in ("query", "metadata", "prefs")),
            ("set", "<prefs xmlns='urn:xmpp:mam:2' default='always'/>"),
        ):
            yield f"<iq type='{type_}' id='x' to='{LOBBY}'>{payload}</iq>", NO_ENTRY


def operations() -> Iterator[tuple[str, Refusal]]:
    """Those that there are with and without archives."""
    user = "<user affiliation='%s'>%s</user>"
    for content in ("<body>hi</body>", "", "<subject>s</subject>"):
        yield f"<message type='groupchat' id='x' to='{LOBBY}'>{content}</message>", NOT_FOUND
    for namespace in (NS_CONFIGURATION, NS_AFFILIATIONS, NS_INFO):
        for content in ("", "<version/>", "<version>v</version>", "<version>a</version><version>b</version>", "<no/>"):
            yield f"<iq type='get' id='x' to='{LOBBY}'><query xmlns='{namespace}'>{content}</query></iq>", NOT_FOUND
    for namespace, contents in (
        (NS_CONFIGURATION, ("<subject>s</subject>", "<roomname>n</roomname>", "<no/>", "", "<version>v</version>")),
        (NS_AFFILIATIONS, ("", "<user/>", "<no/>", user % ("none", "dan@example.org"), user % ("member", ANN))),
        (
            NS_AFFILIATIONS,
            (user % ("owner", ANN), user % ("none", BEN), user % ("no", BEN), 2 * (user % ("none", BEN))),
        ),
        (NS_DESTROY, ("", "<no/>")),
    ):
        for content in contents:
            yield f"<iq type='set' id='x' to='{LOBBY}'><query xmlns='{namespace}'>{content}</query></iq>", NOT_FOUND
    yield f"<message type='chat' id='x' to='{LOBBY}'><body>hi</body></message>", UNCATEGORIZED
    yield f"<iq type='set' id='x' to='{LOBBY}'><query xmlns='{NS_INFO}'/></iq>", BAD_REQUEST
    yield (
        f"<iq type='set' id='x' to='{LOBBY}'><query xmlns='{NS_CREATE}'><no/></query></iq>",
        (
            *("modify", "bad-request"),
            "Unexpected element no",
        ),
    )
    yield f"<iq type='get' id='x' to='{LOBBY}'><query xmlns='{NS_DISCO_INFO}' node='n'/></iq>", NOT_FOUND
    yield f"<iq type='get' id='x' to='{LOBBY}'><query xmlns='jabber:iq:version'/></iq>", UNKNOWN_IQ
