"""Who is in a class, and what a rule says of them."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.config.acl import Access, AccessClause, AclPattern
from dynxmpp.config.model import Section
from tests.config.support import ConfigTestCase

HOSTED = {"a.example", "b.example"}


def ask(access: Access, rule: str, jid: str, context: str = "a.example") -> str | int | None:
    bare, _, resource = jid.partition("/")
    local, _, domain = bare.rpartition("@")
    return access.value(
        rule,
        local=local or None,
        domain=domain,
        resource=resource or None,
        context_domain=context,
        hosted=HOSTED.__contains__,
    )


#: pattern, addresses that fit, addresses that do not; the context is a.example
PATTERNS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({}, ["ann@a.example", "a.example"], ["ann@b.example", "ann@c.example"]),
    ({"match": "all"}, ["ann@a.example", "ann@c.example"], []),
    ({"match": "none"}, [], ["ann@a.example"]),
    ({"match": "current_domain"}, ["ann@a.example"], ["ann@b.example"]),
    ({"match": "any_hosted_domain"}, ["ann@a.example", "ann@b.example"], ["ann@c.example"]),
    ({"user": "Ann"}, ["ann@a.example", "ann@a.example/x"], ["bob@a.example", "a.example", "ann@b.example"]),
    ({"user": "ann", "match": "any_hosted_domain"}, ["ann@b.example"], ["ann@c.example", "bob@b.example"]),
    ({"user": "ann", "server": "A.example"}, ["ann@a.example"], ["bob@a.example", "ann@b.example"]),
    ({"server": "c.example"}, [], ["ann@c.example", "ann@a.example"]),
    ({"server": "c.example", "match": "all"}, ["ann@c.example"], ["ann@a.example"]),
    ({"resource": "Phone"}, ["ann@a.example/Phone"], ["ann@a.example/phone", "ann@a.example"]),
    ({"user_regexp": "n+"}, ["ann@a.example", "jon@a.example"], ["bob@a.example", "a.example"]),
    ({"user_regexp": "^A"}, ["ann@a.example"], ["jan@a.example"]),
    ({"user_regexp": "^\\S+$"}, ["ann@a.example"], ["a.example"]),
    ({"user_regexp": "^$"}, ["a.example"], ["ann@a.example"]),
    ({"user_regexp": "^a", "server": "b.example", "match": "all"}, ["ann@b.example"], ["ann@a.example"]),
    (
        {"user_regexp": "n", "server_regexp": "^a", "match": "all"},
        ["ann@a.example"],
        ["ann@b.example", "bob@a.example"],
    ),
    ({"resource_regexp": "^Ph"}, ["ann@a.example/Phone"], ["ann@a.example/phone"]),
    ({"user_glob": "A*n"}, ["ann@a.example"], ["anna@a.example"]),
    ({"server_glob": "?.example", "match": "all"}, ["ann@c.example"], ["ann@cc.example"]),
    ({"user_glob": "*", "server_glob": "b.*", "match": "all"}, ["ann@b.example"], ["ann@a.example"]),
    ({"resource_glob": "[Pp]hone"}, ["ann@a.example/phone"], ["ann@a.example/PHONE"]),
]


class PatternTests(ConfigTestCase):
    models: dict[str, type[Section]] = {}

    def test_patterns(self) -> None:
        for pattern, fitting, others in PATTERNS:
            rules = {"r": [{"acl": "c", "value": "yes"}]}
            access = self.load(acl={"c": [pattern]}, access=rules).host_types["basic"].access
            for jid, value in [*((jid, "yes") for jid in fitting), *((jid, "deny") for jid in others)]:
                with self.subTest(pattern=pattern, jid=jid):
                    self.assertEqual(ask(access, "r", jid), value)

    def test_class_is_the_union_of_its_patterns(self) -> None:
        acl = {"c": (AclPattern(user="ann"), AclPattern(user="bob"))}
        access = Access(acl, {"r": (AccessClause(acl="c", value="yes"),)})
        self.assertEqual(
            [ask(access, "r", f"{name}@a.example") for name in ("ann", "bob", "eve")], ["yes", "yes", "deny"]
        )


class RuleTests(TestCase):
    def setUp(self) -> None:
        self.access = Access(
            {"admin": (AclPattern(user="root"),), "all": (AclPattern(match="none"),)},
            {
                "sessions": (AccessClause(acl="admin", value=50), AccessClause(acl="all", value=10)),
                "few": (AccessClause(acl="admin", value="allow"),),
                "odd": (AccessClause(acl="nowhere", value="allow"), AccessClause(acl="none", value="allow")),
                "all": (AccessClause(acl="admin", value="deny"),),
            },
        )

    def test_first_clause_that_has_the_user(self) -> None:
        self.assertEqual(ask(self.access, "sessions", "root@a.example"), 50)
        self.assertEqual(ask(self.access, "sessions", "ann@a.example"), 10)

    def test_end_of_the_list_denies(self) -> None:
        self.assertEqual(ask(self.access, "few", "ann@a.example"), "deny")

    def test_undefined_rule_leaves_it_to_the_caller(self) -> None:
        self.assertIsNone(ask(self.access, "none such", "root@a.example"))

    def test_built_in_rules_cannot_be_redefined(self) -> None:
        self.assertEqual(ask(self.access, "all", "root@a.example"), "allow")
        self.assertEqual(ask(self.access, "none", "root@a.example"), "deny")

    def test_undefined_class_and_the_class_none_have_nobody(self) -> None:
        self.assertEqual(ask(self.access, "odd", "root@a.example"), "deny")


class MergeTests(TestCase):
    def test_classes_are_united(self) -> None:
        merged = Access({"c": (AclPattern(user="ann"),)}).merged({"c": (AclPattern(user="bob"),), "d": ()}, {})
        self.assertEqual(merged.acl, {"c": (AclPattern(user="ann"), AclPattern(user="bob")), "d": ()})

    def test_clauses_go_before_a_final_allow_all(self) -> None:
        first, last = AccessClause(acl="admin", value="allow"), AccessClause(acl="all", value="allow")
        own = AccessClause(acl="guests", value="deny")
        self.assertEqual(Access({}, {"r": (first, last)}).merged({}, {"r": (own,)}).rules, {"r": (first, own, last)})

    def test_clauses_are_appended_else(self) -> None:
        first, last = AccessClause(acl="admin", value="allow"), AccessClause(acl="all", value="deny")
        own = AccessClause(acl="guests", value="allow")
        self.assertEqual(Access({}, {"r": (first, last)}).merged({}, {"r": (own,)}).rules, {"r": (first, last, own)})

    def test_rule_of_one_side_only(self) -> None:
        one, two = AccessClause(acl="all", value=1), AccessClause(acl="all", value=2)
        self.assertEqual(Access({}, {"a": (one,)}).merged({}, {"b": (two,)}).rules, {"a": (one,), "b": (two,)})
