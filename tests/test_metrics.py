"""Numbers for Prometheus: read when they are asked for, and once a server."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import TestCase

from dynxmpp.metrics import Metrics


class MetricsTests(TestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()

    def values(self) -> dict[str, float]:
        """The samples as Prometheus reads them."""
        text = generate_latest(self.metrics.registry).decode()
        return {
            sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
        }

    def test_nothing(self) -> None:
        self.assertEqual({}, self.values())

    def test_a_gauge_has_the_value_of_the_moment(self) -> None:
        sessions = [1, 2]
        self.metrics.gauge("sessions", "Bound sessions.", lambda: len(sessions))
        self.assertEqual({"dynxmpp_sessions": 2}, self.values())
        sessions.clear()
        self.assertEqual({"dynxmpp_sessions": 0}, self.values())

    def test_a_counter_is_a_total(self) -> None:
        self.metrics.counter("stanzas", "Stanzas routed.", lambda: 7)
        self.assertEqual({"dynxmpp_stanzas_total": 7}, self.values())

    def test_type_and_help(self) -> None:
        self.metrics.gauge("domains", "Domains that are served.", lambda: 3)
        self.metrics.counter("stanzas", "Stanzas routed.", lambda: 7)
        text = generate_latest(self.metrics.registry).decode()
        self.assertIn("# HELP dynxmpp_domains Domains that are served.\n# TYPE dynxmpp_domains gauge\n", text)
        self.assertIn("# HELP dynxmpp_stanzas_total Stanzas routed.\n# TYPE dynxmpp_stanzas_total counter\n", text)

    def test_one_name_with_different_labels(self) -> None:
        for host_type, value in (("basic", 1.0), ('a"b\n', 2.0)):
            self.metrics.counter("lookups", "Queries.", lambda value=value: value, host_type=host_type)  # type: ignore[misc]
        text = generate_latest(self.metrics.registry).decode()
        self.assertEqual(1, text.count("# TYPE dynxmpp_lookups_total counter\n"))
        (family,) = text_string_to_metric_families(text)
        found = [(sample.labels, sample.value) for sample in family.samples]
        self.assertEqual([({"host_type": "basic"}, 1.0), ({"host_type": 'a"b\n'}, 2.0)], found)

    def test_a_number_is_there_once(self) -> None:
        self.metrics.gauge("domains", "Domains.", lambda: 1)
        self.metrics.counter("lookups", "Queries.", lambda: 1, host_type="basic")
        with self.assertRaises(ValueError):
            self.metrics.gauge("domains", "Domains.", lambda: 2)
        with self.assertRaises(ValueError):
            self.metrics.counter("lookups", "Queries.", lambda: 2, host_type="basic")
        with self.assertRaises(ValueError):
            self.metrics.counter("lookups", "Queries.", lambda: 2)

    def test_nothing_is_read_before_somebody_asks(self) -> None:
        reads: list[int] = []

        def read() -> float:
            reads.append(1)
            return len(reads)

        self.metrics.gauge("reads", "How often it was read.", read)
        self.assertEqual([], reads)
        self.assertEqual({"dynxmpp_reads": 1}, self.values())
        self.assertEqual({"dynxmpp_reads": 2}, self.values())

    def test_two_servers_in_one_process(self) -> None:
        other = Metrics()
        for metrics, value in ((self.metrics, 1.0), (other, 2.0)):
            metrics.gauge("domains", "Domains.", lambda value=value: value)  # type: ignore[misc]
        self.assertEqual({"dynxmpp_domains": 1}, self.values())
        self.metrics = other
        self.assertEqual({"dynxmpp_domains": 2}, self.values())
