"""Numbers for Prometheus: read when somebody asks, so that they cost nothing on the way of a stanza."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Read = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Family:
    """A name, and its numbers by the values of their labels."""

    help: str
    counts: bool
    labels: tuple[str, ...]
    numbers: dict[tuple[str, ...], Read] = field(default_factory=dict)


class Metrics(Collector):
    """One registry of one server. Whoever owns a number says how it is read.

    Numbers of one name have the same labels, with different values.
    """

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def gauge(self, name: str, text: str, read: Read, **labels: str) -> None:
        """A number that goes up and down. Raises ValueError for one that is there, or has other labels elsewhere."""
        self._add(name, _Family(text, False, tuple(sorted(labels))), labels, read)

    def counter(self, name: str, text: str, read: Read, **labels: str) -> None:
        """As `gauge`: a number that only goes up while the server runs."""
        self._add(name, _Family(text, True, tuple(sorted(labels))), labels, read)

    def _add(self, name: str, family: _Family, labels: dict[str, str], read: Read) -> None:
        family = self._families.setdefault(f"dynxmpp_{name}", family)
        values = tuple(value for _, value in sorted(labels.items()))
        if family.labels != tuple(sorted(labels)) or values in family.numbers:
            raise ValueError(f"metric {name} is there already, or with other labels")
        family.numbers[values] = read

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            kind = CounterMetricFamily if family.counts else GaugeMetricFamily
            metric = kind(name, family.help, labels=family.labels)
            for values, read in family.numbers.items():
                metric.add_metric(values, read())
            yield metric
