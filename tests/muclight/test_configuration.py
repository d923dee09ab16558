"""Section 8: the configuration of rooms, changed by those who may, and told to all."""

from typing import Any

from twisted.words.xish import domish

from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_CONFIGURATION
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, RoomTestCase, error, notice, result

ROOM_NAME = RoomField(field="roomname", string_value="Untitled")
SUBJECT = RoomField(field="subject", string_value="")
NOWHERE = f"nowhere@{SERVICE}"
#: Fields of all types, some of them with a name that is not what they are to the service.
SCHEMA = (
    ROOM_NAME,
    SUBJECT,
    RoomField(field="limit", integer_value=5),
    RoomField(field="ratio", float_value=0.5),
    RoomField(field="shown", boolean_value=True, internal_key="visible"),
    RoomField(field="everybody", boolean_value=False, internal_key="all_can_configure"),
)


def text(message: domish.Element, name: str) -> str:
    """What stands in one of the elements of a notice."""
    (element,) = (child for child in message.x.elements() if child.name == name)
    return str(element)


class ConfigurationTestCase(RoomTestCase):
    async def told(self, session: Any, request: str, fields: str | None = None) -> None:
        """A request is granted: all members are told of `fields`, which are those of the request, then it ends."""
        before = await self.version()
        heard = await self.hear(session, NS_CONFIGURATION, request)
        after = await self.version()
        self.assertNotEqual(before, after)
        x = f"<prev-version>{before}</prev-version><version>{after}</version>{request if fields is None else fields}"
        expected = {
            address: [notice(address, f"<x xmlns='{NS_CONFIGURATION}'>{x}</x>")]
            for address in sorted(await self.members())
        }
        expected[session.jid.bare].append(result(session.jid.bare))
        self.assertEqual(expected, heard)

    async def refused(
        self, session: Any, request: str, condition: str, text: str | None = None, *, type_: str = "cancel"
    ) -> None:
        """A request is refused: nobody else hears of it, and nothing has changed."""
        before = await self.version(), await self.shown()
        heard = await self.hear(session, NS_CONFIGURATION, request)
        self.assertEqual({session.jid.bare: [error(session.jid.bare, condition, text, type_=type_)]}, heard)
        self.assertEqual(before, (await self.version(), await self.shown()))

    async def shown(self, session: Any = None) -> dict[str, str]:
        """What a member reads, without the version."""
        reply = await self.get(session or self.ann, LOBBY, NS_CONFIGURATION)
        assert reply["type"] == "result", reply.toXml()
        return {field.name: str(field) for field in reply.query.elements() if field.name != "version"}


class Changes(ConfigurationTestCase):
    async def test_everybody_is_told_of_what_was_asked_for_and_no_more(self) -> None:
        await self.room(config="<subject>soup</subject>")
        await self.told(self.ann, "<roomname>Den</roomname>")
        self.assertEqual({"roomname": "Den", "subject": "soup"}, await self.shown(self.ben))

    async def test_the_notice_has_the_order_of_the_request(self) -> None:
        await self.room()
        await self.told(self.ann, "<subject>soup</subject><roomname>Den</roomname>")
        self.assertEqual(["roomname", "subject"], list(await self.shown()))

    async def test_of_one_field_the_last_value_counts(self) -> None:
        await self.room()
        request = "<roomname>A</roomname><subject>s</subject><roomname>B</roomname>"
        await self.told(self.ann, request, "<roomname>B</roomname><subject>s</subject>")
        self.assertEqual({"roomname": "B", "subject": "s"}, await self.shown())

    async def test_what_is_so_already_is_a_change_too(self) -> None:
        await self.room(config="<roomname>Den</roomname>")
        await self.told(self.ann, "<roomname>Den</roomname>")

    async def test_an_empty_element_is_the_empty_text(self) -> None:
        await self.room(config="<roomname>Den</roomname><subject>soup</subject>")
        await self.told(self.ann, "<subject/><roomname></roomname>")
        self.assertEqual({"roomname": "", "subject": ""}, await self.shown())

    async def test_texts_stay_as_they_are(self) -> None:
        await self.room()
        await self.told(self.ann, "<roomname> a &lt;b&gt; &amp; 'c' \"d\" ü 🍲 </roomname>")
        self.assertEqual(" a <b> & 'c' \"d\" ü 🍲 ", (await self.shown())["roomname"])

    async def test_elements_of_other_namespaces_are_passed_over(self) -> None:
        await self.room()
        await self.told(self.ann, "<x xmlns='urn:x:custom'/><roomname>Den</roomname>", "<roomname>Den</roomname>")

    async def test_the_result_is_for_the_session_that_asked(self) -> None:
        await self.room(BEN)
        self.online(f"{ANN}/other")
        before = await self.version()
        heard = await self.hear(self.ann, NS_CONFIGURATION, "<subject>soup</subject>")
        versions = f"<prev-version>{before}</prev-version><version>{await self.version()}</version>"
        x = f"<x xmlns='{NS_CONFIGURATION}'>{versions}<subject>soup</subject></x>"
        told = notice(ANN, x)
        self.assertEqual({ANN: [told, result(ANN)], f"{ANN}/other": [told], BEN: [notice(BEN, x)]}, heard)

    async def test_one_request_after_the_other(self) -> None:
        """Each member can follow the versions from one to the next, whoever asked."""
        await self.room()
        first = await self.version()
        for number, session in enumerate((self.ann, self.ben, self.ann, self.cat)):
            session.sends(
                f"<iq type='set' id='{number}' to='{LOBBY}'>"
                f"<query xmlns='{NS_CONFIGURATION}'><subject>{number}</subject></query></iq>"
            )
        await self.settle()
        for session in (self.ann, self.ben, self.cat):
            messages = [element for element in session.received if element.name == "message"]
            self.assertEqual(4, len(messages))
            previous, after = ([text(message, name) for message in messages] for name in ("prev-version", "version"))
            self.assertEqual([first, *after[:-1]], previous)
            self.assertEqual(await self.version(), after[-1])
            subjects = [text(message, "subject") for message in messages]
            self.assertEqual(["0", "1", "2", "3"], sorted(subjects))
            self.assertLess(subjects.index("0"), subjects.index("2"), "two of the same sender")


class Refusals(ConfigurationTestCase):
    config = MucLightConfig(config_schema=SCHEMA)

    async def test_what_is_wrong_with_a_request(self) -> None:
        """All of it is refused, also what would be right alone."""
        await self.room()
        for request, text in (
            ("<colour>red</colour>", "colour:not_found"),
            ("<roomname>Den</roomname><colour/>", "colour:not_found"),
            ("<visible>false</visible>", "visible:not_found"),
            ("<version>1</version>", "version:not_found"),
            ("<version/><roomname>Den</roomname>", "version:not_found"),
            ("<prev-version>1</prev-version>", "prev-version:not_found"),
            ("<roomname><b>Den</b></roomname>", "roomname:type_error"),
            ("<roomname>Den<b/></roomname>", "roomname:type_error"),
            ("<limit>many</limit>", "limit:type_error"),
            ("<limit/>", "limit:type_error"),
            ("<limit>1.5</limit>", "limit:type_error"),
            (f"<limit>{2**63}</limit>", "limit:type_error"),
            ("<ratio>nan</ratio>", "ratio:type_error"),
            ("<ratio>1,5</ratio>", "ratio:type_error"),
            ("<shown>1</shown>", "shown:type_error"),
            ("<shown>True</shown>", "shown:type_error"),
            ("<subject>soup</subject><shown/>", "shown:type_error"),
            ("", "An empty request"),
            ("<roomname xmlns='urn:x:custom'>Den</roomname>", "An empty request"),
        ):
            with self.subTest(request=request):
                await self.refused(self.ann, request, "bad-request", text, type_="modify")

    async def test_values_have_one_spelling(self) -> None:
        await self.room()
        await self.told(
            self.ann,
            "<limit>+07</limit><ratio>1.50</ratio><shown>false</shown>",
            "<limit>7</limit><ratio>1.5</ratio><shown>false</shown>",
        )
        self.assertEqual(
            {
                "roomname": "Untitled",
                "subject": "",
                "limit": "7",
                "ratio": "1.5",
                "shown": "false",
                "everybody": "false",
            },
            await self.shown(),
        )

    async def test_outsiders_do_not_even_learn_what_is_wrong(self) -> None:
        await self.room()
        for request in ("<roomname>Den</roomname>", "<subject>Den</subject>", "<colour/>", ""):
            await self.refused(self.dan, request, "item-not-found")
            heard = await self.hear(self.dan, NS_CONFIGURATION, request, to=NOWHERE)
            self.assertEqual({DAN: [error(DAN, "item-not-found", sender=NOWHERE)]}, heard)


class Permissions(ConfigurationTestCase):
    async def test_members_may_change_the_subject_and_nothing_else(self) -> None:
        await self.room()
        await self.told(self.ben, "<subject>soup</subject>")
        await self.told(self.cat, "<subject/>")
        await self.refused(self.ben, "<roomname>Den</roomname>", "not-allowed")
        await self.refused(self.ben, "<subject>soup</subject><roomname>Den</roomname>", "not-allowed")
        await self.refused(self.ben, "<roomname>Den</roomname><subject>soup</subject>", "not-allowed")

    async def test_what_is_wrong_is_said_to_members_first(self) -> None:
        await self.room()
        await self.refused(self.ben, "<colour/>", "bad-request", "colour:not_found", type_="modify")

    async def test_who_has_left_may_nothing(self) -> None:
        await self.room()
        await self.affiliate(self.ben, (BEN, "none"))
        await self.refused(self.ben, "<subject>soup</subject>", "item-not-found")

    async def test_the_new_owner_may_and_the_old_one_may_not(self) -> None:
        await self.room()
        await self.affiliate(self.ann, (CAT, "owner"))
        await self.told(self.cat, "<roomname>Den</roomname>")
        await self.refused(self.ann, "<roomname>Hall</roomname>", "not-allowed")


class AllByOption(ConfigurationTestCase):
    config = MucLightConfig(all_can_configure=True, config_schema=SCHEMA)

    async def test_members_may_change_everything(self) -> None:
        """Also where the field of the room says no."""
        await self.room(config="<everybody>false</everybody>")
        await self.told(self.ben, "<roomname>Den</roomname><subject>soup</subject>")
        await self.refused(self.dan, "<roomname>Den</roomname>", "item-not-found")


class AllByField(ConfigurationTestCase):
    config = MucLightConfig(config_schema=SCHEMA)

    async def test_the_owner_decides_for_each_room(self) -> None:
        await self.room()
        await self.refused(self.ben, "<roomname>Den</roomname>", "not-allowed")
        await self.refused(self.ben, "<everybody>true</everybody>", "not-allowed")
        await self.told(self.ann, "<everybody>true</everybody>")
        await self.told(self.ben, "<roomname>Den</roomname><limit>9</limit>")
        # What is in force is what the room had before the request.
        await self.told(self.cat, "<everybody>false</everybody><roomname>Hall</roomname>")
        await self.refused(self.cat, "<roomname>Den</roomname>", "not-allowed")

    async def test_of_one_room_alone(self) -> None:
        other = f"other@{SERVICE}"
        await self.room()
        await self.room(room=other, config="<everybody>true</everybody>")
        await self.refused(self.ben, "<roomname>Den</roomname>", "not-allowed")
        self.assertEqual("result", (await self.configure(self.ben, "<roomname>Den</roomname>", room=other))["type"])


class AllByDefault(ConfigurationTestCase):
    config = MucLightConfig(
        config_schema=(ROOM_NAME, SUBJECT, RoomField(field="all_can_configure", boolean_value=True))
    )

    async def test_the_default_of_the_field_counts(self) -> None:
        await self.room()
        await self.told(self.ben, "<roomname>Den</roomname>")
        await self.told(self.ann, "<all_can_configure>false</all_can_configure>")
        await self.refused(self.ben, "<roomname>Hall</roomname>", "not-allowed")


class WithoutSubject(ConfigurationTestCase):
    config = MucLightConfig(config_schema=(ROOM_NAME,))

    async def test_a_schema_may_have_no_subject(self) -> None:
        await self.room()
        await self.refused(self.ben, "<subject>soup</subject>", "bad-request", "subject:not_found", type_="modify")
        await self.told(self.ann, "<roomname>Den</roomname>")


class RenamedSubject(ConfigurationTestCase):
    config = MucLightConfig(
        config_schema=(ROOM_NAME, RoomField(field="topic", string_value="", internal_key="subject"))
    )

    async def test_the_internal_key_says_what_the_subject_is(self) -> None:
        await self.room()
        await self.told(self.ben, "<topic>soup</topic>")
        self.assertEqual({"roomname": "Untitled", "topic": "soup"}, await self.shown())


class OtherSchema(ConfigurationTestCase):
    """The server's configuration has changed since the rooms were made."""

    async def restart(self, *schema: RoomField) -> None:
        """The server begins anew with this schema; ann and ben are back."""
        self.host = await self.start_host(MucLightConfig(config_schema=schema))
        self.rooms = self.host.host_types[0].modules["mod_muc_light"]  # type: ignore[assignment]
        self.ann, self.ben = (self.online(f"{user}/p") for user in (ANN, BEN))

    async def test_a_new_field_can_be_changed_in_old_rooms(self) -> None:
        await self.room(BEN, config="<roomname>Den</roomname>")
        await self.restart(ROOM_NAME, SUBJECT, RoomField(field="limit", integer_value=5))
        self.assertEqual({"roomname": "Den", "subject": "", "limit": "5"}, await self.shown())
        await self.told(self.ann, "<limit>7</limit>")
        self.assertEqual({"roomname": "Den", "subject": "", "limit": "7"}, await self.shown(self.ben))
        await self.restart(ROOM_NAME, SUBJECT, RoomField(field="limit", integer_value=6))
        self.assertEqual({"roomname": "Den", "subject": "", "limit": "7"}, await self.shown())

    async def test_a_new_default_is_for_new_rooms(self) -> None:
        await self.room(BEN)
        await self.restart(RoomField(field="roomname", string_value="A room"), SUBJECT)
        self.assertEqual({"roomname": "Untitled", "subject": ""}, await self.shown())
        self.assertEqual("result", (await self.create(self.ann, room=f"other@{SERVICE}"))["type"])
        reply = await self.get(self.ann, f"other@{SERVICE}", NS_CONFIGURATION)
        self.assertEqual("A room", str(reply.query.roomname))

    async def test_an_old_field_is_not_shown_and_not_lost(self) -> None:
        await self.room(BEN, config="<roomname>Den</roomname><subject>soup</subject>")
        await self.restart(ROOM_NAME)
        self.assertEqual({"roomname": "Den"}, await self.shown())
        await self.told(self.ann, "<roomname>Hall</roomname>")
        await self.restart(SUBJECT, ROOM_NAME)
        self.assertEqual({"subject": "soup", "roomname": "Hall"}, await self.shown())

    async def test_a_value_that_does_not_fit_any_more_is_the_default(self) -> None:
        await self.room(BEN, config="<subject>soup</subject>")
        await self.restart(ROOM_NAME, RoomField(field="subject", integer_value=5))
        self.assertEqual({"roomname": "Untitled", "subject": "5"}, await self.shown())
        await self.told(self.ben, "<subject>6</subject>")
        self.assertEqual({"roomname": "Untitled", "subject": "6"}, await self.shown())
