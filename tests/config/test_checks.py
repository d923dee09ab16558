"""What values are accepted, and what is made of them."""

import math
from pathlib import Path

from cattrs.errors import BaseValidationError
from twisted.trial.unittest import TestCase

from dynxmpp.config import checks
from dynxmpp.config.checks import Check
from dynxmpp.config.report import Mistake, mistakes_in

ACCEPTED: list[tuple[Check, object, object]] = [
    (checks.positive, 1, 1),
    (checks.positive, math.inf, math.inf),
    (checks.non_negative, 0, 0),
    (checks.at_most(5), 5, 5),
    (checks.port, 0, 0),
    (checks.port, 65535, 65535),
    (checks.one_of("a", "b"), "b", "b"),
    (checks.only(False, "no"), False, False),
    (checks.non_empty, "x", "x"),
    (checks.unique, ("a", "b"), ("a", "b")),
    (checks.each(checks.domain), ("A.example", "b"), ("a.example", "b")),
    (checks.regexp, "^a+$", "^a+$"),
    (checks.domain, "Example.COM", "example.com"),
    (checks.domain, "chat.example.", "chat.example"),
    (checks.domain, "Bücher.example", "bücher.example"),
    (checks.domain, "xn--bcher-kva.example", "bücher.example"),
    (checks.domain, "[::1]", "[::1]"),
    (checks.subdomain_template, "muclight.@HOST@", "muclight.@HOST@"),
    (checks.subdomain_template, "MUC.Light.@HOST@", "muc.light.@HOST@"),
    (checks.subdomain_template, "rooms.example.org", "rooms.example.org"),
    (checks.ip_address, "127.0.0.1", "127.0.0.1"),
    (checks.ip_address, "0:0::1", "::1"),
    (checks.localpart, "Alice", "alice"),
    (checks.resourcepart, "Phone", "Phone"),
    (checks.jid, "Alice@Example.com/Phone", "alice@example.com/Phone"),
]

REFUSED: list[tuple[Check, object, str]] = [
    (checks.positive, 0, "must be greater than zero, not 0"),
    (checks.non_negative, -1, "must not be negative, but is -1"),
    (checks.at_most(5), 6, "must be at most 5, not 6"),
    (checks.at_most(5), math.inf, "must be at most 5, not inf"),
    (checks.port, -1, "must be a port, 0 to 65535, not -1"),
    (checks.port, 65536, "must be a port, 0 to 65535, not 65536"),
    (checks.one_of("a", kind="letter"), "c", 'unknown letter "c"'),
    (checks.one_of("a", unavailable=("b",), kind="letter"), "b", "letter b is not available in this server"),
    (checks.only(False, "there is none"), True, "there is none"),
    (checks.non_empty, "", "must not be empty"),
    (checks.non_empty, (), "must not be empty"),
    (checks.unique, ("a", "b", "a"), 'names "a" twice'),
    (checks.regexp, "(", "is not a regular expression: missing ), unterminated subpattern at position 0"),
    (checks.domain, "", 'invalid domain name ""'),
    (checks.domain, "a b", 'invalid domain name "a b"'),
    (checks.domain, "a..b", 'invalid domain name "a..b"'),
    (checks.domain, "a/b", 'invalid domain name "a/b"'),
    (checks.domain, "a@b", 'invalid domain name "a@b"'),
    (checks.domain, "x" * 64 + ".example", f'invalid domain name "{"x" * 60}..."'),
    (checks.subdomain_template, ".@HOST@", 'invalid subdomain template ".@HOST@"'),
    (checks.subdomain_template, "@HOST@", 'invalid subdomain template "@HOST@"'),
    (checks.subdomain_template, "a.@HOST@.b", 'invalid subdomain template "a.@HOST@.b"'),
    (checks.subdomain_template, "a b.@HOST@", 'invalid subdomain template "a b.@HOST@"'),
    (checks.ip_address, "localhost", '"localhost" is not an IP address'),
    (checks.ip_address, "127.0.0.1/8", '"127.0.0.1/8" is not an IP address'),
    (checks.localpart, "a@b", '"a@b" is not the localpart of an address'),
    (checks.resourcepart, "", '"" is not the resource of an address'),
    (checks.jid, "@example.com", '"@example.com" is not a JID'),
    (checks.file_exists, Path("/nowhere/x"), 'there is no file "/nowhere/x"'),
    (checks.file_exists, Path("/" + "x" * 5000), f'there is no file "/{"x" * 499}..."'),
    (checks.file_exists, Path("/a\0b"), r'there is no file "/a\u0000b"'),
]


class ChecksTests(TestCase):
    def test_accepted(self) -> None:
        for check, value, prepared in ACCEPTED:
            with self.subTest(value=value):
                self.assertEqual(check(value), prepared)

    def test_refused(self) -> None:
        for check, value, what in REFUSED:
            with self.subTest(value=value), self.assertRaises(Mistake) as raised:
                check(value)
            self.assertEqual(raised.exception.what, what)

    def test_allowed_values_are_listed(self) -> None:
        with self.assertRaises(Mistake) as raised:
            checks.one_of("red", "green", unavailable=("blue",))("gren")
        self.assertEqual((raised.exception.allowed, raised.exception.meant), (("red", "green"), "green"))

    def test_each_reports_every_member(self) -> None:
        with self.assertRaises(BaseValidationError) as raised:
            checks.each(checks.positive)((1, 0, 2, -1))
        found = [(mistake.at, mistake.what) for mistake in mistakes_in(raised.exception)]
        self.assertEqual(
            found,
            [((1,), "must be greater than zero, not 0"), ((3,), "must be greater than zero, not -1")],
        )

    def test_file_that_exists(self) -> None:
        path = Path(__file__)
        self.assertEqual(checks.file_exists(path), path)
        with self.assertRaises(Mistake):
            checks.file_exists(path.parent)
