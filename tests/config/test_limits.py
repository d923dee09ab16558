"""[limits] and [host_config.limits]: what holds for which host type, and mistakes."""

from math import inf
from typing import Any

from tests.config.support import ConfigTestCase


class LimitsTests(ConfigTestCase):
    def test_a_host_type_has_its_own_and_the_rest_of_the_general_ones(self) -> None:
        own = {"host_config": [{"host_type": "basic", "limits": {"rooms": 5, "accounts": "infinity"}}]}
        config = self.load(limits={"sessions": 10, "rooms": 2, "accounts": 3}, **own)
        basic, static = config.host_types["basic"].limits, config.host_types["example.com"].limits
        self.assertEqual((10, 5, inf), (basic.sessions, basic.rooms, basic.accounts))
        self.assertEqual((10, 2, 3), (static.sessions, static.rooms, static.accounts))
        self.assertIsNone(basic.stored_bytes)

    def test_mistakes(self) -> None:
        for value, reason in (
            ({"sessions": "many"}, 'sessions: must be an integer or "infinity", not "many"'),
            ({"sessions": -1}, "sessions: must not be negative, but is -1"),
            ({"stored_bytes": 1.5}, 'stored_bytes: must be an integer or "infinity", not a float'),
            ({"message_burst": 0}, "message_burst: must be greater than zero, not 0"),
            ({"mesages_per_second": 1}, "mesages_per_second: unexpected key (did you mean messages_per_second?)"),
        ):
            tables: list[tuple[str, dict[str, Any]]] = [
                ("limits", {"limits": value}),
                ('host_config["basic"].limits', {"host_config": [{"host_type": "basic", "limits": value}]}),
            ]
            for place, table in tables:
                with self.subTest(place=place, value=value):
                    self.assertEqual([f"{place}.{reason}"], self.lines(**table))
