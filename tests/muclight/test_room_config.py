"""The configuration of rooms: what a schema takes, keeps and shows."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.module import JID, StanzaError
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.room_config import RoomSchema
from tests.config.support import ConfigTestCase
from tests.fixtures.dialogue import parse

LOBBY = JID.parse("lobby@muclight.example.org")
SCHEMA = RoomSchema(MucLightConfig().config_schema)
TYPED = RoomSchema(
    (
        RoomField(field="title", string_value="Untitled", internal_key="roomname"),
        RoomField(field="size", integer_value=5),
        RoomField(field="share", float_value=0.5),
        RoomField(field="open", boolean_value=False, internal_key="all_can_invite"),
    )
)


def read(content: str, schema: RoomSchema = TYPED) -> dict[str, str]:
    return schema.read(parse(f"<x xmlns='urn:x'>{content}</x>").child_elements())


class Reading(TestCase):
    def refused(self, content: str, schema: RoomSchema = TYPED) -> tuple[str, str, str | None]:
        with self.assertRaises(StanzaError) as caught:
            read(content, schema)
        return caught.exception.type, caught.exception.condition, caught.exception.text

    def test_in_the_order_of_the_request_by_internal_key(self) -> None:
        self.assertEqual(
            [("size", "7"), ("all_can_invite", "true"), ("roomname", "Den")],
            list(read("<size>7</size><open>true</open><title>Den</title>").items()),
        )

    def test_nothing(self) -> None:
        self.assertEqual({}, read(""))

    def test_the_last_of_several_counts(self) -> None:
        self.assertEqual({"roomname": "b", "size": "1"}, read("<title>a</title><size>1</size><title>b</title>"))

    def test_an_empty_element_is_the_empty_text(self) -> None:
        self.assertEqual({"subject": "", "roomname": ""}, read("<subject/><roomname></roomname>", SCHEMA))

    def test_texts_are_taken_as_they_are(self) -> None:
        self.assertEqual({"roomname": " a\n&<é "}, read("<title> a\n&amp;&lt;é </title>"))

    def test_numbers_have_one_spelling(self) -> None:
        for spelled, one in (("7", "7"), ("+007", "7"), ("-0", "0"), ("-12", "-12"), (str(2**63 - 1), str(2**63 - 1))):
            self.assertEqual({"size": one}, read(f"<size>{spelled}</size>"))
        for spelled, one in (("1", "1.0"), ("+01.50", "1.5"), ("2E3", "2000.0"), ("-2.5e-3", "-0.0025")):
            self.assertEqual({"share": one}, read(f"<share>{spelled}</share>"))

    def test_wrong_types(self) -> None:
        cases = {
            "size": ("", " 7", "7.0", "1_0", "seven", "true", "٣", str(2**63), str(-(2**63) - 1), "1" * 9000),
            "share": ("", "a", ".5", "5.", "1_0.0", "nan", "inf", "1e999", "1,5", "0x1"),
            "open": ("", "1", "True", " true", "yes"),
        }
        for name, texts in cases.items():
            for text in texts:
                with self.subTest(name=name, text=text[:20]):
                    self.assertEqual(
                        ("modify", "bad-request", f"{name}:type_error"), self.refused(f"<{name}>{text}</{name}>")
                    )

    def test_no_elements_inside(self) -> None:
        for content in ("<b xmlns='urn:b'/>", "Den<b/>"):
            self.assertEqual(("modify", "bad-request", "title:type_error"), self.refused(f"<title>{content}</title>"))

    def test_fields_that_there_are_not(self) -> None:
        # Neither an internal key nor the version is a name of a field.
        for name in ("colour", "roomname", "version", "prev-version"):
            self.assertEqual(
                ("modify", "bad-request", f"{name}:not_found"), self.refused(f"<size>1</size><{name}>1</{name}>")
            )


class ReadingValues(TestCase):
    def test_values(self) -> None:
        self.assertEqual(
            {"roomname": "Den", "size": "7", "share": "0.25", "all_can_invite": "true"},
            TYPED.read_values({"title": "Den", "size": 7, "share": 0.25, "open": True}),
        )
        self.assertEqual({"share": "3.0"}, TYPED.read_values({"share": 3}))

    def test_texts_are_read_as_those_of_elements(self) -> None:
        self.assertEqual(
            {"size": "7", "share": "1.5", "all_can_invite": "false"},
            TYPED.read_values({"size": "+7", "share": "01.5", "open": "false"}),
        )

    def test_wrong_types(self) -> None:
        nowhere: list[Any] = [None, [], {}, b"x"]
        cases: dict[str, list[Any]] = {
            "title": [*nowhere, 7, True, 0.5, "a\0b", "\ud800", "\uffff"],
            "size": [*nowhere, True, 7.0, "7.0", 2**63, float("nan")],
            "share": [*nowhere, False, float("nan"), float("inf"), 10**400, "x"],
            "open": [*nowhere, 1, 0, "True", 0.0],
        }
        for name, values in cases.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    self.assertRaisesRegex(ValueError, f"^{name}:type_error$", TYPED.read_values, {name: value})

    def test_fields_that_there_are_not(self) -> None:
        for name in ("colour", "roomname", "version"):
            for value in ("x", 7, None):
                self.assertRaisesRegex(ValueError, f"^{name}:not_found$", TYPED.read_values, {name: value})


class Showing(TestCase):
    def test_filled(self) -> None:
        self.assertEqual(
            [("roomname", "Untitled"), ("size", "9"), ("share", "0.5"), ("all_can_invite", "false")],
            list(TYPED.filled({"size": "9", "gone": "x"}).items()),
        )

    def test_the_empty_text_is_a_value(self) -> None:
        self.assertEqual("", TYPED.filled({"roomname": ""})["roomname"])

    def test_what_was_of_another_type_once_has_the_default(self) -> None:
        old = {"size": "big", "share": "x", "all_can_invite": "maybe"}
        self.assertEqual(TYPED.filled({}), TYPED.filled(old))
        self.assertEqual(TYPED.values({}), TYPED.values(old))
        self.assertFalse(TYPED.flag(old, "all_can_invite"))

    def test_values(self) -> None:
        values = TYPED.values({"roomname": "Den", "all_can_invite": "true", "gone": "x"})
        self.assertEqual({"title": "Den", "size": 5, "share": 0.5, "open": True}, values)
        self.assertEqual([str, int, float, bool], [type(value) for value in values.values()])
        # What is zero or empty is no reason for a default.
        zero = {"roomname": "", "size": "0", "share": "0.0", "all_can_invite": "false"}
        self.assertEqual({"title": "", "size": 0, "share": 0.0, "open": False}, TYPED.values(zero))

    def test_printed(self) -> None:
        self.assertEqual(b"<roomname>Lobby</roomname><subject/>", SCHEMA.printed({"roomname": "Lobby", "subject": ""}))
        self.assertEqual(b"<size>7</size><title>a</title>", TYPED.printed({"size": "7", "gone": "x", "roomname": "a"}))
        self.assertEqual(b"", TYPED.printed({}))

    def test_printed_texts_are_escaped(self) -> None:
        text = "</subject><x/>&é'\""
        printed = SCHEMA.printed({"subject": text}).decode()
        self.assertEqual({"subject": text}, read(printed, SCHEMA))

    def test_names_of_what_is_printed(self) -> None:
        config = {"size": "7", "gone": "x", "roomname": ""}
        found = parse(f"<x xmlns='urn:x'>{TYPED.printed(config).decode()}</x>").child_keys
        self.assertEqual(found, TYPED.child_keys(config, "urn:x"))

    def test_flags(self) -> None:
        self.assertTrue(TYPED.flag({"all_can_invite": "true"}, "all_can_invite"))
        self.assertFalse(TYPED.flag({}, "all_can_invite"))
        self.assertTrue(RoomSchema((RoomField(field="a", boolean_value=True),)).flag({}, "a"))
        self.assertFalse(SCHEMA.flag({"all_can_invite": "true"}, "all_can_invite"))

    def test_names_of_rooms(self) -> None:
        self.assertEqual("Den", TYPED.room_name({"roomname": "Den"}, LOBBY))
        self.assertEqual("Untitled", TYPED.room_name({}, LOBBY))
        self.assertEqual("lobby", RoomSchema(()).room_name({"roomname": "Den"}, LOBBY))

    def test_defaults_have_the_spelling_of_values(self) -> None:
        schema = RoomSchema(
            (
                RoomField(field="a", float_value=1e22),
                RoomField(field="b", boolean_value=True),
                RoomField(field="c", integer_value=-3),
            )
        )
        filled = schema.filled({})
        self.assertEqual({"a": "1e+22", "b": "true", "c": "-3"}, filled)
        self.assertEqual(filled, read(schema.printed(filled).decode(), schema))


class NamesOfFields(ConfigTestCase):
    models = {"mod_muc_light": MucLightConfig}

    def options(self, name: str) -> dict[str, Any]:
        return {"mod_muc_light": {"config_schema": [{"field": name, "string_value": ""}]}}

    def test_names_of_elements(self) -> None:
        for name in ("roomname", "a", "_a", "a-b.c", "été", "versions"):
            section: Any = self.load(modules=self.options(name)).host_types["basic"].modules["mod_muc_light"]
            self.assertEqual([name], [field.field for field in section.config_schema])

    def test_what_is_none(self) -> None:
        where = "modules.mod_muc_light.config_schema[0].field: "
        for name in (
            "1a",
            "-a",
            "a b",
            " a",
            "a ",
            "a:b",
            "xml:a",
            "a><b/></a",
            "a/",
            "a x='1'",
            "!--a--",
            "?a?",
            "a&b",
        ):
            with self.subTest(name=name):
                self.assertEqual(
                    [f'{where}"{name}" is not a name that an XML element may have'],
                    self.lines(modules=self.options(name)),
                )
        self.assertEqual([f"{where}must not be empty"], self.lines(modules=self.options("")))

    def test_reserved(self) -> None:
        where = "modules.mod_muc_light.config_schema[0].field: "
        for name in ("version", "prev-version"):
            self.assertEqual([f'{where}the name "{name}" is reserved'], self.lines(modules=self.options(name)))
