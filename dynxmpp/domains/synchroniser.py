"""Keeps the domain table of this node equal to the database: initial load, then the log of events.

A change made here is applied before its caller is answered (`apply`). Others' changes are announced by NOTIFY; a poll
every 30 s finds what was not announced. Nothing here depends on the order of events: an event only says "look at this
domain", and what is looked at is its state now. What must not happen is that an event is missed, hence the book-keeping
of ids: `_position` is the highest id seen, `_gaps` are the ids below it that nobody has seen yet.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import psycopg2
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dynxmpp.core.domain_table import DomainIsStatic, DomainTable, OtherHostType, UnknownHostType
from dynxmpp.core.interfaces import Announcements, Clock
from dynxmpp.domains.store import CHANNEL, DomainStore, Event
from dynxmpp.wire.errors import Unavailable

__all__ = ["POLL_S", "Synchroniser"]

POLL_S: Final = 30.0
#: Rows of one page of the initial load, events of one page of the log.
PAGE_ROWS: Final = 10_000
EVENT_PAGE: Final = 1_000
#: With more ids missing than this, reading everything anew is cheaper.
MAX_GAPS: Final = 10_000
_GAP_ROUNDS: Final = 3
_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0


class OutOfSync(Exception):
    """Events were missed for good; only reading all domains again helps."""


class Synchroniser:
    """Applies the database to `table`.

    `on_domain_gone(domain)` is called when a domain stops being served by this node. Without `announcements` there is
    only the poll. `cleaning_interval_s` and `max_age_s` are the options event_cleaning_interval and event_max_age.
    """

    log = Logger()

    def __init__(
        self,
        store: DomainStore,
        table: DomainTable[Any],
        *,
        clock: Clock,
        on_domain_gone: Callable[[str], None],
        announcements: Announcements | None = None,
        cleaning_interval_s: float = 1800,
        max_age_s: float = 7200,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._store = store
        self._table = table
        self._clock = clock
        self._on_domain_gone = on_domain_gone
        self._announcements = announcements
        self._cleaning_interval_s = cleaning_interval_s
        self._max_age_s = max_age_s
        self._page_rows = page_rows
        self._lock = DeferredLock()
        self._running = False
        self._checking: Deferred[None] | None = None
        self._check_runs = False
        self._check_again = False
        self._timers: dict[str, Any] = {}
        self._starting: Deferred[Any] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        # The place in the log. It outlives a stop, so that starting again replays what happened meanwhile.
        self._lowest = 0
        self._position: int | None = None
        self._gaps: set[int] = set()
        # Domains whose latest event was applied before the log was read up to it.
        self._ahead: dict[str, int] = {}

    @property
    def running(self) -> bool:
        return self._running

    # -- life

    async def start(self) -> None:
        """Returns when the table is as the database. Tries for ever, with growing pauses; `stop()` ends it."""
        if self._running:
            return
        self._running = True
        if self._announcements is not None:
            # Before the first look, so that nothing falls between them.
            self._unsubscribe = self._announcements.subscribe(CHANNEL, self._announced, on_reconnect=self.check_soon)
        pause_s = _FIRST_RETRY_S
        while not self._is_stopped():
            try:
                await self.check()
                break
            except (Unavailable, psycopg2.Error) as error:
                self.log.critical("domains_load_failed", reason=str(error), retry_in_s=pause_s)
            self._starting = deferLater(self._clock, pause_s)
            try:
                await self._starting
            except CancelledError:
                if self._is_stopped():
                    return
                raise
            finally:
                self._starting = None
            pause_s = min(2 * pause_s, _MAX_RETRY_S)
        if not self._is_stopped():
            self._later("poll", POLL_S, self.check_soon)
            self._clean()

    async def stop(self) -> None:
        """Stops following the database. The table stays as it is, and so does the place in the log."""
        self._running = False
        self._check_again = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        if self._starting is not None:
            self._starting.cancel()
        if self._check_runs and self._checking is not None:
            await self._checking

    def _is_stopped(self) -> bool:
        return not self._running

    def _later(self, name: str, delay_s: float, function: Callable[..., object], *args: object) -> None:
        timer = self._timers.get(name)
        if timer is not None and timer.active():
            timer.cancel()
        if self._running:
            self._timers[name] = self._clock.callLater(delay_s, function, *args)

    # -- what was changed on this node

    async def apply(self, event_id: int, domain: str, host_type: str | None) -> None:
        """Applies a change that was just committed under `event_id`; None means that the domain is not to be served."""
        await self.apply_all(((event_id, domain, host_type),))

    async def apply_all(self, changes: Iterable[tuple[int, str, str | None]]) -> None:
        """The same for changes that were committed together, by event id."""
        await self._lock.acquire()
        try:
            for event_id, domain, host_type in changes:
                self._apply(event_id, domain, host_type)
        finally:
            self._lock.release()

    def _apply(self, event_id: int, domain: str, host_type: str | None) -> None:
        seen = self._position is not None and event_id <= self._position and event_id not in self._gaps
        if seen or self._ahead.get(domain, 0) > event_id:
            return
        self._set(domain, host_type)
        if self._position is not None and event_id == self._position + 1:
            self._position = event_id
        else:
            self._ahead[domain] = event_id

    # -- looking at the log

    def _announced(self, payload: str) -> None:
        """A notification: of our own change, which has been applied already, or of somebody else's."""
        event_id = int(payload) if payload.isdecimal() else None
        if event_id is None or self._position is None or event_id > self._position or event_id in self._gaps:
            self.check_soon()

    def check_soon(self) -> None:
        """Looks at the log now, or again when that is being done already; any number of calls become one look."""
        if not self._running:
            return
        if self._check_runs:
            self._check_again = True
            return
        self._check_runs = True
        self._checking = Deferred.fromCoroutine(self._check_in_background())

    async def _check_in_background(self) -> None:
        try:
            while True:
                self._check_again = False
                await self._check_and_report()
                if not self._check_again:
                    break
        finally:
            self._check_runs = False
            self._later("poll", POLL_S, self.check_soon)

    async def _check_and_report(self) -> None:
        try:
            await self.check()
        except (Unavailable, psycopg2.Error) as error:
            self.log.error("domains_check_failed", reason=str(error), retry_in_s=POLL_S)
        except Exception:  # noqa: BLE001 - border of a background task: the next poll must come
            self.log.failure("domains_check_crashed")

    async def check(self) -> None:
        """Applies what happened since the last look. Raises Unavailable or psycopg2.Error; nothing is lost then."""
        await self._lock.acquire()
        try:
            if self._position is None:
                await self._load()
            try:
                await self._follow()
            except OutOfSync as reason:
                self.log.critical("events_log_out_of_sync", reason=str(reason), position=self._position)
                self._position = None
                await self._load()
                await self._follow()
            self._forget_caught_up()
        finally:
            self._lock.release()

    async def _follow(self) -> None:
        """Reads the log from `_position` on. Raises OutOfSync."""
        log_range = await self._store.event_range()
        if log_range is None:
            return  # wiped by hand; the next event tells whether something was missed
        lowest, highest = log_range
        assert self._position is not None
        if lowest > self._position + 1 or highest < self._position:
            raise OutOfSync("the log has been truncated, or begins anew")
        if any(gap < lowest for gap in self._gaps):
            raise OutOfSync("an event was truncated that had never been seen")
        if lowest < self._lowest:
            # A transaction so slow that the log had been truncated above it became visible.
            self._add_gaps(set(range(lowest, min(self._lowest, lowest + MAX_GAPS + 1))))
        self._lowest = lowest
        while self._position < highest:
            events = await self._store.events(self._position, EVENT_PAGE)
            if not events:
                break
            last = events[-1].id
            if last - self._position > MAX_GAPS + len(events):
                raise OutOfSync("too many events are missing")
            self._add_gaps(set(range(self._position + 1, last)) - {event.id for event in events})
            self._apply_events(events)
            self._position = last
        await self._repair_gaps()

    def _add_gaps(self, ids: set[int]) -> None:
        self._gaps |= ids
        if len(self._gaps) > MAX_GAPS:
            raise OutOfSync("too many events are missing")

    async def _repair_gaps(self) -> None:
        """Sees the events that were not there when those above them were read; ids that were never used are filled.

        What still belongs to an open transaction is left for the next look, and holds up nobody.
        """
        for _ in range(_GAP_ROUNDS):
            if not self._gaps:
                return
            await self._store.fill_gaps(sorted(self._gaps))
            events = await self._store.events_by_id(sorted(self._gaps))
            self._apply_events(events)
            self._gaps -= {event.id for event in events}
        if self._gaps:
            self.log.info("domain_events_pending", count=len(self._gaps), lowest=min(self._gaps))

    def _forget_caught_up(self) -> None:
        position = self._position or 0
        for domain, event_id in list(self._ahead.items()):
            if event_id <= position and event_id not in self._gaps:
                del self._ahead[domain]

    # -- reading everything

    async def _load(self) -> None:
        """Reads all domains, and forgets those that are not there any more."""
        started_s = self._clock.seconds()
        await self._store.begin_log()
        log_range = await self._store.event_range()
        lowest, highest = log_range or (1, 0)
        # More there may be, when somebody has moved the sequence; no open transaction has an id that far back.
        gaps = await self._store.missing_ids(lowest, highest, MAX_GAPS)
        unseen = set(self._table.dynamic_domains())
        count, after_id = 0, 0
        while True:
            page = await self._store.page(after_id, self._page_rows)
            for _id, domain, host_type in page:
                unseen.discard(domain)
                self._set(domain, host_type)
            count += len(page)
            if len(page) < self._page_rows:
                break
            after_id = page[-1][0]
        for domain in unseen:
            self._set(domain, None)
        self._lowest, self._position, self._gaps = lowest, highest, set(gaps)
        self._ahead.clear()
        self.log.info("domains_loaded", count=count, removed=len(unseen), seconds=self._clock.seconds() - started_s)

    # -- applying

    def _apply_events(self, events: list[Event]) -> None:
        for event in events:
            if event.domain:
                self._set(event.domain, event.host_type)

    def _set(self, domain: str, host_type: str | None) -> None:
        """Makes the table agree with one row."""
        if host_type is None:
            self._take_away(domain)
            return
        try:
            self._insert(domain, host_type)
        except OtherHostType:
            self.log.info("ignore_domain_from_db_with_different_host_type", domain=domain, host_type=host_type)
            self._take_away(domain)
            self._insert(domain, host_type)
        except DomainIsStatic:
            self.log.error("domain_static_but_in_db", domain=domain, host_type=host_type)
        except UnknownHostType:
            self.log.warn("ignore_domain_from_db_with_unknown_host_type", domain=domain, host_type=host_type)
            self._take_away(domain)

    def _insert(self, domain: str, host_type: str) -> None:
        if domain not in self._table:
            subdomain = self._table.find_subdomain(domain)
            if subdomain is not None:
                self.log.error("check_domain_name_failed", domain=domain, parent=subdomain.parent)
        self._table.insert(domain, host_type)

    def _take_away(self, domain: str) -> None:
        if self._table.is_static(domain):
            return
        if self._table.delete(domain):
            self._on_domain_gone(domain)

    # -- keeping the log short

    def _clean(self) -> None:
        """Notes how far the log goes now; what is older is deleted once it is `max_age_s` old."""
        self._later("clean", self._cleaning_interval_s, self._clean)
        position = self._position
        # Where nothing has happened since the last time, the timer that was set then stays.
        if position is not None and f"truncate {position}" not in self._timers:
            self._later(f"truncate {position}", self._max_age_s, self._truncate, position)

    def _truncate(self, below_id: int) -> None:
        self._timers.pop(f"truncate {below_id}", None)
        Deferred.fromCoroutine(self._truncate_and_report(below_id))

    async def _truncate_and_report(self, below_id: int) -> None:
        try:
            count = await self._store.truncate_log(below_id)
        except (Unavailable, psycopg2.Error) as error:
            self.log.error("domain_events_not_truncated", reason=str(error))
            return
        if count:
            self.log.info("domain_events_truncated", count=count, below_id=below_id)
