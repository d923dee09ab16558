"""[modules.mod_stream_management] as it is read, and what it means."""

import math
from typing import Any, ClassVar

from dynxmpp.modules.stream_management import StreamManagementConfig
from tests.config.support import ConfigTestCase


class Options(ConfigTestCase):
    models: ClassVar[dict[str, Any]] = {"mod_stream_management": StreamManagementConfig}

    def section(self, keys: dict[str, Any]) -> Any:
        return self.load(modules={"mod_stream_management": keys}).host_types["basic"].modules["mod_stream_management"]

    def test_words_and_numbers(self) -> None:
        self.assertEqual(
            self.section({"buffer_max": "no_buffer", "ack_freq": "never"}),
            StreamManagementConfig(buffer_max="no_buffer", ack_freq="never"),
        )
        self.assertEqual(math.inf, self.section({"buffer_max": "infinity"}).buffer_max)

    def test_mistakes(self) -> None:
        keys = {"buffer_max": "none", "buffer_max_bytes": 0, "ack_freq": 0, "stale_h": {"geriatric": 0}}
        self.assertEqual(
            [
                'buffer_max: must be an integer or "infinity" or "no_buffer", not "none"',
                "buffer_max_bytes: must be greater than zero, not 0",
                "ack_freq: must be greater than zero, not 0",
                "stale_h.geriatric: must be greater than zero, not 0",
            ],
            [
                line.removeprefix("modules.mod_stream_management.")
                for line in self.lines(modules={"mod_stream_management": keys})
            ],
        )
