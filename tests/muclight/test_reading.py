"""Section 7: members read the configuration and the list of members; versions."""

import re
from typing import Any, ClassVar

from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_INFO
from tests.fixtures.dialogue import Host, TestSession, canonical
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, RoomTestCase, refusal, result, seen

READ = (NS_CONFIGURATION, NS_AFFILIATIONS, NS_INFO)
NOT_FOUND = ("cancel", "item-not-found", None)


class ReadingTestCase(RoomTestCase):
    async def reads(self, namespace: str, content: str = "", session: TestSession | None = None) -> Any:
        """The answer that somebody (ann) gets; nobody gets anything else."""
        session = session or self.ann
        reply = await self.get(session, LOBBY, namespace, content, "h")
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        return canonical(reply)

    def answer(self, namespace: str, content: str, to: str = ANN) -> Any:
        query = f"<query xmlns='{namespace}'>{content}</query>"
        return seen(f"<iq type='result' id='h' from='{LOBBY}' to='{to}/p'>{query}</iq>")

    async def answers(self, fields: str, users: str, to: str = ANN) -> dict[str, Any]:
        """All answers in full, by namespace."""
        version = f"<version>{await self.version()}</version>"
        parts = {
            NS_CONFIGURATION: fields,
            NS_AFFILIATIONS: users,
            NS_INFO: f"<configuration>{fields}</configuration><occupants>{users}</occupants>",
        }
        return {namespace: self.answer(namespace, version + content, to) for namespace, content in parts.items()}


def entries(*members: tuple[str, str]) -> str:
    return "".join(f"<user affiliation='{affiliation}'>{address}</user>" for address, affiliation in members)


USERS = entries((ANN, "owner"), (BEN, "member"), (CAT, "member"))


class Reading(ReadingTestCase):
    async def test_all_of_it(self) -> None:
        await self.room(config="<roomname>Lobby</roomname>")
        for session in (self.ann, self.ben):
            answers = await self.answers("<roomname>Lobby</roomname><subject/>", USERS, session.jid.bare)
            for namespace in READ:
                for content in (
                    "",
                    "<version/>",
                    "<version></version>",
                    "<version>V0</version>",
                    "<version> </version>",
                ):
                    self.assertEqual(answers[namespace], await self.reads(namespace, content, session), content)

    async def test_from_the_database(self) -> None:
        await self.room(config="<roomname>Lobby</roomname>")
        answers = await self.answers("<roomname>Lobby</roomname><subject/>", USERS)
        for namespace in READ:
            self.rooms.rooms.forget_all()
            self.assertEqual(answers[namespace], await self.reads(namespace))

    async def test_nothing_new(self) -> None:
        await self.room()
        for namespace in READ:
            for session in (self.ann, self.ben):
                version = f"<version>{await self.version()}</version>"
                self.assertEqual(result(session.jid.bare), await self.reads(namespace, version, session))

    async def test_each_change_has_a_new_version(self) -> None:
        """One for configuration and members together."""
        await self.room()
        versions = [await self.version()]
        changes = (
            lambda: self.configure(self.ann, "<roomname>x</roomname>"),
            lambda: self.configure(self.ben, "<subject>x</subject>"),
            lambda: self.affiliate(self.ann, (DAN, "member")),
            lambda: self.affiliate(self.dan, (DAN, "none")),
            lambda: self.configure(self.ann, "<roomname>x</roomname>"),
        )
        for change in changes:
            self.assertEqual("result", (await change())["type"])
            await self.settle()
            self.forget()
            for namespace in READ:
                old = await self.reads(namespace, f"<version>{versions[-1]}</version>")
                self.assertEqual(await self.reads(namespace), old)
                new = f"<version>{await self.version()}</version>"
                self.assertEqual(result(ANN), await self.reads(namespace, new))
            versions.append(await self.version())
        self.assertEqual(len(changes) + 1, len(set(versions)))
        for version in versions:
            self.assertRegex(version, re.compile(r"[A-Za-z0-9_-]{16}\Z"))

    async def test_what_changes_nothing_keeps_the_version(self) -> None:
        await self.room()
        version = await self.version()
        for session, change in ((self.ben, (DAN, "member")), (self.ann, (BEN, "member")), (self.dan, (DAN, "none"))):
            self.assertEqual("error", (await self.affiliate(session, change))["type"])
        self.assertEqual("error", (await self.configure(self.ben, "<roomname>x</roomname>"))["type"])
        self.ann.sends(f"<message type='groupchat' to='{LOBBY}'><subject>x</subject></message>")
        await self.settle()
        self.assertEqual(version, await self.version())

    async def test_members_are_ordered_by_address(self) -> None:
        await self.room(
            "zoe@a.example", "b@example.org", "b.a@example.org", "B-A@example.org", CAT, "ärger@example.org"
        )
        users = entries(
            (ANN, "owner"),
            ("b-a@example.org", "member"),
            ("b.a@example.org", "member"),
            ("b@example.org", "member"),
            (CAT, "member"),
            ("zoe@a.example", "member"),
            ("ärger@example.org", "member"),
        )
        for _ in range(2):
            answers = await self.answers("<roomname>Untitled</roomname><subject/>", users)
            self.assertEqual(answers[NS_AFFILIATIONS], await self.reads(NS_AFFILIATIONS))
            self.rooms.rooms.forget_all()

    async def test_texts_come_back_as_they_were(self) -> None:
        text = "&lt;a b='c'&gt; &amp;amp; \"d\" \u00e9\u4e2d\U0001f600 ]]&gt;\n\t x "
        await self.room(config=f"<subject>{text}</subject>")
        for _ in range(2):
            answers = await self.answers(f"<roomname>Untitled</roomname><subject>{text}</subject>", USERS)
            for namespace in READ:
                self.assertEqual(answers[namespace], await self.reads(namespace))
            self.rooms.rooms.forget_all()

    async def test_requests_that_are_none(self) -> None:
        await self.room()
        version = f"<version>{await self.version()}</version>"
        for namespace in READ:
            for content, text in (
                ("<roomname/>", "Unexpected element roomname"),
                (f"{version}<x/>", "Unexpected element x"),
                (version * 2, "More than one element version"),
                ("<version><v/></version>", "Elements inside of version"),
            ):
                reply = await self.get(self.ben, LOBBY, namespace, content)
                self.assertEqual(("modify", "bad-request", text), refusal(reply))

    async def test_elements_of_other_namespaces_are_passed_over(self) -> None:
        await self.room()
        other = f"<version xmlns='urn:x'>x</version><version>{await self.version()}</version><x xmlns='urn:x'/>"
        for namespace in READ:
            self.assertEqual(result(ANN), await self.reads(namespace, other))

    async def test_members_only(self) -> None:
        await self.room()
        version = f"<version>{await self.version()}</version>"
        for namespace in READ:
            for content in ("", version):
                self.assertEqual(NOT_FOUND, refusal(await self.get(self.dan, LOBBY, namespace, content)))
        await self.affiliate(self.ben, (BEN, "none"))
        await self.affiliate(self.ann, (DAN, "member"))
        self.forget()
        for namespace in READ:
            self.assertEqual(NOT_FOUND, refusal(await self.get(self.ben, LOBBY, namespace)))
            self.assertEqual("result", (await self.get(self.dan, LOBBY, namespace))["type"])

    async def test_a_room_with_ten_thousand_members(self) -> None:
        await self.room()
        insert = """
        INSERT INTO muc_light_occupants (room, server, username, affiliation)
        SELECT id, 'far.example', 'u' || to_char(n, 'FM00000'), 2 FROM muc_light_rooms, generate_series(1, 10000) AS n
        """
        await self.db.execute(insert)
        self.rooms.rooms.forget_all()
        reply = await self.read_large(NS_AFFILIATIONS)
        users = re.findall(rb"<user affiliation='(\w+)'>([^<]*)</user>", reply)
        self.assertEqual(10_003, len(users))
        self.assertEqual(users, sorted(users, key=lambda user: user[1]))
        self.assertEqual(10_003, (await self.read_large(NS_INFO)).count(b"</user>"))
        self.ben.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual(["m"], [element["id"] for element in session.received])

    async def read_large(self, namespace: str) -> bytes:
        """The bytes of an answer that is larger than a client's stanza may be."""
        sent: list[bytes] = []

        def note(stanza: Any, data: bytes) -> bool:
            sent.append(data)
            return True

        self.ann.gate = note
        self.ann.sends(f"<iq type='get' id='g' to='{LOBBY}'><query xmlns='{namespace}'/></iq>")
        await self.settle()
        self.ann.gate = None
        (data,) = sent
        return data


LATER = (
    RoomField(field="roomname", string_value="Untitled"),
    RoomField(field="floor", integer_value=3),
    RoomField(field="topic", string_value="Nothing", internal_key="subject"),
    RoomField(field="open", boolean_value=True),
)


class OtherSchema(ReadingTestCase):
    """The same rooms with another schema: on a node with another configuration."""

    async def restarted(self, *schema: RoomField) -> Host:
        """The sessions of ann and ben are on a further node from now on."""
        host = await self.start_host(MucLightConfig(config_schema=schema))
        self.ann, self.ben = host.session(f"{ANN}/p"), host.session(f"{BEN}/p")
        self.ann.available = self.ben.available = True
        return host

    async def test_fields_that_came_later_have_their_defaults(self) -> None:
        await self.room(config="<roomname>Lobby</roomname><subject>S</subject>")
        version = await self.version()
        await self.restarted(*LATER)
        fields = "<roomname>Lobby</roomname><floor>3</floor><topic>S</topic><open>true</open>"
        for session in (self.ann, self.ben):
            for namespace, answer in (await self.answers(fields, USERS, session.jid.bare)).items():
                self.assertEqual(answer, await self.reads(namespace, session=session))
        self.assertEqual(version, await self.version())

    async def test_and_can_be_changed(self) -> None:
        await self.room(config="<roomname>Lobby</roomname><subject>S</subject>")
        await self.restarted(*LATER)
        self.assertEqual("result", (await self.configure(self.ann, "<floor>0</floor>"))["type"])
        self.ann.received.clear()
        self.ben.received.clear()
        fields = "<roomname>Lobby</roomname><floor>0</floor><topic>S</topic><open>true</open>"
        for namespace, answer in (await self.answers(fields, USERS)).items():
            self.assertEqual(answer, await self.reads(namespace))

    async def test_the_default_is_that_of_now(self) -> None:
        """What a room was made with is the room's, what it never had is the schema's."""
        await self.room()
        await self.restarted(
            RoomField(field="roomname", string_value="New"),
            RoomField(field="subject", string_value="New"),
            RoomField(field="floor", integer_value=1),
        )
        fields = "<roomname>Untitled</roomname><subject/><floor>1</floor>"
        self.assertEqual((await self.answers(fields, USERS))[NS_INFO], await self.reads(NS_INFO))

    async def test_fields_that_are_gone(self) -> None:
        await self.room(config="<roomname>Lobby</roomname><subject>S</subject>")
        await self.restarted(RoomField(field="subject", string_value=""))
        answers = await self.answers("<subject>S</subject>", USERS)
        for namespace in READ:
            self.assertEqual(answers[namespace], await self.reads(namespace))

    async def test_fields_of_another_type(self) -> None:
        """A value that is none any more is the default."""
        await self.room(config="<roomname>Lobby</roomname><subject>12</subject>")
        await self.restarted(
            RoomField(field="roomname", integer_value=7, internal_key="number"),
            RoomField(field="subject", integer_value=5),
        )
        answers = await self.answers("<roomname>7</roomname><subject>12</subject>", USERS)
        self.assertEqual(answers[NS_CONFIGURATION], await self.reads(NS_CONFIGURATION))
        await self.restarted(RoomField(field="subject", boolean_value=True))
        answers = await self.answers("<subject>true</subject>", USERS)
        self.assertEqual(answers[NS_CONFIGURATION], await self.reads(NS_CONFIGURATION))


class Nothing(ReadingTestCase):
    """A schema without fields."""

    config: ClassVar[MucLightConfig] = MucLightConfig(config_schema=())

    async def test_the_answers(self) -> None:
        await self.room()
        for namespace, answer in (await self.answers("", USERS)).items():
            self.assertEqual(answer, await self.reads(namespace))
        text = "roomname:not_found"
        reply = await self.configure(self.ann, "<roomname>x</roomname>")
        self.assertEqual(("modify", "bad-request", text), refusal(reply))
