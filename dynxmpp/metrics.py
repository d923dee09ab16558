"""Numbers for Prometheus: read when somebody asks, so that they cost nothing on the way of a stanza."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class _Number:
    name: str
    help: str
    read: Callable[[], float]
    counts: bool


class Metrics(Collector):
    """One registry of one server. Whoever owns a number says how it is read."""

    def __init__(self) -> None:
        self._numbers: list[_Number] = []
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that goes up and down."""
        self._numbers.append(_Number(f"dynxmpp_{name}", text, read, counts=False))

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that only goes up while the server runs."""
        self._numbers.append(_Number(f"dynxmpp_{name}", text, read, counts=True))

    def collect(self) -> Iterator[Metric]:
        for number in self._numbers:
            family = CounterMetricFamily if number.counts else GaugeMetricFamily
            yield family(number.name, number.help, value=number.read())
