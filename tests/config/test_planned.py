"""Sections of modules that are still to come."""

from typing import Any

from dynxmpp.config.planned import PLANNED
from tests.config.support import ConfigTestCase


class EveryModuleTests(ConfigTestCase):
    models = {}

    def test_an_empty_section_is_enough(self) -> None:
        for name, model in PLANNED.items():
            with self.subTest(name=name):
                self.assertEqual(self.load(modules={name: {}}).host_types["basic"].modules[name], model())

    def test_unexpected_keys(self) -> None:
        for name in PLANNED:
            with self.subTest(name=name):
                keys: dict[str, Any] = {"zzzzzz": 1}
                [line] = self.lines(modules={name: keys})
                self.assertTrue(line.startswith(f"modules.{name}.zzzzzz: unexpected key"), line)
