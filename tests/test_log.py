"""Logging: one line an event, for people and as JSON; secrets are not shown; the level changes at run time."""

import io
import json
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dynxmpp.config.general import General
from dynxmpp.config.model import options_of
from dynxmpp.log import LEVELS, ServerLog


class LogTestCase(TestCase):
    as_json = False

    def setUp(self) -> None:
        self.file = io.StringIO()
        self.server_log = ServerLog(self.file, level="info", as_json=self.as_json)
        self.publisher = LogPublisher(self.server_log.observer)
        self.log = Logger(namespace="dynxmpp.domains.service", observer=self.publisher)
        self.foreign = Logger(namespace="twisted.web.server", observer=self.publisher)

    def lines(self) -> list[str]:
        """What has been written since the last time."""
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        self.assertTrue(text == "" or text.endswith("\n"), text)
        return text.split("\n")[:-1]

    def log_failure(self) -> None:
        try:
            raise ValueError("two\nlines\x1b[2J")
        except ValueError:
            self.log.failure("work_failed", failure=Failure(), domain="a.example")


class TextTests(LogTestCase):
    def after_time(self) -> str:
        """The one line that was written, without its time."""
        (line,) = self.lines()
        time, _, rest = line.partition(" ")
        self.assertRegex(time, r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        return rest

    def test_an_event(self) -> None:
        self.log.info("domain_inserted", domain="a.example", host_type="basic", event_id=7)
        expected = "info  domains.service domain_inserted domain=a.example host_type=basic event_id=7"
        self.assertEqual(expected, self.after_time())

    def test_the_time_is_that_of_the_event(self) -> None:
        event = {"log_level": LogLevel.info, "log_time": 0.25, "log_namespace": "dynxmpp.x", "log_format": "e"}
        self.publisher(event)
        self.assertEqual(["1970-01-01T00:00:00.250000Z info  x e"], self.lines())

    def test_values_that_need_quotes(self) -> None:
        values: list[tuple[Any, str]] = [
            ("two words", '"two words"'),
            ("", '""'),
            ('a"b', r'"a\"b"'),
            ("a=b", '"a=b"'),
            ("a\\b", r'"a\\b"'),
            ("a\nb", r'"a\nb"'),
            ("\x1b[31m", r'"\u001b[31m"'),
            ("a\x9b\u2028b", r'"a\u009b\u2028b"'),
            ("müller.example", "müller.example"),
            (None, "None"),
            (0.5, "0.5"),
            (["a", 1], "\"['a', 1]\""),
        ]
        for value, shown in values:
            with self.subTest(value=value):
                self.log.info("event", value=value)
                self.assertEqual(f"info  domains.service event value={shown}", self.after_time())

    def test_nobody_forges_a_line(self) -> None:
        self.log.info("event", text="x\n2026-01-01T00:00:00.000000Z info  x forged")
        self.assertEqual(1, len(self.lines()))

    def test_braces_in_fields_are_no_format(self) -> None:
        self.log.info("event", text="{log_time}")
        self.assertEqual("info  domains.service event text={log_time}", self.after_time())

    def test_a_traceback_is_below_its_line_and_indented(self) -> None:
        self.log_failure()
        first, *below = self.lines()
        self.assertIn("critical domains.service work_failed domain=a.example", first)
        self.assertTrue(all(line.startswith("    ") for line in below), below)
        self.assertIn("    builtins.ValueError: two", below)
        self.assertIn("    lines\\x1b[2J", below)

    def test_events_of_others_are_texts(self) -> None:
        self.foreign.warn("Cannot read {file}:\n  {reason}", file="x.pem", reason="gone")
        self.assertEqual("warn  twisted.web.server Cannot read x.pem: gone", self.after_time())
        self.foreign.warn("Odd: {what}", what="\x1b[2J")
        self.assertEqual(r"warn  twisted.web.server Odd: \x1b[2J", self.after_time())

    def test_legacy_events(self) -> None:
        self.server_log.set_level("debug")
        publisher = legacy.LogPublisher(observerPublisher=self.publisher, publishPublisher=self.publisher)
        publisher.msg("old style", "of logging")
        self.assertIn("old style of logging", self.after_time())

    def test_an_event_without_a_level_is_passed_over(self) -> None:
        self.publisher({"log_format": "x", "log_time": 0.0, "log_namespace": "dynxmpp"})
        self.assertEqual([], self.lines())

    def test_written_at_once(self) -> None:
        flushed: list[str] = []

        class File(io.StringIO):
            def flush(self) -> None:
                flushed.append(self.getvalue())

        log = ServerLog(File(), level="info")
        Logger(namespace="dynxmpp", observer=log.observer).info("event")
        self.assertEqual(1, len(flushed))
        self.assertTrue(flushed[0].endswith("event\n"))


class JsonTests(LogTestCase):
    as_json = True

    def record(self) -> dict[str, Any]:
        (line,) = self.lines()
        record: dict[str, Any] = json.loads(line)
        self.assertRegex(record.pop("time"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        return record

    def test_an_event(self) -> None:
        self.log.warn("domain_inserted", domain="müller.example", event_id=7, enabled=True, reason=None)
        expected = {"level": "warn", "source": "domains.service", "event": "domain_inserted"}
        fields = {"domain": "müller.example", "event_id": 7, "enabled": True, "reason": None}
        self.assertEqual({**expected, **fields}, self.record())

    def test_what_json_does_not_know_is_text(self) -> None:
        self.log.info("event", value=LogLevel, text="a\nb\u2028c")
        record = self.record()
        self.assertEqual(str(LogLevel), record["value"])
        self.assertEqual("a\nb\u2028c", record["text"])

    def test_fields_do_not_replace_what_every_line_has(self) -> None:
        self.log.info("event", source="forged", event="other")
        self.assertEqual({"level": "info", "source": "domains.service", "event": "event"}, self.record())

    def test_a_traceback_is_a_field(self) -> None:
        self.log_failure()
        record = self.record()
        self.assertEqual(("critical", "work_failed"), (record["level"], record["event"]))
        self.assertEqual("a.example", record["domain"])
        self.assertIn("ValueError: two\nlines\x1b[2J", record["traceback"])

    def test_events_of_others_have_their_text_as_name(self) -> None:
        self.foreign.error("Lost {peer}", peer="x", password="hunter2")
        self.assertEqual({"level": "error", "source": "twisted.web.server", "event": "Lost x"}, self.record())


class SecretTests(LogTestCase):
    def test_what_may_be_a_secret_is_not_shown(self) -> None:
        for as_json in (False, True):
            server_log = ServerLog(self.file, level="info", as_json=as_json)
            log = Logger(namespace="dynxmpp", observer=server_log.observer)
            for field in ("password", "db_password", "Password", "secret", "client_secret", "token", "accessToken"):
                with self.subTest(field=field, as_json=as_json):
                    log.info("event", **{field: "hunter2"}, user="ann")
                    (line,) = self.lines()
                    self.assertNotIn("hunter2", line)
                    self.assertIn(field, line)
                    self.assertIn("***", line)
                    self.assertIn("ann", line)


class LevelTests(LogTestCase):
    def logged(self, log: Logger) -> list[str]:
        """The levels that come through."""
        for level in LogLevel.iterconstants():
            log.emit(level, "event")
        return [line.split()[1] for line in self.lines()]

    def test_levels_of_our_events(self) -> None:
        everything = ["debug", "info", "warn", "error", "critical"]
        expected = {
            "none": 5,
            "emergency": 4,
            "alert": 4,
            "critical": 4,
            "error": 3,
            "warning": 2,
            "notice": 1,
            "info": 1,
            "debug": 0,
            "all": 0,
        }
        for level, first in expected.items():
            with self.subTest(level=level):
                self.server_log.set_level(level)
                self.assertEqual(everything[first:], self.logged(self.log))

    def test_what_others_say_casually_is_debug(self) -> None:
        self.assertEqual(["warn", "error", "critical"], self.logged(self.foreign))
        self.server_log.set_level("debug")
        self.assertEqual(["debug", "info", "warn", "error", "critical"], self.logged(self.foreign))
        self.server_log.set_level("error")
        self.assertEqual(["error", "critical"], self.logged(self.foreign))

    def test_the_level_changes_at_run_time(self) -> None:
        self.log.debug("first")
        self.server_log.set_level("debug")
        self.log.debug("second")
        self.server_log.set_level("warning")
        self.log.info("third")
        self.assertEqual(["second"], [line.split()[-1] for line in self.lines()])

    def test_every_level_of_the_configuration_is_known(self) -> None:
        self.assertEqual(set(options_of(General)["loglevel"].type.__args__), set(LEVELS))

    def test_an_unknown_level_changes_nothing(self) -> None:
        self.assertRaises(KeyError, self.server_log.set_level, "loud")
        self.assertEqual(["info", "warn", "error", "critical"], self.logged(self.log))
