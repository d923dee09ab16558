"""[modules.mod_mam_meta] of the configuration: what is taken over, what is refused."""

from typing import Any

from dynxmpp.modules.mam.config import AsyncWriter, Cache, MamConfig, PmArchive
from tests.config.support import ConfigTestCase

UNAVAILABLE = "is not available in this server"
Cases = list[tuple[dict[str, Any], list[str]]]


class MamTests(ConfigTestCase):
    def mam(self, **keys: Any) -> MamConfig:
        section = self.load(modules={"mod_mam_meta": keys}).host_types["basic"].modules["mod_mam_meta"]
        assert isinstance(section, MamConfig)
        return section

    def mistakes(self, keys: dict[str, Any]) -> list[str]:
        lines = self.lines(modules={"mod_mam_meta": keys})
        return [line.removeprefix("modules.mod_mam_meta.") for line in lines]

    def test_off_without_sections(self) -> None:
        mam = self.mam()
        self.assertEqual((mam.pm, mam.muc), (None, None))
        self.assertEqual((mam.default_result_limit, mam.max_result_limit), (50, 50))
        self.assertEqual((mam.full_text_search, mam.message_retraction, mam.user_prefs_store), (True, True, None))
        self.assertEqual(mam.async_writer, AsyncWriter(enabled=True, flush_interval=2000, batch_size=200))
        self.assertEqual(mam.cache, Cache(time_to_live=480))

    def test_empty_sections(self) -> None:
        mam = self.mam(pm={}, muc={})
        self.assertEqual(mam.pm, PmArchive())
        assert mam.muc is not None
        self.assertEqual(mam.muc.host, "conference.@HOST@")

    def test_inheritance(self) -> None:
        mam = self.mam(
            archive_chat_markers=True,
            max_result_limit=10,
            flush_interval=100,
            user_prefs_store="rdbms",
            pm={"max_result_limit": 20, "archive_groupchats": True},
            muc={"host": "muclight.@HOST@", "async_writer": {"batch_size": 5}, "user_prefs_store": "mnesia"},
        )
        assert mam.pm is not None
        assert mam.muc is not None
        self.assertEqual((mam.pm.archive_chat_markers, mam.muc.archive_chat_markers), (True, True))
        self.assertEqual((mam.pm.max_result_limit, mam.muc.max_result_limit), (20, 10))
        self.assertEqual((mam.pm.user_prefs_store, mam.muc.user_prefs_store), ("rdbms", "mnesia"))
        self.assertEqual(mam.pm.async_writer, AsyncWriter(flush_interval=100))
        self.assertEqual(mam.muc.async_writer, AsyncWriter(flush_interval=100, batch_size=5))

    def test_mistakes(self) -> None:
        cases: Cases = [
            ({"backend": "riak", "pm": {}}, [f"backend: backend riak {UNAVAILABLE} (allowed: rdbms)"]),
            ({"pm": {"backend": "cassandra"}}, [f"pm.backend: backend cassandra {UNAVAILABLE} (allowed: rdbms)"]),
            (
                {"user_prefs_store": "cassandra", "pm": {}, "muc": {}},
                [f"user_prefs_store: store of preferences cassandra {UNAVAILABLE} (allowed: rdbms, mnesia)"],
            ),
            ({"muc": {"host": "a b.@HOST@"}}, ['muc.host: invalid subdomain template "a b.@HOST@"']),
            ({"pm": {"host": "a.@HOST@"}}, ["pm.host: unexpected key"]),
            (
                {"muc": {"archive_groupchats": True}},
                ["muc.archive_groupchats: unexpected key (did you mean archive_chat_markers?)"],
            ),
            ({"pm": True}, ["pm: must be a section, not a boolean"]),
            ({"send_message": "mine"}, ['send_message: unknown callback module "mine" (allowed: mod_mam_utils)']),
            ({"riak": {}}, ["riak: backend riak is not available in this server"]),
            ({"cache": {"strategy": "random"}}, ['cache.strategy: unknown value "random" (allowed: fifo, lru)']),
            (
                {"async_writer": {"batch_size": 0}, "pm": {}},
                ["async_writer.batch_size: must be greater than zero, not 0"],
            ),
            ({"max_result_limit": -1, "muc": {}}, ["max_result_limit: must not be negative, but is -1"]),
        ]
        for keys, lines in cases:
            with self.subTest(keys=keys):
                self.assertEqual(self.mistakes(keys), lines)
