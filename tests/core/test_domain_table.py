"""Which domains are served, by whom, and what their subdomains are."""

import gc
import tracemalloc

from twisted.trial.unittest import TestCase

from dynxmpp.core.domain_table import (
    DomainIsStatic,
    DomainOrigin,
    DomainTable,
    OtherHostType,
    Served,
    Subdomain,
    UnknownHostType,
)

STATIC, DYNAMIC = DomainOrigin.STATIC, DomainOrigin.DYNAMIC


class DomainTableTestCase(TestCase):
    """A static domain, and two host types for dynamic ones; a host type is its name in capitals."""

    def setUp(self) -> None:
        self.table: DomainTable[str] = DomainTable()
        self.table.add_host_type("static.example", "STATIC", STATIC)
        self.table.add_host_type("basic", "BASIC", DYNAMIC)
        self.table.add_host_type("rich", "RICH", DYNAMIC)
        self.table.add_static("static.example")

    def content(self) -> dict[str, tuple[str, DomainOrigin]]:
        found = {}
        for domain in self.table:
            served = self.table.get(domain)
            assert served is not None
            found[domain] = (served.host_type, served.origin)
        return found


class Inserting(DomainTableTestCase):
    def test_a_domain_is_served_once_inserted(self) -> None:
        self.assertNotIn("a.example", self.table)
        self.assertIsNone(self.table.get("a.example"))
        self.table.insert("a.example", "basic")
        self.assertIn("a.example", self.table)
        self.assertEqual(Served("BASIC", DYNAMIC), self.table.get("a.example"))
        self.assertEqual(2, len(self.table))

    def test_the_same_again_changes_nothing(self) -> None:
        self.table.insert("a.example", "basic")
        before = self.content()
        self.table.insert("a.example", "basic")
        self.assertEqual(before, self.content())

    def test_with_another_host_type_it_is_refused(self) -> None:
        self.table.insert("a.example", "basic")
        before = self.content()
        self.assertRaises(OtherHostType, self.table.insert, "a.example", "rich")
        self.assertEqual(before, self.content())

    def test_after_deletion_it_may_have_another_host_type(self) -> None:
        self.table.insert("a.example", "basic")
        self.table.delete("a.example")
        self.table.insert("a.example", "rich")
        self.assertEqual(("RICH", DYNAMIC), self.content()["a.example"])

    def test_a_static_domain_is_refused_whatever_the_host_type(self) -> None:
        before = self.content()
        for host_type in ("basic", "static.example"):
            self.assertRaises(DomainIsStatic, self.table.insert, "static.example", host_type)
        self.assertEqual(before, self.content())

    def test_an_unknown_host_type_is_refused(self) -> None:
        for host_type in ("nowhere", "", "BASIC"):
            self.assertRaises(UnknownHostType, self.table.insert, "a.example", host_type)
        self.assertNotIn("a.example", self.table)

    def test_the_host_type_of_a_static_domain_takes_no_dynamic_ones(self) -> None:
        self.assertRaises(UnknownHostType, self.table.insert, "a.example", "static.example")

    def test_a_present_domain_and_an_unknown_host_type(self) -> None:
        self.table.insert("a.example", "basic")
        self.assertRaises(UnknownHostType, self.table.insert, "a.example", "nowhere")

    def test_accepts(self) -> None:
        names = ("basic", "rich", "static.example", "nowhere")
        self.assertEqual([True, True, False, False], [self.table.accepts(name) for name in names])

    def test_a_name_that_is_both_keeps_its_static_domain_apart(self) -> None:
        """The configuration refuses such a name; the table does not rely on it."""
        self.table.add_host_type("basic", "OF THE HOST", STATIC)
        self.table.add_static("basic")
        self.table.insert("a.example", "basic")
        self.assertEqual(("OF THE HOST", STATIC), self.content()["basic"])
        self.assertEqual(("BASIC", DYNAMIC), self.content()["a.example"])
        self.assertRaises(DomainIsStatic, self.table.insert, "basic", "basic")


class Deleting(DomainTableTestCase):
    def test_a_dynamic_domain_goes(self) -> None:
        self.table.insert("a.example", "basic")
        self.assertTrue(self.table.delete("a.example"))
        self.assertNotIn("a.example", self.table)
        self.assertEqual(["static.example"], list(self.table))

    def test_an_absent_one_is_no_mistake(self) -> None:
        self.assertFalse(self.table.delete("a.example"))

    def test_a_static_one_stays(self) -> None:
        self.assertRaises(DomainIsStatic, self.table.delete, "static.example")
        self.assertIn("static.example", self.table)

    def test_others_stay(self) -> None:
        for domain in ("a.example", "b.example"):
            self.table.insert(domain, "basic")
        self.table.delete("a.example")
        self.assertEqual({"static.example", "b.example"}, set(self.table))


class Listing(DomainTableTestCase):
    def test_dynamic_domains(self) -> None:
        self.table.insert("a.example", "basic")
        self.table.insert("b.example", "rich")
        self.assertEqual({"a.example", "b.example"}, set(self.table.dynamic_domains()))

    def test_the_table_may_change_meanwhile(self) -> None:
        for number in range(10):
            self.table.insert(f"d{number}.example", "basic")
        for domain in self.table.dynamic_domains():
            self.table.delete(domain)
        self.assertEqual(["static.example"], list(self.table))

    def test_is_static(self) -> None:
        self.table.insert("a.example", "basic")
        domains = ("static.example", "a.example", "nowhere.example")
        self.assertEqual([True, False, False], [self.table.is_static(domain) for domain in domains])


class Subdomains(DomainTableTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.table.insert("a.example", "basic")
        self.table.insert("b.example", "rich")

    def test_nothing_is_registered(self) -> None:
        self.assertIsNone(self.table.find_subdomain("muclight.a.example"))

    def test_a_prefix_serves_every_domain_of_its_host_type(self) -> None:
        self.assertTrue(self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@"))
        self.table.insert("later.example", "basic")
        for parent in ("a.example", "later.example"):
            self.assertEqual(
                Subdomain("BASIC", "muclight.@HOST@", parent), self.table.find_subdomain(f"muclight.{parent}")
            )

    def test_a_prefix_serves_no_other_names(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@")
        for name in (
            "muclight.b.example",
            "muclight.static.example",
            "muclight.nowhere.example",
            "muclight.muclight.a.example",
            "x.muclight.a.example",
            "conference.a.example",
            "muclighta.example",
            "a.example",
            "muclight.",
            "muclight",
            ".a.example",
            "",
        ):
            self.assertIsNone(self.table.find_subdomain(name), name)

    def test_a_deleted_domain_takes_its_subdomains_along(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@")
        self.table.delete("a.example")
        self.assertIsNone(self.table.find_subdomain("muclight.a.example"))

    def test_a_static_domain_has_subdomains_too(self) -> None:
        self.table.register_subdomain("static.example", "STATIC", "muclight.@HOST@")
        self.assertEqual(
            Subdomain("STATIC", "muclight.@HOST@", "static.example"),
            self.table.find_subdomain("muclight.static.example"),
        )

    def test_a_prefix_of_several_labels(self) -> None:
        for pattern in ("muc.@HOST@", "light.muc.@HOST@", "very.light.muc.@HOST@"):
            self.assertTrue(self.table.register_subdomain("basic", "BASIC", pattern))
            name = pattern.replace("@HOST@", "a.example")
            self.assertEqual(Subdomain("BASIC", pattern, "a.example"), self.table.find_subdomain(name))
        self.assertIsNone(self.table.find_subdomain("light.a.example"))
        self.assertIsNone(self.table.find_subdomain("heavy.muc.a.example"))

    def test_a_long_prefix_alone(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "light.muc.@HOST@")
        self.assertIsNone(self.table.find_subdomain("muc.a.example"))
        self.assertIsNotNone(self.table.find_subdomain("light.muc.a.example"))

    def test_a_domain_of_one_label(self) -> None:
        self.table.insert("localhost", "basic")
        self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@")
        self.assertIsNotNone(self.table.find_subdomain("muclight.localhost"))
        self.assertIsNone(self.table.find_subdomain("localhost"))

    def test_host_types_share_a_prefix(self) -> None:
        self.assertTrue(self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@"))
        self.assertTrue(self.table.register_subdomain("rich", "RICH", "muclight.@HOST@"))
        found = [self.table.find_subdomain(f"muclight.{domain}") for domain in ("a.example", "b.example")]
        expected = [Subdomain(t, "muclight.@HOST@", d) for t, d in (("BASIC", "a.example"), ("RICH", "b.example"))]
        self.assertEqual(expected, found)

    def test_a_host_type_has_a_pattern_once(self) -> None:
        for pattern in ("muclight.@HOST@", "rooms.example"):
            registered = [self.table.register_subdomain("basic", "BASIC", pattern) for _ in "12"]
            self.assertEqual([True, False], registered, pattern)

    def test_nested_parents_the_nearest_domain_is_asked_first(self) -> None:
        self.table.insert("muc.a.example", "basic")
        self.table.register_subdomain("basic", "BASIC", "light.@HOST@")
        self.table.register_subdomain("basic", "BASIC", "light.muc.@HOST@")
        self.assertEqual(
            Subdomain("BASIC", "light.@HOST@", "muc.a.example"), self.table.find_subdomain("light.muc.a.example")
        )


class FixedNames(DomainTableTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.table.insert("a.example", "basic")

    def test_a_service_of_a_name_of_its_own(self) -> None:
        self.assertTrue(self.table.register_subdomain("basic", "BASIC", "rooms.example"))
        self.assertEqual(Subdomain("BASIC", "rooms.example", None), self.table.find_subdomain("rooms.example"))

    def test_it_needs_no_domain(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "rooms.example")
        self.table.delete("a.example")
        self.assertIsNotNone(self.table.find_subdomain("rooms.example"))

    def test_the_first_one_wins(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "rooms.example")
        self.assertFalse(self.table.register_subdomain("rich", "RICH", "rooms.example"))
        self.assertEqual(Subdomain("BASIC", "rooms.example", None), self.table.find_subdomain("rooms.example"))

    def test_a_placeholder_within_a_name_is_taken_literally(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "muc.@HOST@.org")
        self.assertIsNone(self.table.find_subdomain("muc.a.example.org"))
        self.assertIsNone(self.table.find_subdomain("muc.a.example"))
        self.assertIsNotNone(self.table.find_subdomain("muc.@HOST@.org"))

    def test_it_is_found_below_prefixes_of_more_labels(self) -> None:
        self.table.register_subdomain("basic", "BASIC", "one.two.three.@HOST@")
        self.table.register_subdomain("basic", "BASIC", "rooms.example")
        self.assertIsNotNone(self.table.find_subdomain("rooms.example"))


class Owners(DomainTableTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.table.insert("a.example", "basic")
        self.table.register_subdomain("basic", "BASIC", "muclight.@HOST@")
        self.table.register_subdomain("basic", "BASIC", "rooms.example")

    def test_a_domain_owns_itself(self) -> None:
        self.assertEqual("a.example", self.table.owner("a.example"))

    def test_a_subdomain_belongs_to_its_parent(self) -> None:
        self.assertEqual("a.example", self.table.owner("muclight.a.example"))

    def test_a_fixed_name_belongs_to_no_domain(self) -> None:
        self.assertEqual("rooms.example", self.table.owner("rooms.example"))

    def test_an_unknown_name_belongs_to_itself(self) -> None:
        for name in ("nowhere.example", "x.a.example"):
            self.assertEqual(name, self.table.owner(name))

    def test_a_domain_wins_over_a_subdomain_of_its_name(self) -> None:
        self.table.insert("muclight.a.example", "rich")
        self.assertEqual(Served("RICH", DYNAMIC), self.table.get("muclight.a.example"))
        self.assertEqual("muclight.a.example", self.table.owner("muclight.a.example"))
        self.table.delete("muclight.a.example")
        self.assertIsNone(self.table.get("muclight.a.example"))
        self.assertEqual("a.example", self.table.owner("muclight.a.example"))


class Memory(TestCase):
    """What a domain costs, in bytes, its name included."""

    domains = 10_000
    limit = 300

    def test_a_domain_costs_a_dictionary_entry(self) -> None:
        table: DomainTable[str] = DomainTable()
        table.add_host_type("basic", "BASIC", DYNAMIC)
        for number in range(10):
            table.register_subdomain("basic", "BASIC", f"service{number}.@HOST@")
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(self.domains):
            table.insert(f"customer-{number:06}.chat.example", "basic")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        each = (after - before) / self.domains
        self.assertEqual(self.domains, len(table))
        self.assertGreater(each, 50, "nothing was measured")
        self.assertLess(each, self.limit)

    def test_looking_up_subdomains_keeps_nothing(self) -> None:
        table: DomainTable[str] = DomainTable()
        table.add_host_type("basic", "BASIC", DYNAMIC)
        table.register_subdomain("basic", "BASIC", "muclight.@HOST@")
        for number in range(self.domains):
            table.insert(f"{number}.example", "basic")
        table.find_subdomain("muclight.1.example")
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(self.domains):
            assert table.find_subdomain(f"muclight.{number}.example") is not None
            assert table.find_subdomain(f"muclight.{number}.nowhere") is None
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess((after - before) / self.domains, 1)
