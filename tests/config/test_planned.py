"""Sections of modules that are still to come."""

import math
from typing import Any

from dynxmpp.config.planned import (
    PLANNED,
    AffiliationCache,
    MucLight,
    RoomField,
)
from tests.config.support import ConfigTestCase

UNAVAILABLE = "is not available in this server"
Cases = list[tuple[dict[str, Any], list[str]]]


class PlannedTestCase(ConfigTestCase):
    models = {}

    def module(self, name: str, keys: dict[str, Any]) -> Any:
        return self.load(modules={name: keys}).host_types["basic"].modules[name]

    def mistakes(self, name: str, keys: dict[str, Any]) -> list[str]:
        return [line.removeprefix(f"modules.{name}.") for line in self.lines(modules={name: keys})]


class EveryModuleTests(PlannedTestCase):
    def test_an_empty_section_is_enough(self) -> None:
        for name, model in PLANNED.items():
            with self.subTest(name=name):
                self.assertEqual(self.module(name, {}), model())

    def test_unexpected_keys(self) -> None:
        for name in PLANNED:
            with self.subTest(name=name):
                [line] = self.mistakes(name, {"zzzzzz": 1})
                self.assertTrue(line.startswith("zzzzzz: unexpected key"), line)


class MucLightTests(PlannedTestCase):
    def rooms(self, **keys: Any) -> MucLight:
        return self.module("mod_muc_light", keys)

    def test_defaults(self) -> None:
        rooms = self.rooms()
        self.assertEqual((rooms.host, rooms.rooms_per_page, rooms.rooms_per_user), ("muclight.@HOST@", 10, math.inf))
        self.assertEqual(
            [(field.field, field.value) for field in rooms.config_schema], [("roomname", "Untitled"), ("subject", "")]
        )

    def test_a_schema_replaces_the_default(self) -> None:
        schema = [
            {"field": "roomname", "string_value": "Lobby"},
            {"field": "size", "integer_value": 0},
            {"field": "share", "float_value": 0.5},
            {"field": "open", "boolean_value": False, "internal_key": "all_can_invite"},
        ]
        fields = self.rooms(config_schema=schema).config_schema
        self.assertEqual([field.value for field in fields], ["Lobby", 0, 0.5, False])

    def test_one_of_two_fields_of_a_name_is_kept(self) -> None:
        schema = [{"field": "a", "integer_value": 1}, {"field": "a", "integer_value": 2}]
        self.assertEqual(self.rooms(config_schema=schema).config_schema, (RoomField(field="a", integer_value=2),))

    def test_cache_is_off_without_its_section(self) -> None:
        self.assertIsNone(self.rooms().cache_affs)
        self.assertEqual(self.rooms(cache_affs={}).cache_affs, AffiliationCache(time_to_live=2))

    def test_mistakes(self) -> None:
        values = "string_value, integer_value, float_value, boolean_value"
        cases: Cases = [
            ({"legacy_mode": True}, ["legacy_mode: legacy mode is not available in this server"]),
            ({"host": ""}, ['host: invalid subdomain template ""']),
            ({"max_occupants": 0}, ["max_occupants: must be greater than zero, not 0"]),
            ({"rooms_per_page": "all"}, ['rooms_per_page: must be an integer or "infinity", not "all"']),
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
                self.assertEqual(self.mistakes("mod_muc_light", keys), lines)
