"""The administration of rooms: what REST answers, and what the members see of it."""

from typing import Any, ClassVar
from urllib.parse import quote

from twisted.words.xish import domish

from dynxmpp.module import JID, Unavailable
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.rooms import RoomsApi
from dynxmpp.rest.site import Mount
from tests.fixtures.dialogue import TestSession
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, DAN, LOBBY, SERVICE, RoomTestCase
from tests.rest.server import HttpTestCase

ROOMS = "/api/muc-lights/example.org"
ROOM = f"{ROOMS}/lobby"
NEW = {"id": "lobby", "name": "Lobby", "owner": ANN, "members": [BEN, CAT]}
NOTHING: dict[str, Any] = {}


class RestRooms(RoomTestCase, HttpTestCase):
    """`/api` in the dialect of 5.0, `/six` in the later one."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host.add_host_type("without rooms", [], ["plain.example"])
        api = RoomsApi(self.host.domains)
        self.port = self.listen(
            [Mount(dialect, host="_", path=path, apis=[api]) for dialect, path in ((FIVE, "/api"), (SIX, "/six"))]
        )

    async def says(self, method: str, path: str, body: Any, status: int, text: str | None = None) -> None:
        """What is asked gives this status, and an empty body or this text of an error."""
        expected = None if text is None else {"what": text}
        self.assertEqual((await self.ask(method, path, body)).outcome, (status, expected), (path, body))

    async def make(self, **changes: Any) -> Any:
        """A room of ann's with ben and cat; the notices have been taken."""
        answer = await self.ask("PUT", ROOMS, {**NEW, **changes})
        self.assertEqual(answer.status, 201, answer.body)
        await self.settle()
        self.forget()
        return answer.body

    async def room_as_shown(self) -> Any:
        answer = await self.ask("GET", ROOM)
        self.assertEqual(answer.status, 200)
        return answer.body

    async def affiliations(self) -> dict[str, str]:
        return {member["user"]: member["affiliation"] for member in (await self.room_as_shown())["members"]}

    def participant(self, user: str) -> str:
        return f"{ROOM}/participants/{quote(user, safe='')}"

    async def notice(self, session: TestSession) -> list[domish.Element]:
        """What is in the first <x/> of the notice that this session has got."""
        self.assertTrue(session.received, f"nothing for {session.jid}")
        message = await session.receives("message")
        self.assertEqual((message["from"], message["type"]), (LOBBY, "groupchat"))
        x = next(message.elements())
        return list(x.elements())

    async def told(self, session: TestSession) -> list[tuple[str, str]]:
        """The affiliations in the notice that this session has got."""
        users = [child for child in await self.notice(session) if child.name == "user"]
        return [(str(user), user["affiliation"]) for user in users]


class Creation(RestRooms):
    async def test_with_a_name(self) -> None:
        answer = await self.ask("PUT", ROOMS, {**NEW, "id": "Lobby", "subject": "Tea", "members": [BEN, f"{CAT}/p"]})
        self.assertEqual(answer.status, 201)
        version = answer.body.pop("version")
        self.assertEqual(version, await self.version())
        members = [{"user": ANN, "affiliation": "owner"}, *({"user": u, "affiliation": "member"} for u in (BEN, CAT))]
        config = {"roomname": "Lobby", "subject": "Tea"}
        self.assertEqual(answer.body, {"id": "lobby", "jid": LOBBY, "members": members, "config": config})
        self.assertEqual(answer.headers.getRawHeaders("Location"), ["example.org/lobby"])
        self.assertEqual(await self.room_as_shown(), {**answer.body, "version": version})
        self.assertEqual(await self.told(self.ann), [(ANN, "owner")])
        self.assertEqual(await self.told(self.ben), [(BEN, "member")])
        self.assertEqual(await self.told(self.cat), [(CAT, "member")])
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        await self.says("PUT", ROOMS, NEW, 409, "room already exists")

    async def test_below_the_name_of_the_service(self) -> None:
        """Programs that were written for other servers give that instead of the domain."""
        path = f"/api/muc-lights/{SERVICE}"
        self.assertEqual(201, (await self.ask("PUT", path, NEW)).status)
        shown = await self.ask("GET", f"{path}/lobby")
        self.assertEqual((200, LOBBY), (shown.status, shown.body["jid"]))
        self.assertEqual(404, (await self.ask("GET", "/api/muc-lights/muclight.plain.example")).status)

    async def test_without_a_name(self) -> None:
        answer = await self.ask("POST", ROOMS, {"name": "Tea", "owner": ANN})
        self.assertEqual(answer.status, 201)
        name = answer.body["id"]
        self.assertRegex(name, "^[0-9a-f]{32}$")
        self.assertEqual(answer.body["jid"], f"{name}@{SERVICE}")
        self.assertEqual(answer.headers.getRawHeaders("Location"), [f"example.org/{name}"])
        self.assertEqual((await self.ask("GET", f"{ROOMS}/{name}")).body, answer.body)
        self.assertEqual(answer.body["config"], {"roomname": "Tea", "subject": ""})

    async def test_fields_by_name_and_defaults(self) -> None:
        room = await self.make(name="Den", config={"subject": "x", "roomname": "y"})
        self.assertEqual(room["config"], {"roomname": "Den", "subject": "x"})
        answer = await self.ask("POST", ROOMS, {"owner": ANN})
        self.assertEqual((answer.status, answer.body["config"]), (201, {"roomname": "Untitled", "subject": ""}))

    async def test_who_has_blocked_the_owner_is_left_out(self) -> None:
        blocked = f"<user action='deny'>{ANN}</user>"
        await self.set(self.ben, SERVICE, "urn:xmpp:muclight:0#blocking", blocked)
        room = await self.make()
        self.assertEqual([member["user"] for member in room["members"]], [ANN, CAT])

    async def test_refusals(self) -> None:
        twice = "Cannot change affiliation for the same user twice in the same request"
        many = [f"u{number}@example.org" for number in range(1001)]
        for change, text in (
            ({"id": "a b"}, "invalid room name"),
            ({"id": ""}, "invalid room name"),
            ({"id": 1}, "'id' field is missing"),
            ({"name": 1}, "'name' field is missing"),
            ({"name": None}, "'name' field is missing"),
            ({"name": "a\x07"}, "roomname:type_error"),
            ({"subject": ["x"]}, "'subject' field is missing"),
            ({"owner": None}, "'owner' field is missing"),
            ({"owner": "a b@example.org"}, "invalid owner JID"),
            ({"owner": "example.org"}, "invalid owner JID"),
            ({"members": BEN}, "'members' field is missing"),
            ({"members": [1]}, "'members' field is missing"),
            ({"members": ["example.org"]}, "invalid member JID"),
            ({"members": [BEN, "Ben@EXAMPLE.org"]}, twice),
            ({"members": [BEN, ANN]}, "The creator is not to be listed"),
            ({"members": many}, "More than 1000 entries"),
            ({"config": ["roomname"]}, "'config' field is missing"),
            ({"config": {"colour": "red"}}, "colour:not_found"),
            ({"config": {"{0}": "red"}}, "{0}:not_found"),
            ({"config": {"subject": None}}, "subject:type_error"),
        ):
            await self.says("PUT", ROOMS, {**NEW, **change}, 400, text)
        await self.says("PUT", ROOMS, {"owner": ANN}, 400, "'id' field is missing")
        await self.says("POST", ROOMS, {"name": "Tea"}, 400, "'owner' field is missing")
        self.assertEqual((await self.ask("GET", ROOMS)).body, {"rooms": [], "next": None})
        await self.host.silence(self.ann, self.ben)

    async def test_as_many_members_as_a_request_may_have(self) -> None:
        room = await self.make(members=[f"u{number}@example.org" for number in range(1000)])
        self.assertEqual(len(room["members"]), 1001)

    async def test_domains_without_rooms(self) -> None:
        for method, rest, body in (
            ("POST", "", NEW),
            ("PUT", "", NEW),
            ("GET", "", None),
            ("GET", "/lobby", None),
            ("PATCH", "/lobby/config", {"subject": "x"}),
            ("POST", "/lobby/participants", {"sender": ANN, "recipient": BEN}),
            ("PUT", "/lobby/participants/ben%40example.org", {"affiliation": "member"}),
            ("DELETE", "/lobby/participants/ben%40example.org", None),
            ("POST", "/lobby/messages", {"from": ANN, "body": "x"}),
            ("DELETE", "/lobby", None),
            ("DELETE", "/lobby/management", None),
        ):
            await self.says(method, f"/api/muc-lights/plain.example{rest}", body, 404, "MUC Light server not found")
            await self.says(method, f"/api/muc-lights/unknown.example{rest}", body, 404, "domain not found")
            await self.says(method, f"/api/muc-lights/a%20b{rest}", body, 400, "invalid domain name")
            if rest:
                await self.says(method, f"{ROOMS}{rest.replace('lobby', 'a%20b')}", body, 400, "invalid room name")


class Reading(RestRooms):
    config: ClassVar[MucLightConfig] = MucLightConfig(
        config_schema=(
            RoomField(field="title", string_value="None", internal_key="roomname"),
            RoomField(field="size", integer_value=3),
            RoomField(field="open", boolean_value=True),
        )
    )

    async def test_fields_have_the_types_of_the_schema(self) -> None:
        room = await self.ask("PUT", ROOMS, {"id": "lobby", "owner": ANN, "config": {"title": "x", "size": 7}})
        self.assertEqual(room.body["config"], {"title": "x", "size": 7, "open": True})
        await self.says("PATCH", f"{ROOM}/config", {"open": False, "size": -1}, 204)
        self.assertEqual((await self.room_as_shown())["config"], {"title": "x", "size": -1, "open": False})
        for fields, text in (
            ({"size": "x"}, "size:type_error"),
            ({"size": 1.5}, "size:type_error"),
            ({"size": True}, "size:type_error"),
            ({"open": 1}, "open:type_error"),
            ({"title": {}}, "title:type_error"),
            ({"roomname": "x"}, "roomname:not_found"),
        ):
            await self.says("PATCH", f"{ROOM}/config", fields, 400, text)
        await self.says("PUT", ROOMS, {**NEW, "id": "other"}, 400, "roomname:not_found")

    async def test_lists_by_pages(self) -> None:
        for name in ("b", "ab", "a", "ä"):
            await self.ask("PUT", ROOMS, {"id": name, "owner": ANN})
        await self.ask("PUT", "/api/muc-lights/other.example", {"id": "c", "owner": ANN})
        for query, names, following in (
            ("", ["a", "ab", "b", "ä"], None),
            ("?limit=2", ["a", "ab"], "ab"),
            ("?limit=2&after=ab", ["b", "ä"], None),
            ("?after=%C3%A4", [], None),
            ("?after=%00", ["a", "ab", "b", "ä"], None),
        ):
            answer = await self.ask("GET", f"{ROOMS}{query}")
            rooms = [{"id": name, "jid": f"{name}@{SERVICE}"} for name in names]
            self.assertEqual(answer.outcome, (200, {"rooms": rooms, "next": following}), query)
        await self.says("GET", f"{ROOMS}?limit=0", None, 400, "invalid query parameter 'limit'")

    async def test_names_in_any_spelling(self) -> None:
        answer = await self.ask("PUT", "/api/muc-lights/EXAMPLE.org", {"id": "Größe&co", "owner": "ANN@example.org"})
        self.assertEqual(answer.status, 400)  # nodeprep forbids the ampersand
        answer = await self.ask("PUT", "/api/muc-lights/EXAMPLE.org", {"id": "Länge", "owner": "ANN@example.org"})
        self.assertEqual((answer.body["id"], answer.body["members"][0]["user"]), ("länge", ANN))
        (location,) = answer.headers.getRawHeaders("Location")
        self.assertEqual((await self.ask("GET", f"/api/muc-lights/{location}")).body, answer.body)
        self.assertEqual((await self.ask("GET", f"{ROOMS}/{quote('LÄNGE')}")).body, answer.body)
        await self.says("GET", f"{ROOMS}/%FF", None, 400, "invalid room name")
        await self.says("GET", ROOM, None, 404, "room not found")


class Configuration(RestRooms):
    async def test_members_are_told(self) -> None:
        room = await self.make()
        await self.says("PATCH", f"{ROOM}/config", {"subject": "Tea", "roomname": ""}, 204)
        after = await self.room_as_shown()
        self.assertEqual(after["config"], {"roomname": "", "subject": "Tea"})
        for session in (self.ann, self.ben, self.cat):
            told = [(child.name, str(child)) for child in await self.notice(session)]
            versions = [("prev-version", room["version"]), ("version", after["version"])]
            self.assertEqual(told, [*versions, ("subject", "Tea"), ("roomname", "")])
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_refusals(self) -> None:
        await self.says("PATCH", f"{ROOM}/config", {"subject": "x"}, 404, "room not found")
        room = await self.make()
        for fields, text in (
            (NOTHING, "An empty request"),
            ({"version": "x"}, "version:not_found"),
            ({"subject": "x", "colour": "x"}, "colour:not_found"),
            ({"subject": 1}, "subject:type_error"),
            ({"subject": "\x00"}, "subject:type_error"),
            ([], "failed to parse JSON"),
        ):
            await self.says("PATCH", f"{ROOM}/config", fields, 400, text)
        self.assertEqual(await self.room_as_shown(), room)
        await self.host.silence(self.ann, self.ben)


class Members(RestRooms):
    async def test_a_member_adds_another_user(self) -> None:
        room = await self.make()
        await self.says("POST", f"{ROOM}/participants", {"sender": f"{ANN}/p", "recipient": DAN}, 204)
        self.assertEqual(await self.affiliations(), {ANN: "owner", BEN: "member", CAT: "member", DAN: "member"})
        self.assertNotEqual((await self.room_as_shown())["version"], room["version"])
        for session in (self.ann, self.ben, self.cat, self.dan):
            self.assertEqual(await self.told(session), [(DAN, "member")])
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_it_needs_the_right_of_a_member(self) -> None:
        path = f"{ROOM}/participants"
        await self.says("POST", path, {"sender": ANN, "recipient": DAN}, 404, "room not found")
        room = await self.make()
        await self.says("POST", path, {"sender": BEN, "recipient": DAN}, 403, "not allowed")
        await self.says("POST", path, {"sender": DAN, "recipient": DAN}, 403, "user does not occupy this room")
        await self.says("POST", path, {"sender": ANN, "recipient": BEN}, 400, "Meaningless change")
        await self.says("POST", path, {"sender": ANN, "recipient": "example.org"}, 400, "invalid recipient JID")
        await self.says("POST", path, {"sender": "@", "recipient": DAN}, 400, "invalid sender JID")
        await self.says("POST", path, {"sender": ANN}, 400, "'recipient' field is missing")
        self.assertEqual(await self.room_as_shown(), room)
        await self.host.silence(self.ann, self.ben, self.dan)

    async def test_who_has_blocked_the_sender_is_not_added(self) -> None:
        await self.make()
        blocked = f"<user action='deny'>{ANN}</user>"
        await self.set(self.dan, SERVICE, "urn:xmpp:muclight:0#blocking", blocked)
        await self.says("POST", f"{ROOM}/participants", {"sender": ANN, "recipient": DAN}, 204)
        self.assertNotIn(DAN, await self.affiliations())
        await self.says("PUT", self.participant(DAN), {"affiliation": "member"}, 204)
        self.assertIn(DAN, await self.affiliations())

    async def test_the_server_adds_and_promotes(self) -> None:
        await self.make()
        await self.says("PUT", self.participant("DAN@example.org/x"), {"affiliation": "member"}, 204)
        for session in (self.ann, self.ben, self.cat, self.dan):
            self.assertEqual(await self.told(session), [(DAN, "member")])
        await self.says("PUT", self.participant(DAN), {"affiliation": "owner"}, 204)
        self.assertEqual(await self.affiliations(), {ANN: "member", BEN: "member", CAT: "member", DAN: "owner"})
        for session in (self.ann, self.ben, self.cat, self.dan):
            self.assertEqual(await self.told(session), [(ANN, "member"), (DAN, "owner")])
        await self.says("PUT", self.participant("who@elsewhere.example"), {"affiliation": "member"}, 204)
        self.assertIn("who@elsewhere.example", await self.affiliations())

    async def test_what_is_so_already_stays_so(self) -> None:
        room = await self.make()
        for user, affiliation in ((ANN, "owner"), (BEN, "member"), (DAN, "none")):
            await self.says("PUT", self.participant(user), {"affiliation": affiliation}, 204)
        self.assertEqual(await self.room_as_shown(), room)
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_refusals(self) -> None:
        await self.says("PUT", self.participant(BEN), {"affiliation": "member"}, 404, "room not found")
        await self.says("DELETE", self.participant(BEN), None, 404, "room not found")
        await self.make()
        missing = "'affiliation' field is missing"
        for body in (NOTHING, {"affiliation": "admin"}, {"affiliation": ["owner"]}):
            await self.says("PUT", self.participant(BEN), body, 400, missing)
        for user in ("example.org", "a b@example.org", "@", "ben@"):
            await self.says("PUT", self.participant(user), {"affiliation": "member"}, 400, "invalid user JID")
            await self.says("DELETE", self.participant(user), None, 400, "invalid user JID")
        await self.says("DELETE", f"{ROOM}/participants/%FF", None, 400, "invalid user JID")
        await self.says("DELETE", self.participant(DAN), None, 404, "user does not occupy this room")
        await self.host.silence(self.ann, self.ben)

    async def test_taking_out(self) -> None:
        await self.make()
        await self.says("DELETE", self.participant(BEN), None, 204)
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual(await self.told(session), [(BEN, "none")])
        await self.says("PUT", self.participant(ANN), {"affiliation": "none"}, 204)
        self.assertEqual(await self.affiliations(), {CAT: "owner"})
        await self.says("DELETE", self.participant(CAT), None, 204)
        await self.says("GET", ROOM, None, 404, "room not found")
        await self.says("DELETE", self.participant(CAT), None, 404, "room not found")


class Limits(RestRooms):
    config: ClassVar[MucLightConfig] = MucLightConfig(
        max_occupants=3, rooms_per_user=1, promote_on_last_owner_leave=False, all_can_invite=True
    )

    async def test_limits_hold_here_too(self) -> None:
        await self.says("PUT", ROOMS, {**NEW, "members": [BEN, CAT, DAN]}, 400, "max_occupants_reached")
        await self.make()
        await self.says("PUT", ROOMS, {**NEW, "id": "other"}, 400, "rooms_per_user_reached")
        await self.says("PUT", self.participant(DAN), {"affiliation": "member"}, 400, "max_occupants_reached")
        await self.says("DELETE", self.participant(ANN), None, 400, "Cannot remove the last owner")
        await self.says("DELETE", self.participant(CAT), None, 204)
        # All can invite. Who is in as many rooms as one may be is left out.
        await self.says("POST", f"{ROOM}/participants", {"sender": BEN, "recipient": DAN}, 204)
        self.assertEqual(await self.affiliations(), {ANN: "owner", BEN: "member", DAN: "member"})
        await self.says("DELETE", self.participant(DAN), None, 204)
        await self.ask("PUT", ROOMS, {"id": "own", "owner": DAN})
        await self.says("PUT", self.participant(DAN), {"affiliation": "member"}, 204)
        self.assertEqual(await self.affiliations(), {ANN: "owner", BEN: "member"})


class Messages(RestRooms):
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def archived(self) -> list[str]:
        """What is said in rooms, out of the database."""
        return [row[0] for row in await self.db.query("SELECT stanza FROM mam_message ORDER BY id")]

    async def test_to_all_members_and_into_the_archive(self) -> None:
        await self.make()
        body = "1 < 2 &\r\n\té😀"
        await self.says("POST", f"{ROOM}/messages", {"from": f"{BEN}/p", "body": body}, 204)
        ids = set()
        for session in (self.ann, self.ben, self.cat):
            self.assertTrue(session.received)
            message = await session.receives("message")
            self.assertEqual((message["from"], message["type"]), (f"{LOBBY}/{BEN}", "groupchat"))
            text, stanza_id = message.elements()
            self.assertEqual((text.name, str(text), stanza_id.name), ("body", body, "stanza-id"))
            ids.add((message["id"], stanza_id["id"]))
        self.assertEqual(len(ids), 1)
        self.assertIn("1 &lt; 2", (await self.archived())[-1])
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_refusals(self) -> None:
        path = f"{ROOM}/messages"
        await self.says("POST", path, {"from": ANN, "body": "x"}, 404, "room not found")
        await self.make()
        await self.says("POST", path, {"from": DAN, "body": "x"}, 403, "user does not occupy this room")
        await self.says("POST", path, {"from": SERVICE, "body": "x"}, 400, "invalid sender JID")
        await self.says("POST", path, {"from": ANN}, 400, "'body' field is missing")
        for character in "\0\x08\x0b\x1f\ufffe\uffff":
            await self.says(
                "POST", path, {"from": ANN, "body": f"x{character}"}, 400, "Characters that XML does not have"
            )
        await self.host.silence(self.ann, self.dan)

    async def test_what_the_archive_does_not_take_is_an_error(self) -> None:
        await self.make()

        def full(*_: Any) -> Any:
            raise Unavailable("full")

        archive: Any = self.rooms.archive
        self.patch(archive, "store", full)
        await self.says("POST", f"{ROOM}/messages", {"from": ANN, "body": "x"}, 500, "database error")
        await self.host.silence(self.ann)


class Removal(RestRooms):
    async def test_members_are_told(self) -> None:
        for path in (ROOM, f"{ROOM}/management"):
            await self.make()
            await self.says("DELETE", path, None, 204)
            for session, address in ((self.ann, ANN), (self.ben, BEN), (self.cat, CAT)):
                message = await session.receives("message")
                destroyed, gone, _ = message.elements()
                self.assertEqual((destroyed.uri, message["from"]), ("urn:xmpp:muclight:0#destroy", LOBBY))
                self.assertEqual([(str(u), u["affiliation"]) for u in gone.elements()], [(address, "none")])
            await self.host.silence(self.ann, self.ben, self.cat, self.dan)
            self.assertEqual(await self.members(), {})
            await self.says("DELETE", path, None, 404, "room not found")

    async def test_a_database_that_fails(self) -> None:
        await self.make()
        self.rooms.rooms.forget(JID.parse(LOBBY))
        await self.db.execute("ALTER TABLE muc_light_rooms RENAME TO elsewhere")
        for method, path in (("GET", ROOM), ("GET", ROOMS), ("DELETE", ROOM)):
            await self.says(method, path, None, 500, "database error")


class OtherDialect(RestRooms):
    async def test_texts(self) -> None:
        async def says(method: str, path: str, body: Any, status: int, text: str) -> None:
            outcome = (await self.ask(method, f"/six/muc-lights/{path}", body)).outcome
            self.assertEqual(outcome, (status, text), path)

        await says("GET", "plain.example/lobby", None, 404, "MUC Light server not found")
        await says("GET", "example.org/lobby", None, 404, "Room not found")
        await says("GET", "example.org/a%20b", None, 400, "Invalid room name")
        await says("PUT", "example.org", {**NEW, "owner": "x"}, 400, "Invalid owner JID")
        await says("PUT", "example.org", {**NEW, "config": {"a": "b"}}, 400, "a:not_found")
        await self.make()
        await says("PUT", "example.org", NEW, 409, "Room already exists")
        outside = "Given user does not occupy this room"
        await says("DELETE", f"example.org/lobby/participants/{DAN}", None, 404, outside)
        await says("POST", "example.org/lobby/messages", {"from": DAN, "body": "x"}, 403, outside)
        await says("POST", "example.org/lobby/participants", {"sender": BEN, "recipient": DAN}, 403, "Not allowed")
