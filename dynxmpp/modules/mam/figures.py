"""What Prometheus is told of the archives of a host type; the names are those of MongooseIM 6.

Each number is counted where it comes about, by work that is done anyway, and read when somebody asks.
"""

from collections.abc import Callable

from dynxmpp.module import ModuleContext
from dynxmpp.modules.mam.preferences import Preferences
from dynxmpp.modules.mam.reading import Reading
from dynxmpp.modules.mam.store import ArchiveStore


def announce_archives(
    context: ModuleContext,
    kind: str,
    *,
    reading: Reading,
    preferences: Preferences,
    archived: Callable[[], int],
    removed: Callable[[], int],
) -> None:
    """The numbers of the archives of one kind, `pm` or `muc`."""

    def dropped() -> int:
        return reading.permission.dropped + preferences.permission.dropped

    numbers: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("archive_message_count", "Messages given to archives.", archived),
        ("lookup_count", "Queries answered.", lambda: reading.lookups),
        ("lookup_simple", "Queries answered that counted nothing.", lambda: reading.simple_lookups),
        ("lookup_size", "Messages in the answers to queries.", lambda: reading.messages),
        ("lookup_time", "Seconds that queries took.", lambda: reading.seconds),
        ("dropped_iq_count", "Requests refused because there were too many.", dropped),
        ("get_prefs_count", "Preferences that were read.", lambda: preferences.gets),
        ("set_prefs_count", "Preferences that were set.", lambda: preferences.sets),
        ("remove_archive_count", "Archives removed, without those of removed domains.", removed),
    )
    for name, text, read in numbers:
        context.metrics.counter(f"mod_mam_{kind}_{name}", text, read, host_type=context.host_type.name)


def announce_store(context: ModuleContext, store: ArchiveStore) -> None:
    """The numbers of what is written, for all archives."""
    metrics, host_type = context.metrics, context.host_type.name
    numbers: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("mod_mam_flushed_count", "Messages written.", lambda: store.flushed.rows),
        ("mod_mam_flushed_time", "Seconds that writing took.", lambda: store.flushed.seconds),
        ("mod_mam_dropped_count", "Messages that could not be written.", lambda: store.dropped),
        ("async_pool_flush", "Batches of messages written.", lambda: store.flushed.batches),
    )
    for name, text, read in numbers:
        metrics.counter(name, text, read, host_type=host_type)
    metrics.gauge("async_pool_queue", "Messages that wait to be written.", lambda: store.waiting, host_type=host_type)
