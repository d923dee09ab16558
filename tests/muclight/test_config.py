"""[modules.mod_muc_light] of the configuration: what is taken over, what is refused."""

import math
from typing import Any

from dynxmpp.modules.muc_light.config import AffiliationCache, MucLightConfig, RoomField
from tests.config.support import ConfigTestCase

Cases = list[tuple[dict[str, Any], list[str]]]


class MucLightTests(ConfigTestCase):
    def rooms(self, **keys: Any) -> MucLightConfig:
        section = self.load(modules={"mod_muc_light": keys}).host_types["basic"].modules["mod_muc_light"]
        assert isinstance(section, MucLightConfig)
        return section

    def mistakes(self, keys: dict[str, Any]) -> list[str]:
        lines = self.lines(modules={"mod_muc_light": keys})
        return [line.removeprefix("modules.mod_muc_light.") for line in lines]

    def schema_mistakes(self, *fields: dict[str, Any]) -> list[str]:
        return self.mistakes({"config_schema": list(fields)})

    def test_an_empty_section_is_enough(self) -> None:
        rooms = self.rooms()
        self.assertEqual(rooms, MucLightConfig())
        self.assertEqual((rooms.host, rooms.rooms_per_page, rooms.rooms_per_user), ("muclight.@HOST@", 10, math.inf))
        self.assertEqual(
            [(field.field, field.value) for field in rooms.config_schema], [("roomname", "Untitled"), ("subject", "")]
        )

    def test_nothing_is_warned_of(self) -> None:
        self.assertEqual(self.load(modules={"mod_muc_light": {"backend": "mnesia"}}).warnings, ())

    def test_a_schema_replaces_the_default(self) -> None:
        schema = [
            {"field": "roomname", "string_value": "Lobby"},
            {"field": "size", "integer_value": 0},
            {"field": "share", "float_value": 0.5},
            {"field": "open", "boolean_value": False, "internal_key": "all_can_invite"},
        ]
        fields = self.rooms(config_schema=schema).config_schema
        self.assertEqual([field.value for field in fields], ["Lobby", 0, 0.5, False])
        self.assertEqual([field.key for field in fields], ["roomname", "size", "share", "all_can_invite"])

    def test_one_of_two_fields_of_a_name_is_kept(self) -> None:
        schema = [
            {"field": "a", "integer_value": 1, "internal_key": "x"},
            {"field": "a", "integer_value": 2, "internal_key": "y"},
            {"field": "b", "integer_value": 3, "internal_key": "x"},
        ]
        self.assertEqual(
            self.rooms(config_schema=schema).config_schema,
            (
                RoomField(field="a", integer_value=2, internal_key="y"),
                RoomField(field="b", integer_value=3, internal_key="x"),
            ),
        )

    def test_two_fields_of_one_internal_key(self) -> None:
        cases = [
            (("a", {"internal_key": "x"}), ("b", {"internal_key": "x"}), "x"),
            (("a", {}), ("b", {"internal_key": "a"}), "a"),
            (("a", {"internal_key": "b"}), ("b", {}), "b"),
        ]
        for (one, keys), (other, other_keys), shared in cases:
            with self.subTest(shared=shared):
                fields: list[dict[str, Any]] = [
                    {"field": "c", "boolean_value": True},
                    {"field": one, "integer_value": 1, **keys},
                    {"field": other, "integer_value": 1, **other_keys},
                ]
                self.assertEqual(
                    self.schema_mistakes(*fields),
                    [f'config_schema: the fields "{one}" and "{other}" have one internal key, "{shared}"'],
                )

    def test_fields_may_swap_their_names(self) -> None:
        schema = [
            {"field": "a", "integer_value": 1, "internal_key": "b"},
            {"field": "b", "integer_value": 2, "internal_key": "a"},
        ]
        self.assertEqual([field.key for field in self.rooms(config_schema=schema).config_schema], ["b", "a"])

    def test_names_of_elements(self) -> None:
        for name in ("a", "Raum-Größe", "_1.2", "名"):
            with self.subTest(name=name):
                [field] = self.rooms(config_schema=[{"field": name, "integer_value": 1}]).config_schema
                self.assertEqual(field.field, name)

    def test_what_no_element_can_be_called(self) -> None:
        for name in ("1a", "a b", "a:b", "a/", "a><b", "a x='1'", " a", "a\n", "&amp;", "a\x00"):
            with self.subTest(name=name):
                [line] = self.schema_mistakes({"field": name, "integer_value": 1})
                self.assertTrue(line.startswith("config_schema[0].field: "), line)
                self.assertTrue(line.endswith(" is not a name that an XML element may have"), line)

    def test_names_that_say_something_else(self) -> None:
        for name in ("version", "prev-version"):
            with self.subTest(name=name):
                self.assertEqual(
                    self.schema_mistakes({"field": name, "string_value": ""}),
                    [f'config_schema[0].field: the name "{name}" is reserved'],
                )

    def test_members_of_rooms_are_kept_without_an_end_unless_told(self) -> None:
        self.assertIsNone(self.rooms().cache_affs)
        self.assertEqual(self.rooms(cache_affs={}).cache_affs, AffiliationCache(time_to_live=2))
        self.assertEqual(
            self.rooms(cache_affs={"time_to_live": "infinity"}).cache_affs, AffiliationCache(time_to_live=math.inf)
        )

    def test_mistakes(self) -> None:
        values = "string_value, integer_value, float_value, boolean_value"
        cases: Cases = [
            ({"zzzzzz": 1}, ["zzzzzz: unexpected key"]),
            ({"legacy_mode": True}, ["legacy_mode: legacy mode is not available in this server"]),
            ({"host": ""}, ['host: invalid subdomain template ""']),
            ({"max_occupants": 0}, ["max_occupants: must be greater than zero, not 0"]),
            ({"rooms_per_page": "all"}, ['rooms_per_page: must be an integer or "infinity", not "all"']),
            ({"cache_affs": {"time_to_live": 0}}, ["cache_affs.time_to_live: must be greater than zero, not 0"]),
            ({"config_schema": [{"string_value": ""}]}, ["config_schema[0].field: is missing"]),
            ({"config_schema": [{"field": "a"}]}, [f"config_schema[0]: exactly one of {values} is needed, not 0"]),
            (
                {"config_schema": [{"field": "a", "string_value": "", "integer_value": 1}]},
                [f"config_schema[0]: exactly one of {values} is needed, not 2"],
            ),
            (
                {"config_schema": [{"field": "a", "string_value": ""}, {"field": "roomname", "integer_value": 1}]},
                ['config_schema[1].integer_value: the reserved field "roomname" needs a string_value'],
            ),
            (
                {"config_schema": [{"field": "a", "internal_key": "all_can_invite", "string_value": ""}]},
                ['config_schema[0].string_value: the reserved field "all_can_invite" needs a boolean_value'],
            ),
            (
                {"config_schema": [{"field": "a", "float_value": 1}]},
                ["config_schema[0].float_value: must be a float, not an integer"],
            ),
        ]
        for keys, lines in cases:
            with self.subTest(keys=keys):
                self.assertEqual(self.mistakes(keys), lines)
