"""Section 6: what members say, and to whom it comes."""

from typing import Any, ClassVar

from dynxmpp.module import Transaction
from dynxmpp.modules.carbons import Carbons
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_DESTROY, NS_INFO
from dynxmpp.modules.offline import Offline
from tests.fixtures.dialogue import TestSession, canonical
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, DAN, LOBBY, SERVICE, RoomTestCase, refusal, seen

NOT_FOUND = ("cancel", "item-not-found", None)


def said(author: str, to: str, content: str, *, id_: str = "m1", room: str = LOBBY) -> Any:
    """What a member gets."""
    return seen(f"<message type='groupchat' id='{id_}' from='{room}/{author}' to='{to}'>{content}</message>")


class MessageTestCase(RoomTestCase):
    def say(self, session: TestSession, content: str = "<body>hi</body>", *, attributes: str = "id='m1'") -> None:
        session.sends(f"<message type='groupchat' {attributes} to='{LOBBY}'>{content}</message>")

    async def says(self, session: TestSession, content: str = "<body>hi</body>") -> dict[str, list[Any]]:
        """What everybody gets because of it."""
        self.forget()
        self.say(session, content)
        await self.settle()
        return self.heard()


class Messages(MessageTestCase):
    async def test_to_all_members_the_sender_included(self) -> None:
        await self.room()
        content = "<body>hi</body><x xmlns='urn:x:custom'/>"
        for session in (self.ann, self.ben):
            expected = {to: [said(session.jid.bare, to, content)] for to in (ANN, BEN, CAT)}
            self.assertEqual(expected, await self.says(session, content))

    async def test_all_of_the_content_is_passed_on(self) -> None:
        await self.room()
        for content in (
            "",
            "<body/>",
            "<subject>nothing special</subject>",
            "<body xml:lang='de'>h&amp;i &lt;b&gt; &#x1F600;</body><body xml:lang='en'>hi</body><thread>t</thread>",
            "<body><![CDATA[<a&b>]]></body><a xmlns='urn:a'><b xmlns=''/><c xmlns='urn:c' d='&quot;'/>x</a>",
            "<p:a xmlns:p='urn:p' p:b='c'/><error xmlns='urn:e'/>",
            "<active xmlns='http://jabber.org/protocol/chatstates'/><store xmlns='urn:xmpp:hints'/>",
            f"<x xmlns='{NS_AFFILIATIONS}'><version>v</version><user affiliation='none'>{BEN}</user></x><body/>",
            "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='somebody@else'/></x>",
            "<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/><origin-id xmlns='urn:xmpp:sid:0' id='o'/>",
        ):
            expected = {to: [said(ANN, to, content)] for to in (ANN, BEN, CAT)}
            self.assertEqual(expected, await self.says(self.ann, content), content)

    async def test_prefixes_of_the_message_go_with_it(self) -> None:
        await self.room()
        self.say(self.ann, "<p:a q:b='c'/>", attributes="id='m1' xmlns:p='urn:p' xmlns:q='urn:q'")
        expected = said(ANN, BEN, "<a xmlns='urn:p' q:b='c' xmlns:q='urn:q'/>")
        self.assertEqual(expected, canonical(await self.ben.receives("message")))

    async def test_attributes_stay_behind(self) -> None:
        await self.room()
        self.say(self.ann, attributes="id='m1' xml:lang='de' x='y' xmlns:p='urn:p' p:z='1'")
        self.assertEqual(said(ANN, BEN, "<body>hi</body>"), canonical(await self.ben.receives("message")))

    async def test_a_message_without_an_id_is_given_one(self) -> None:
        await self.room()
        ids = set()
        for attributes in ("", "", "id=''"):
            self.say(self.ann, attributes=attributes)
            await self.settle()
            copies = [session.received.popleft() for session in (self.ann, self.ben, self.cat)]
            (id_,) = {copy["id"] for copy in copies}
            self.assertTrue(id_)
            ids.add(id_)
        self.assertEqual(3, len(ids))

    async def test_an_id_of_all_characters(self) -> None:
        await self.room()
        self.say(self.ann, attributes="id='&lt;&apos;&quot;&amp;&gt;\u20ac'")
        self.assertEqual("<'\"&>\u20ac", (await self.ben.receives("message"))["id"])

    async def test_outsiders_learn_nothing(self) -> None:
        await self.room()
        for to in (LOBBY, f"nowhere@{SERVICE}"):
            self.dan.sends(f"<message type='groupchat' id='m1' to='{to}'><body>hi</body></message>")
            error = await self.dan.receives("message")
            self.assertEqual(NOT_FOUND, refusal(error))
            self.assertEqual((to, "m1"), (error["from"], error["id"]))
        await self.host.silence(self.ann, self.dan)

    async def test_in_order(self) -> None:
        """The first finds the room on the disk, those after it in memory."""
        await self.room()
        self.rooms.rooms.forget_all()
        for number in range(20):
            self.say(self.ann, attributes=f"id='m{number}'")
        await self.settle()
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual([f"m{number}" for number in range(20)], [copy["id"] for copy in session.received])

    async def test_before_and_after_a_change(self) -> None:
        """What somebody sends one after the other happens in this order."""
        await self.room()
        self.rooms.rooms.forget_all()
        self.say(self.ann, attributes="id='1'")
        user = f"<user affiliation='none'>{BEN}</user>"
        self.ann.sends(f"<iq type='set' id='2' to='{LOBBY}'><query xmlns='{NS_AFFILIATIONS}'>{user}</query></iq>")
        self.say(self.ann, attributes="id='3'")
        await self.settle()
        self.assertEqual(["1", "2"], [copy["id"] for copy in self.ben.received])
        self.assertEqual(["1", "2", "3"], [copy["id"] for copy in self.cat.received])
        self.assertEqual(["1", "2", "2", "3"], [copy["id"] for copy in self.ann.received])


class Devices(MessageTestCase):
    async def test_all_that_take_messages_get_it(self) -> None:
        """Not only those of the highest priority."""
        high, low = self.online(f"{BEN}/high", 5), self.online(f"{BEN}/low")
        negative, unavailable = self.online(f"{BEN}/negative", -1), self.host.session(f"{BEN}/unavailable")
        await self.room(BEN)
        self.say(self.ann)
        for session in (self.ben, high, low, self.ann):
            to = session.jid.bare
            self.assertEqual(said(ANN, to, "<body>hi</body>"), canonical(await session.receives("message")))
        await self.host.silence(self.ann, self.ben, high, low, negative, unavailable)

    async def test_of_the_sender_too(self) -> None:
        other = self.online(f"{ANN}/other", 1)
        await self.room(BEN)
        self.ann.priority = -1
        self.say(self.ann)
        self.assertEqual(said(ANN, ANN, "<body>hi</body>"), canonical(await other.receives("message")))
        await self.host.silence(self.ann, other)


class OfflineMembers(MessageTestCase):
    migrations = (*RoomTestCase.migrations, *Offline.migrations)
    modules: ClassVar[tuple[Any, ...]] = (Offline,)

    async def test_nothing_is_kept_or_sent_back(self) -> None:
        self.host.accounts.names.add("eve@example.org")
        await self.room(BEN, "eve@example.org", "ghost@example.org", "far@elsewhere.test", "ghost@other.example")
        self.ben.leaves()
        heard = await self.says(self.ann)
        self.assertEqual({ANN: [said(ANN, ANN, "<body>hi</body>")]}, heard)
        ben = self.online(f"{BEN}/again")
        self.host.type_of("example.org").session_available(ben)
        await self.host.silence(self.ann, ben)
        self.assertEqual([(0,)], await self.db.query("SELECT count(*) FROM offline_message"))


class Ids(MessageTestCase):
    """XEP-0359: nobody speaks for the room."""

    forged = (
        f"<stanza-id xmlns='urn:xmpp:sid:0' by='{LOBBY}' id='1'/>"
        "<stanza-id xmlns='urn:xmpp:sid:0' by='LOBBY@muclight.example.org' id='2'/>"
    )
    others = (
        f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ANN}' id='3'/>"
        f"<stanza-id xmlns='urn:xmpp:sid:0' by='{LOBBY}/{ANN}' id='4'/>"
        f"<stanza-id xmlns='urn:x' by='{LOBBY}' id='5'/>"
    )

    async def test_forged_ones_are_taken_out(self) -> None:
        await self.room()
        heard = await self.says(self.ann, f"{self.forged}<body>hi</body>{self.others}")
        content = f"<body>hi</body>{self.others}"
        self.assertEqual({to: [said(ANN, to, content)] for to in (ANN, BEN, CAT)}, heard)


class ArchivedIds(Ids):
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def test_forged_ones_are_taken_out(self) -> None:
        await self.room()
        self.say(self.ann, f"{self.forged}<body>hi</body>{self.others}")
        await self.settle()
        copies = [session.received.popleft() for session in (self.ann, self.ben, self.cat)]
        (id_,) = {list(copy.elements())[-1]["id"] for copy in copies}
        self.assertNotIn(id_, ("1", "2", "3", "4", "5"))
        content = f"<body>hi</body>{self.others}<stanza-id xmlns='urn:xmpp:sid:0' by='{LOBBY}' id='{id_}'/>"
        for to, copy in zip((ANN, BEN, CAT), copies, strict=True):
            self.assertEqual(said(ANN, to, content), canonical(copy))

    async def test_what_is_not_kept_has_none(self) -> None:
        await self.room()
        content = "<active xmlns='http://jabber.org/protocol/chatstates'/>"
        heard = await self.says(self.ann, self.forged + content)
        self.assertEqual({to: [said(ANN, to, content)] for to in (ANN, BEN, CAT)}, heard)


class InBetween(MessageTestCase):
    """Members change while they speak."""

    async def test_who_has_been_removed(self) -> None:
        await self.room()
        self.say(self.ben)
        await self.affiliate(self.ann, (BEN, "none"))
        self.forget()
        self.say(self.ben)
        self.assertEqual(NOT_FOUND, refusal(await self.ben.receives("message")))
        await self.host.silence(self.ann, self.ben, self.cat)
        self.assertEqual({ANN, CAT}, (await self.says(self.ann)).keys())

    async def test_who_has_been_added(self) -> None:
        await self.room()
        self.say(self.dan)
        await self.affiliate(self.ann, (DAN, "member"))
        expected = {to: [said(DAN, to, "<body>hi</body>")] for to in (ANN, BEN, CAT, DAN)}
        self.assertEqual(expected, await self.says(self.dan))

    async def test_while_he_is_being_removed(self) -> None:
        """He is a member until it is committed; from then on he is told that he is none, and nobody hears him."""
        await self.room()
        user = f"<user affiliation='none'>{BEN}</user>"

        async def meanwhile(transaction: Transaction) -> None:
            await transaction.query("SELECT FROM muc_light_rooms FOR UPDATE")
            self.ann.sends(f"<iq type='set' id='2' to='{LOBBY}'><query xmlns='{NS_AFFILIATIONS}'>{user}</query></iq>")
            self.say(self.ben, attributes="id='1'")
            self.assertEqual(["1"], [element["id"] for element in self.cat.received])

        await self.db.transaction(meanwhile)
        await self.settle()
        self.say(self.ben, attributes="id='3'")
        await self.settle()
        self.assertEqual(["1", "2"], [element["id"] for element in self.cat.received])
        self.assertEqual(["1", "2", "2"], [element["id"] for element in self.ann.received])
        self.assertEqual(["1", "2", "3"], [element["id"] for element in self.ben.received])
        self.assertEqual(NOT_FOUND, refusal(self.ben.received[-1]))

    async def test_on_another_node(self) -> None:
        """It is told of the change, and asks the database again."""
        await self.room()
        other = await self.start_host(self.config)
        ben = other.session(f"{BEN}/there")
        ben.available = True
        ben.sends(f"<message type='groupchat' id='m1' to='{LOBBY}'><body>hi</body></message>")
        self.assertEqual(said(BEN, BEN, "<body>hi</body>"), canonical(await ben.receives("message")))
        await self.affiliate(self.ann, (BEN, "none"))
        rooms: Any = other.host_types[0].modules["mod_muc_light"]
        rooms.rooms.announced(f"{await self.version()} {LOBBY}")
        ben.sends(f"<message type='groupchat' id='m2' to='{LOBBY}'><body>hi</body></message>")
        self.assertEqual(NOT_FOUND, refusal(await ben.receives("message")))

    async def test_a_room_that_is_gone(self) -> None:
        await self.room()
        self.say(self.ben)
        await self.set(self.ann, LOBBY, NS_DESTROY)
        self.forget()
        for session in (self.ann, self.ben, self.dan):
            self.say(session)
            self.assertEqual(NOT_FOUND, refusal(await session.receives("message")))
        await self.host.silence(self.ann, self.ben, self.cat)


class OtherDomains(MessageTestCase):
    """Members are where they are: below the same host type, or one that has no rooms."""

    async def test_they_hear_and_speak(self) -> None:
        self.host.add_host_type("plain", [], ["third.example"])
        strangers = [self.online(f"{address}/p") for address in ("eve@other.example", "fay@third.example")]
        eve, fay = (session.jid.bare for session in strangers)
        await self.room(BEN, eve, fay)
        for session in (self.ann, *strangers):
            expected = {to: [said(session.jid.bare, to, "<body>hi</body>")] for to in (ANN, BEN, eve, fay)}
            self.assertEqual(expected, await self.says(session))
        for session in strangers:
            reply = await self.get(session, LOBBY, NS_INFO)
            self.assertEqual(("result", LOBBY, session.jid.full), (reply["type"], reply["from"], reply["to"]))
            self.assertEqual("result", (await self.affiliate(session, (session.jid.bare, "none")))["type"])
        self.assertEqual({ANN: "owner", BEN: "member"}, await self.members())

    async def test_they_may_have_rooms_here(self) -> None:
        self.host.add_host_type("plain", [], ["third.example"])
        fay = self.online("fay@third.example/p")
        self.assertEqual("result", (await self.create(fay, BEN))["type"])
        self.forget()
        expected = {to: [said(BEN, to, "<body>hi</body>")] for to in (BEN, "fay@third.example")}
        self.assertEqual(expected, await self.says(self.ben))


class RoomsInRooms(MessageTestCase):
    """A room that somebody makes a member of another one hears nothing, and says nothing."""

    async def test_nothing_goes_round(self) -> None:
        den, there = f"den@{SERVICE}", "den@muclight.other.example"
        await self.room(BEN, den, there, LOBBY, f"nowhere@{SERVICE}")
        for room in (den, there):
            self.assertEqual("result", (await self.create(self.ann, CAT, LOBBY, den, there, room=room))["type"])
        for _ in range(2):
            heard = await self.says(self.ann)
            self.assertEqual({to: [said(ANN, to, "<body>hi</body>")] for to in (ANN, BEN)}, heard)
            self.rooms.rooms.forget_all()
        reply = await self.affiliate(self.ann, (den, "none"), (there, "owner"))
        self.assertEqual("result", reply["type"])
        reply = await self.configure(self.ann, "<subject>s</subject>", room=den)
        self.assertEqual("result", reply["type"])
        await self.settle()
        self.assertEqual(["message"] * 1, [element.name for element in self.ben.received])
        self.assertEqual({LOBBY}, {element["from"] for element in self.ben.received})
        self.assertEqual({den}, {element["from"] for element in self.cat.received})


class Copies(MessageTestCase):
    """XEP-0280 6.1: what is said in rooms is not copied; the room sends it to all devices."""

    modules: ClassVar[tuple[Any, ...]] = (Carbons,)

    async def with_copies(self, jid: str, priority: int) -> TestSession:
        session = self.online(jid, priority)
        reply = await session.asks("<iq type='set' id='e'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.assertEqual("result", reply["type"])
        return session

    async def test_one_to_each_device(self) -> None:
        sessions = [await self.with_copies(f"{who}/{n}", n) for who in (ANN, BEN) for n in (1, 0, -1)]
        await self.room(BEN)
        self.say(self.ann)
        for session in (*sessions, self.ann, self.ben):
            if session.priority >= 0:
                expected = said(ANN, session.jid.bare, "<body>hi</body>")
                self.assertEqual(expected, canonical(await session.receives("message")))
        await self.host.silence(self.ann, self.ben, *sessions)

    async def test_errors_go_to_the_device_that_spoke(self) -> None:
        other = await self.with_copies(f"{DAN}/other", 1)
        self.say(self.dan)
        self.assertEqual(NOT_FOUND, refusal(await self.dan.receives("message")))
        await self.host.silence(self.dan, other)
