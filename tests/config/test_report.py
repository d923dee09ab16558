"""The lines that a person reads."""

from twisted.trial.unittest import TestCase

from dynxmpp.config.report import (
    UP,
    ConfigErrors,
    Mistake,
    Name,
    Problem,
    format_path,
    nearest,
    problems_of,
    quoted,
)


class ReportTests(TestCase):
    def test_line(self) -> None:
        problem = Problem("chat.toml", "general.loglevel", "unknown value", ("info", "debug"), "info")
        self.assertEqual(
            str(problem),
            "chat.toml: general.loglevel: unknown value (allowed: info, debug) (did you mean info?)",
        )
        self.assertEqual(str(Problem("chat.toml", "", "cannot be read")), "chat.toml: cannot be read")

    def test_errors_print_as_their_lines(self) -> None:
        errors = ConfigErrors([Problem("a.toml", "x", "one"), Problem("a.toml", "y", "two")])
        self.assertEqual(str(errors), "a.toml: x: one\na.toml: y: two")

    def test_paths(self) -> None:
        self.assertEqual(format_path(("listen", "c2s", 0, "tls", "mode")), "listen.c2s[0].tls.mode")
        self.assertEqual(
            format_path(("host_config", Name("dummy auth"), "modules", "mod_x")),
            'host_config["dummy auth"].modules.mod_x',
        )
        self.assertEqual(format_path(("acl", "a.b", 'c"d')), r'acl."a.b"."c\"d"')
        self.assertEqual(format_path(()), "")

    def test_nothing_from_the_file_can_make_a_line_of_its_own(self) -> None:
        self.assertEqual(quoted("a\nb\x1b[1m"), r'"a\nb\u001b[1m"')
        self.assertEqual(quoted("\u2028"), r'"\u2028"')
        self.assertEqual(quoted("ü"), '"ü"')

    def test_same_line_once(self) -> None:
        mistakes = [Mistake("is wrong", at=("a",)), Mistake("is wrong", at=("b",)), Mistake("is wrong", at=("a",))]
        self.assertEqual([problem.path for problem in problems_of("x", mistakes)], ["a", "b"])

    def test_mistake_of_the_section_around(self) -> None:
        self.assertEqual(Mistake("x", at=(UP, "key")).below("pm").below("modules").at, ("modules", "key"))
        self.assertEqual(Mistake("x", at=("key",)).below("pm").below("modules").at, ("modules", "pm", "key"))

    def test_nearest(self) -> None:
        self.assertEqual(nearest("host_typs", ["hosts", "host_types"]), "host_types")
        self.assertIsNone(nearest("colour", ["hosts", "host_types"]))
        self.assertIsNone(nearest("x" * 10**6, ["hosts"]))
