"""Section 5: rooms are made."""

from twisted.internet.defer import Deferred, gatherResults
from twisted.words.xish import domish

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.names import NS_CREATE, NS_DESTROY
from dynxmpp.modules.muc_light.requests import MAX_CHANGES
from tests.fixtures.dialogue import canonical
from tests.muclight.creations import CreationTestCase, fields, users, welcome
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, error, refusal, result

TWICE = "Cannot change affiliation for the same user twice in the same request"


class Named(CreationTestCase):
    async def test_the_example(self) -> None:
        configuration = fields("<roomname>Lobby</roomname>")
        await self.made(configuration + users(ben="member", cat="member"), ann="owner", ben="member", cat="member")
        self.assertEqual([("roomname", "Lobby"), ("subject", "")], await self.config_of())

    async def test_in_the_other_order(self) -> None:
        configuration = fields("<subject>S</subject>")
        await self.made(users(ben="member") + configuration, ann="owner", ben="member")
        self.assertEqual([("roomname", "Untitled"), ("subject", "S")], await self.config_of())

    async def test_nothing_is_needed(self) -> None:
        for content in ("", fields(""), users(), fields("") + users(), users() + fields(""), " \n "):
            await self.made(content, ann="owner")
            self.assertEqual([("roomname", "Untitled"), ("subject", "")], await self.config_of())
            await self.set(self.ann, LOBBY, NS_DESTROY)

    async def test_elements_of_other_namespaces_are_passed_over(self) -> None:
        other = "<x xmlns='urn:x'><occupants/></x>"
        inner = f"{other}<user affiliation='member'>{BEN}</user>{other}"
        content = f"{other}<configuration>{other}</configuration><occupants>{inner}</occupants>"
        await self.made(content, ann="owner", ben="member")

    async def test_the_notices_come_before_the_result(self) -> None:
        heard = await self.makes(users(ben="member"))
        self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard[ANN]])
        self.assertEqual(["message"], [stanza[1] for stanza in heard[BEN]])

    async def test_all_of_the_creators_clients_hear_of_it(self) -> None:
        other, away = self.online(f"{ANN}/other", priority=5), self.host.session(f"{ANN}/away")
        self.assertEqual("result", (await self.create(self.ann))["type"])
        self.assertEqual(LOBBY, (await other.receives("message"))["from"])
        await self.host.silence(other, away)

    async def test_versions_differ(self) -> None:
        versions = set()
        for number in range(5):
            await self.room(room=f"room{number}@{SERVICE}")
            versions.add(await self.version(f"room{number}@{SERVICE}"))
        self.assertEqual(5, len(versions))
        self.assertEqual({16}, {len(version) for version in versions})

    async def test_another_owner(self) -> None:
        await self.made(users(ben="owner", cat="member"), ann="member", ben="owner", cat="member")

    async def test_members_of_other_domains_and_such_that_there_are_not(self) -> None:
        eve = self.online("eve@other.example/p")
        strangers = ("eve@other.example", "ghost@example.org", "far@elsewhere.test", f"room@{SERVICE}")
        entries = "".join(f"<user affiliation='member'>{address}</user>" for address in strangers)
        heard = await self.makes(f"<occupants>{entries}</occupants>")
        version = await self.version()
        self.assertEqual([welcome("eve@other.example", "member", version)], heard["eve@other.example"])
        self.assertEqual([welcome(ANN, "owner", version), result(ANN)], heard[ANN])
        self.assertEqual({ANN, "eve@other.example"}, heard.keys())
        self.assertEqual(dict.fromkeys(sorted({ANN, *strangers}), "member") | {ANN: "owner"}, await self.members())
        await self.host.silence(eve)

    async def test_a_full_address_stands_for_the_account(self) -> None:
        content = "<occupants><user affiliation='member'>BEN@example.org/phone</user></occupants>"
        await self.made(content, ann="owner", ben="member")

    async def test_rooms_of_another_domains_service(self) -> None:
        """Whoever may reach it may have rooms there."""
        there = "lobby@muclight.other.example"
        self.assertEqual("result", (await self.create(self.ann, BEN, room=there))["type"])
        self.assertEqual(there, (await self.ben.receives("message"))["from"])
        self.assertEqual({}, await self.members())
        stored = await self.rooms.rooms.store.load("other.example", JID.parse(there))
        self.assertIsNotNone(stored)

    async def test_the_id_may_be_anything(self) -> None:
        self.ann.sends(f"<iq type='set' id='&lt;&apos;&amp;&quot;&gt;' to='{LOBBY}'><query xmlns='{NS_CREATE}'/></iq>")
        await self.settle()
        self.assertEqual(["<'&\">"] * 2, [element["id"] for element in self.ann.received])


class Unnamed(CreationTestCase):
    async def test_the_server_finds_a_name(self) -> None:
        heard = await self.makes(users(ben="member"), to=SERVICE)
        ((_, _, attributes, _),) = heard[BEN]
        room = dict(attributes)["from"]
        self.assertRegex(room, rf"^[0-9a-f]{{32}}@{SERVICE}$")
        version = await self.version(room)
        expected = {
            ANN: [welcome(ANN, "owner", version, room), result(ANN, sender=SERVICE)],
            BEN: [welcome(BEN, "member", version, room)],
        }
        self.assertEqual(expected, heard)
        self.assertEqual({ANN: "owner", BEN: "member"}, await self.members(room))

    async def test_another_one_each_time(self) -> None:
        rooms = set()
        for _ in range(5):
            self.assertEqual("result", (await self.set(self.ann, SERVICE, NS_CREATE))["type"])
            rooms.add((await self.ann.receives("message"))["from"])
        self.assertEqual(5, len(rooms))

    async def test_errors_come_from_the_service(self) -> None:
        heard = await self.makes(users(ann="member"), to=SERVICE)
        text = "The creator is not to be listed"
        self.assertEqual({ANN: [error(ANN, "bad-request", text, type_="modify", sender=SERVICE)]}, heard)


class Refusals(CreationTestCase):
    async def test_occupants(self) -> None:
        ben = f"<user affiliation='member'>{BEN}</user>"
        for content, text in (
            (users(ann="member"), "The creator is not to be listed"),
            (users(ann="owner"), "The creator is not to be listed"),
            (
                "<occupants><user affiliation='member'>ANN@example.org/x</user></occupants>",
                "The creator is not to be listed",
            ),
            (users(ben="none"), "Meaningless change"),
            (users(ben="owner", cat="owner"), "Failed to demote old owner"),
            (f"<occupants>{ben}{ben}</occupants>", TWICE),
            (f"<occupants>{ben}<user affiliation='owner'>Ben@example.org/p</user></occupants>", TWICE),
            ("<occupants><user affiliation='admin'>ben@example.org</user></occupants>", MAY_BE),
            ("<occupants><user affiliation=''>ben@example.org</user></occupants>", MAY_BE),
            ("<occupants><user>ben@example.org</user></occupants>", MAY_BE),
            ("<occupants><user affiliation='member'/></occupants>", "Not an address"),
            ("<occupants><user affiliation='member'>be n@example.org</user></occupants>", "Not an address"),
            (f"<occupants><user affiliation='member'>{'b' * 1024}@example.org</user></occupants>", "Not an address"),
            ("<occupants><user affiliation='member'>example.org</user></occupants>", NO_ACCOUNT),
            ("<occupants><user affiliation='member'><jid/></user></occupants>", "Elements inside of user"),
            ("<occupants><item>ben@example.org</item></occupants>", "Unexpected element item"),
        ):
            await self.refused(content, text)

    async def test_structure(self) -> None:
        for content, text in (
            ("<users/>", "Unexpected element users"),
            ("<version>1</version>", "Unexpected element version"),
            (f"<user affiliation='member'>{BEN}</user>", "Unexpected element user"),
            ("<roomname>x</roomname>", "Unexpected element roomname"),
            (2 * users(ben="member"), "More than one element occupants"),
            (2 * fields(""), "More than one element configuration"),
        ):
            await self.refused(content, text)

    async def test_configuration(self) -> None:
        for content, text in (
            ("<background>blue</background>", "background:not_found"),
            ("<version>1</version>", "version:not_found"),
            ("<prev-version>1</prev-version>", "prev-version:not_found"),
            ("<roomname><b/></roomname>", "roomname:type_error"),
            ("<roomname>x</roomname><subject>a<b/></subject>", "subject:type_error"),
        ):
            await self.refused(fields(content) + users(ben="member"), text)

    async def test_longer_lists_than_anybody_writes(self) -> None:
        """They are refused before anything is done with what is in them; streams bound those that are longer still."""
        text = f"More than {MAX_CHANGES} entries"
        for many in (MAX_CHANGES + 1, 9000):
            await self.refused(f"<occupants>{'<user/>' * many}</occupants>", text)
            await self.refused(f"<configuration>{'<roomname/>' * many}</configuration>", text)
        entries = "".join(f"<user affiliation='member'>u{n}@x</user>" for n in range(MAX_CHANGES + 1))
        await self.refused(f"<occupants>{entries}</occupants>", text)

    async def test_as_long_as_a_list_may_be(self) -> None:
        entries = "".join(f"<user affiliation='member'>u{n}@example.org</user>" for n in range(MAX_CHANGES))
        heard = await self.makes(f"<occupants>{entries}</occupants>")
        self.assertEqual({ANN: [welcome(ANN, "owner", await self.version()), result(ANN)]}, heard)
        self.assertEqual(MAX_CHANGES + 1, len(await self.members()))

    async def test_the_room_exists(self) -> None:
        """Whoever asks, and in it nothing changes."""
        await self.room(config="<roomname>First</roomname>")
        before = await self.members(), await self.version()
        for session in (self.ann, self.ben, self.dan):
            heard = await self.makes(fields("<roomname>Second</roomname>") + users(eve="member"), who=session)
            address = session.jid.bare
            self.assertEqual({address: [error(address, "conflict", "Room already exists")]}, heard)
        self.assertEqual(before, (await self.members(), await self.version()))
        self.assertEqual([("roomname", "First"), ("subject", "")], await self.config_of())

    async def test_the_name_is_free_again_when_the_room_is_destroyed(self) -> None:
        await self.room(config="<roomname>First</roomname>")
        await self.set(self.ann, LOBBY, NS_DESTROY)
        await self.made(users(cat="member"), ann="owner", cat="member")
        self.assertEqual([("roomname", "Untitled"), ("subject", "")], await self.config_of())


MAY_BE = "The affiliation must be owner, member or none"
NO_ACCOUNT = "Not the address of an account or a room"


class Races(CreationTestCase):
    """Of two who want a name at once one gets it."""

    async def test_on_one_node(self) -> None:
        for session in (self.ann, self.ben, self.cat, self.dan):
            session.sends(f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_CREATE}'/></iq>")
        await self.settle()
        self.check()
        self.assertEqual({ANN: "owner"}, await self.members())

    async def test_on_two_nodes(self) -> None:
        first, second = self.host, await self.start_host(self.config)
        sessions = {host: host.session(f"{who}/p") for host, who in ((first, CAT), (second, DAN))}
        for session in sessions.values():
            session.available = True
        waiting = [
            Deferred.fromCoroutine(
                session.asks(f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_CREATE}'/></iq>")
            )
            for session in sessions.values()
        ]
        replies: list[domish.Element] = await gatherResults(waiting)
        self.assertEqual(["error", "result"], sorted(reply["type"] for reply in replies))
        for session, reply in zip(sessions.values(), replies, strict=True):
            if reply["type"] == "error":
                self.assertEqual(("cancel", "conflict", "Room already exists"), refusal(reply))
                await session.host.silence(session)
            else:
                self.assertEqual({session.jid.bare: "owner"}, await self.members())
                self.assertEqual(
                    welcome(session.jid.bare, "owner", await self.version()), canonical(session.received[0])
                )

    def check(self) -> None:
        """The first has the room, the others an error, and nobody else a notice."""
        heard = self.heard()
        self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard.pop(ANN)])
        self.assertEqual({BEN, CAT, DAN}, heard.keys())
        for address, stanzas in heard.items():
            self.assertEqual([error(address, "conflict", "Room already exists")], stanzas)
