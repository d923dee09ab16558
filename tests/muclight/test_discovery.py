"""Section 4: what domains, the service and its rooms say of themselves, and the rooms that somebody is in."""

from typing import Any, ClassVar

from twisted.words.xish import domish

from dynxmpp.module import JID, Unavailable
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_MUC_LIGHT
from dynxmpp.protocol.disco_info import NS_DISCO_INFO, NS_DISCO_ITEMS
from dynxmpp.protocol.rsm import NS_RSM
from tests.fixtures.dialogue import TestSession, canonical
from tests.muclight.support import ANN, ARCHIVE, BEN, DOMAIN, LOBBY, SERVICE, RoomTestCase, refusal, seen

NOT_FOUND = ("cancel", "item-not-found", None)


class Asking(RoomTestCase):
    modules: ClassVar[tuple[Any, ...]] = (Disco,)

    async def info(self, session: TestSession, to: str, attributes: str = "") -> domish.Element:
        return await session.asks(f"<iq type='get' id='i' to='{to}'><query xmlns='{NS_DISCO_INFO}'{attributes}/></iq>")

    async def items(self, session: TestSession, to: str, attributes: str = "") -> domish.Element:
        return await session.asks(f"<iq type='get' id='i' to='{to}'><query xmlns='{NS_DISCO_ITEMS}'{attributes}/></iq>")


class Discovery(Asking):
    async def test_the_domain_lists_the_service(self) -> None:
        for domain in self.domains:
            item = f"<item jid='muclight.{domain}' node='{NS_MUC_LIGHT}'/>"
            expected = f"<query xmlns='{NS_DISCO_ITEMS}'>{item}</query>"
            reply = await self.items(self.ann, domain)
            whole = f"<iq type='result' id='i' from='{domain}' to='{ANN}/p'>{expected}</iq>"
            self.assertEqual(seen(whole), canonical(reply))

    async def test_the_service_and_rooms_say_what_they_are_to_everybody(self) -> None:
        await self.room()
        said = (
            f"<query xmlns='{NS_DISCO_INFO}'><identity category='conference' type='text' name='MUC Light'/>"
            f"<feature var='{NS_DISCO_INFO}'/><feature var='{NS_DISCO_ITEMS}'/><feature var='{NS_MUC_LIGHT}'/></query>"
        )
        for session in (self.ann, self.dan):
            for to in (SERVICE, LOBBY, f"nowhere@{SERVICE}"):
                expected = f"<iq type='result' id='i' from='{to}' to='{session.jid.full}'>{said}</iq>"
                self.assertEqual(seen(expected), canonical(await self.info(session, to)))
        await self.host.silence(self.ann, self.ben, self.dan)

    async def test_the_node_of_the_list_is_the_service(self) -> None:
        """XEP-0030 3.2: an item with a node is asked for by it, and the answer mirrors it."""
        await self.room()
        node = f" node='{NS_MUC_LIGHT}'"
        for ask in (self.info, self.items):
            plain, mirrored = await ask(self.ann, SERVICE), await ask(self.ann, SERVICE, node)
            self.assertEqual(NS_MUC_LIGHT, mirrored.query["node"])
            self.assertEqual(canonical(plain.query)[3], canonical(mirrored.query)[3])
            self.assertTrue(mirrored.query.children)
        nothing = await self.items(self.dan, SERVICE, node)
        self.assertEqual((NS_MUC_LIGHT, []), (nothing.query["node"], nothing.query.children))

    async def test_there_are_no_other_nodes(self) -> None:
        await self.room()
        for ask, to in ((self.info, SERVICE), (self.items, SERVICE), (self.info, LOBBY)):
            self.assertEqual(NOT_FOUND, refusal(await ask(self.ann, to, " node='urn:x'")))
        self.assertEqual(NOT_FOUND, refusal(await self.info(self.ann, LOBBY, f" node='{NS_MUC_LIGHT}'")))
        self.assertEqual("result", (await self.info(self.ann, LOBBY, " node=''"))["type"])

    async def test_rooms_have_no_items(self) -> None:
        """The same for members and others: nobody learns from it whether there is a room."""
        await self.room()
        for session in (self.ann, self.dan):
            for to in (LOBBY, f"nowhere@{SERVICE}"):
                empty = f"<query xmlns='{NS_DISCO_ITEMS}'/>"
                expected = f"<iq type='result' id='i' from='{to}' to='{session.jid.full}'>{empty}</iq>"
                self.assertEqual(seen(expected), canonical(await self.items(session, to)))

    async def test_nothing_can_be_set(self) -> None:
        for namespace in (NS_DISCO_INFO, NS_DISCO_ITEMS):
            for to in (SERVICE, LOBBY):
                expected = ("cancel", "feature-not-implemented", "mod_muc_iq returns error")
                self.assertEqual(expected, refusal(await self.set(self.ann, to, namespace)))


class WithArchive(Asking):
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def test_the_archive_is_a_feature_too(self) -> None:
        await self.room()
        for to in (SERVICE, LOBBY, f"nowhere@{SERVICE}"):
            identity, *features = (await self.info(self.dan, to)).query.elements()
            self.assertEqual({"category": "conference", "type": "text", "name": "MUC Light"}, identity.attributes)
            self.assertEqual({"feature"}, {feature.name for feature in features})
            names = [feature["var"] for feature in features]
            self.assertEqual(sorted(set(names)), names)
            archived = {"urn:xmpp:mam:1", "urn:xmpp:mam:2", "urn:xmpp:mam:2#extended", "urn:xmpp:sid:0", NS_RSM}
            self.assertLessEqual({NS_DISCO_INFO, NS_DISCO_ITEMS, NS_MUC_LIGHT} | archived, set(names))


class ArchiveElsewhere(Asking):
    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive(host="conference.@HOST@"))

    async def test_the_archive_of_other_rooms_is_no_feature(self) -> None:
        query = (await self.info(self.ann, SERVICE)).query
        features = [child["var"] for child in query.elements() if child.name == "feature"]
        self.assertEqual([NS_DISCO_INFO, NS_DISCO_ITEMS, NS_MUC_LIGHT], features)


class Occupied(RoomTestCase):
    """disco#items of the service."""

    async def rooms_of(self, session: TestSession, *rooms: str) -> None:
        """Makes rooms that somebody is alone in, called as their names in capitals."""
        for room in rooms:
            config = f"<roomname>{room.upper()}</roomname>"
            reply = await self.create(session, room=f"{room}@{SERVICE}", config=config)
            self.assertEqual("result", reply["type"], reply.toXml())
        await self.settle()
        self.forget()

    async def query(self, session: TestSession, content: str = "", to: str = SERVICE) -> domish.Element:
        """The answer to a request with this content; it must be a result."""
        reply = await self.get(session, to, NS_DISCO_ITEMS, content)
        self.assertEqual(("result", to, session.jid.full), (reply["type"], reply["from"], reply["to"]), reply.toXml())
        return reply.query

    async def page(self, content: str | None = None, session: TestSession | None = None) -> tuple[str, Any]:
        """The names of the rooms on a page (one letter each), and (index, first, last, count) of its <set/>."""
        rsm = "" if content is None else f"<set xmlns='{NS_RSM}'>{content}</set>"
        return await self.shown(await self.query(session or self.ann, rsm))

    async def shown(self, query: domish.Element) -> tuple[str, Any]:
        sets = [child for child in query.elements() if child.uri == NS_RSM]
        items = [child for child in query.elements() if child.name == "item"]
        self.assertEqual([*sets, *items], list(query.elements()), "the <set/> comes first")
        names = "".join(str(item["jid"]).partition("@")[0] for item in items)
        for item in items:
            name = item["jid"].partition("@")[0]
            version = await self.version(f"{name}@{SERVICE}")
            expected = {"jid": f"{name}@{SERVICE}", "name": name.upper(), "version": version}
            self.assertEqual(expected, item.attributes)
        if not sets:
            return names, None
        (element,) = sets
        first, last, count = (getattr(element, name) for name in ("first", "last", "count"))
        ends = (None, None, None) if first is None else (first["index"], _name(first), _name(last))
        return names, (*ends, str(count))

    async def not_found(self, content: str) -> None:
        reply = await self.get(self.ann, SERVICE, NS_DISCO_ITEMS, f"<set xmlns='{NS_RSM}'>{content}</set>")
        self.assertEqual(NOT_FOUND, refusal(reply), content)


def _name(element: domish.Element) -> str:
    name, at, service = str(element).partition("@")
    assert (at, service) == ("@", SERVICE), element.toXml()
    return name


def after(name: str) -> str:
    return f"<after>{name}@{SERVICE}</after>"


def before(name: str) -> str:
    return f"<before>{name}@{SERVICE}</before>"


class Pages(Occupied):
    config: ClassVar[MucLightConfig] = MucLightConfig(rooms_per_page=3)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.rooms_of(self.ann, *"gbadcfe")

    async def test_the_answer_in_full(self) -> None:
        reply = await self.get(self.ann, SERVICE, NS_DISCO_ITEMS, f"<set xmlns='{NS_RSM}'><max>2</max></set>")
        a, b = f"a@{SERVICE}", f"b@{SERVICE}"
        rsm = f"<first index='0'>{a}</first><last>{b}</last><count>7</count>"
        items = f"<item jid='{a}' name='A' version='{await self.version(a)}'/>"
        items += f"<item jid='{b}' name='B' version='{await self.version(b)}'/>"
        query = f"<query xmlns='{NS_DISCO_ITEMS}'><set xmlns='{NS_RSM}'>{rsm}</set>{items}</query>"
        self.assertEqual(seen(f"<iq type='result' id='g' from='{SERVICE}' to='{ANN}/p'>{query}</iq>"), canonical(reply))

    async def test_without_a_set_the_first_page(self) -> None:
        self.assertEqual(("abc", ("0", "a", "c", "7")), await self.page())
        self.assertEqual(("abc", ("0", "a", "c", "7")), await self.page(""))

    async def test_sizes(self) -> None:
        self.assertEqual(("ab", ("0", "a", "b", "7")), await self.page("<max>2</max>"))
        for large in (3, 4, 10**30):
            self.assertEqual(("abc", ("0", "a", "c", "7")), await self.page(f"<max>{large}</max>"))

    async def test_only_the_count(self) -> None:
        nothing = ("", (None, None, None, "7"))
        for content in ("", after("b"), before("b"), "<before/>", "<index>6</index>"):
            self.assertEqual(nothing, await self.page(f"<max>0</max>{content}"))

    async def test_sizes_and_places_that_are_none(self) -> None:
        for wrong in ("-1", "", "two", "1.5", "0x1", "٣"):
            await self.not_found(f"<max>{wrong}</max>")
            await self.not_found(f"<max>2</max><index>{wrong}</index>")

    async def test_the_last_page(self) -> None:
        self.assertEqual(("efg", ("4", "e", "g", "7")), await self.page("<before/>"))
        self.assertEqual(("fg", ("5", "f", "g", "7")), await self.page("<max>2</max><before/>"))

    async def test_before_a_room(self) -> None:
        self.assertEqual(("cde", ("2", "c", "e", "7")), await self.page(before("f")))
        self.assertEqual(("de", ("3", "d", "e", "7")), await self.page(f"<max>2</max>{before('f')}"))

    async def test_before_a_room_with_fewer_before_it(self) -> None:
        """The page is not filled up with the room asked for and those after it."""
        self.assertEqual(("ab", ("0", "a", "b", "7")), await self.page(before("c")))
        self.assertEqual(("", (None, None, None, "7")), await self.page(before("a")))

    async def test_after_a_room(self) -> None:
        self.assertEqual(("cde", ("2", "c", "e", "7")), await self.page(after("b")))
        self.assertEqual(("cd", ("2", "c", "d", "7")), await self.page(f"<max>2</max>{after('b')}"))
        self.assertEqual(("fg", ("5", "f", "g", "7")), await self.page(after("e")))

    async def test_after_the_last_room(self) -> None:
        self.assertEqual(("", (None, None, None, "7")), await self.page(after("g")))

    async def test_from_a_place(self) -> None:
        self.assertEqual(("cde", ("2", "c", "e", "7")), await self.page("<index>2</index>"))
        self.assertEqual(("fg", ("5", "f", "g", "7")), await self.page("<index>5</index>"))
        for place in (7, 8, 10**30):
            await self.not_found(f"<index>{place}</index>")

    async def test_rooms_that_are_not_in_the_list(self) -> None:
        await self.rooms_of(self.ben, "h")
        for address in (f"h@{SERVICE}", f"nowhere@{SERVICE}", "a", "@", SERVICE, f"a@{SERVICE}/x", "a@muclight.x"):
            for name in ("before", "after"):
                await self.not_found(f"<{name}>{address}</{name}>")

    async def test_page_by_page(self) -> None:
        forth, place = "", ""
        while True:
            names, rsm = await self.page(f"<max>2</max>{place}")
            if not names:
                break
            forth += names
            place = after(rsm[2])
        back, place = "", "<before/>"
        while True:
            names, rsm = await self.page(f"<max>2</max>{place}")
            if not names:
                break
            back = names + back
            place = before(rsm[1])
        self.assertEqual(("abcdefg", "abcdefg"), (forth, back))

    async def test_everybody_sees_his_own_rooms(self) -> None:
        await self.rooms_of(self.ben, "h")
        await self.affiliate(self.ann, (BEN, "member"), room=f"c@{SERVICE}")
        self.assertEqual(("ch", ("0", "c", "h", "2")), await self.page(session=self.ben))
        await self.affiliate(self.ann, (BEN, "none"), room=f"c@{SERVICE}")
        self.assertEqual(("h", ("0", "h", "h", "1")), await self.page(session=self.ben))

    async def test_who_is_in_no_room(self) -> None:
        await self.get(self.dan, SERVICE, NS_DISCO_ITEMS)
        for content in (None, "", "<before/>", "<max>0</max>", "<index>0</index>", after("a")):
            self.assertEqual(("", None), await self.page(content, self.dan))

    async def test_rooms_of_other_services_are_not_in_it(self) -> None:
        other = "muclight.other.example"
        reply = await self.create(self.dan, room=f"a@{other}", config="<roomname>There</roomname>")
        self.assertEqual("result", reply["type"])
        self.assertEqual(("", None), await self.page(session=self.dan))
        query = await self.query(self.dan, to=other)
        self.assertEqual([f"a@{other}"], [item["jid"] for item in query.elements() if item.name == "item"])

    async def test_a_room_that_goes_meanwhile(self) -> None:
        """Those that are still there are on the page, and it begins and ends with them."""
        store = self.rooms.rooms.store
        rooms_of = store.rooms_of

        async def slow(*args: Any) -> Any:
            rooms = await rooms_of(*args)
            for name in "ac":
                await store.remove(DOMAIN, JID.parse(f"{name}@{SERVICE}"))
            return rooms

        self.patch(store, "rooms_of", slow)
        self.assertEqual(("b", ("0", "b", "b", "7")), await self.page())

    async def test_without_the_database(self) -> None:
        async def away(*args: Any) -> Any:
            raise Unavailable("away")

        for name in ("describe", "rooms_of"):
            self.patch(self.rooms.rooms.store, name, away)
            reply = await self.get(self.ann, SERVICE, NS_DISCO_ITEMS)
            self.assertEqual(("wait", "internal-server-error", None), refusal(reply))


class DefaultSize(Occupied):
    async def test_ten_rooms(self) -> None:
        await self.rooms_of(self.ann, *"abcdefghijkl")
        self.assertEqual(("abcdefghij", ("0", "a", "j", "12")), await self.page())
        self.assertEqual(("abcdefghij", ("0", "a", "j", "12")), await self.page("<max>11</max>"))
        self.assertEqual(("kl", ("10", "k", "l", "12")), await self.page(after("j")))


class AllAtOnce(Occupied):
    config: ClassVar[MucLightConfig] = MucLightConfig(rooms_per_page=float("inf"))

    async def test_no_set_unless_one_is_asked_for(self) -> None:
        names = "abcdefghijkl"
        await self.rooms_of(self.ann, *names)
        self.assertEqual((names, None), await self.page())
        whole = (names, ("0", "a", "l", "12"))
        self.assertEqual(whole, await self.page(""))
        self.assertEqual(whole, await self.page("<before/>"))
        self.assertEqual(whole, await self.page("<max>12</max>"))
        self.assertEqual(("abc", ("0", "a", "c", "12")), await self.page("<max>3</max>"))
        self.assertEqual(("kl", ("10", "k", "l", "12")), await self.page(after("j")))
        self.assertEqual(("abc", ("0", "a", "c", "12")), await self.page(before("d")))
        self.assertEqual(("", None), await self.page(session=self.dan))


class Names(RoomTestCase):
    async def names(self) -> list[tuple[str, str]]:
        query = (await self.get(self.ann, SERVICE, NS_DISCO_ITEMS)).query
        return [(item["jid"], item["name"]) for item in query.elements() if item.name == "item"]

    async def test_a_room_has_the_name_that_it_was_given_last(self) -> None:
        await self.room(config="<roomname>A &lt;&amp;'\" ß</roomname>")
        self.assertEqual([(LOBBY, "A <&'\" ß")], await self.names())
        await self.configure(self.ann, "<roomname>B</roomname>")
        self.assertEqual([(LOBBY, "B")], await self.names())

    async def test_the_default(self) -> None:
        await self.room()
        self.assertEqual([(LOBBY, "Untitled")], await self.names())


class WithoutNames(Names):
    """A schema that has no names: rooms are called by their localparts."""

    config: ClassVar[MucLightConfig] = MucLightConfig(config_schema=(RoomField(field="topic", string_value=""),))

    async def test_a_room_has_the_name_that_it_was_given_last(self) -> None:
        await self.room(config="<topic>x</topic>")
        self.assertEqual([(LOBBY, "lobby")], await self.names())

    async def test_the_default(self) -> None:
        await self.room(room=f"a+b@{SERVICE}")
        self.assertEqual([(f"a+b@{SERVICE}", "a+b")], await self.names())


class OtherKey(Names):
    """The name is the field with this internal key, whatever it is called."""

    config: ClassVar[MucLightConfig] = MucLightConfig(
        config_schema=(RoomField(field="title", string_value="New", internal_key="roomname"),)
    )

    async def test_a_room_has_the_name_that_it_was_given_last(self) -> None:
        await self.room(config="<title>A</title>")
        self.assertEqual([(LOBBY, "A")], await self.names())
        await self.configure(self.ann, "<title/>")
        self.assertEqual([(LOBBY, "")], await self.names())

    async def test_the_default(self) -> None:
        await self.room()
        self.assertEqual([(LOBBY, "New")], await self.names())


class Unlisted(RoomTestCase):
    """Domains without rooms list no service."""

    modules: ClassVar[tuple[Any, ...]] = (Disco,)

    async def test_another_host_type(self) -> None:
        self.host.add_host_type("plain", [Disco], ["third.example"])
        reply = await self.get(self.ann, "third.example", NS_DISCO_ITEMS)
        self.assertEqual([], list(reply.query.elements()))
        reply = await self.get(self.ann, "muclight.third.example", NS_DISCO_INFO)
        self.assertEqual(("cancel", "remote-server-not-found"), _condition(reply))

    async def test_a_domain_of_the_same_name_is_no_service(self) -> None:
        self.host.domains.insert(SERVICE, "basic")
        reply = await self.get(self.ann, DOMAIN, NS_DISCO_ITEMS)
        self.assertEqual([], list(reply.query.elements()))


def _condition(reply: domish.Element) -> tuple[str, str]:
    error = reply.error
    return error["type"], error.firstChildElement().name
