"""Stanzas that must wait for cold data, order per (sender, recipient) kept. The only waiting part of the core.

A pair is in the lane while one of its stanzas waits; what the pair sends meanwhile lines up behind it, and everybody
else passes. The lane is bounded: a sender who fills it is told to wait (resource-constraint), nothing is dropped.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dynxmpp.core.interfaces import Session
from dynxmpp.wire.errors import Unavailable

Key = tuple[str, str]
#: Does its work at once (None), or gives what is still to be waited for. What it raises is logged.
Job = Callable[[], Awaitable[None] | None]

#: The length of a line at which the session that fills it is no longer read from.
SLOW_AT = 32

log = Logger()


class _Line:
    """What one pair has in the lane, and the session that it comes from."""

    __slots__ = ("jobs", "origin", "running", "slowed", "waiting")

    def __init__(self, number: int, job: Job, origin: Session | None) -> None:
        #: With their numbers, which only grow from one to the next.
        self.jobs: deque[tuple[int, Job]] = deque([(number, job)])
        self.running = number
        self.origin = origin
        self.slowed = False
        #: Who waits until all jobs with lower numbers are done.
        self.waiting: list[tuple[int, Deferred[None]]] = []

    def tell(self) -> None:
        """A job is done: some may have waited for it."""
        following = self.jobs[0][0] if self.jobs else None
        done = [deferred for number, deferred in self.waiting if following is None or following >= number]
        if done:
            self.waiting = [entry for entry in self.waiting if entry[1] not in done]
            for deferred in done:
                deferred.callback(None)


class SlowLane:
    """Lines of jobs, one a pair of addresses; each line runs one job after the other."""

    def __init__(self, max_line: int = 200, max_jobs: int = 20_000, reserved: int = 5_000) -> None:
        """`max_line` bounds one pair's line, `max_jobs` all lines together.

        `reserved` jobs more are taken from sessions: one message in a room makes a job for each member, and must not
        keep out what others send.
        """
        self._lines: dict[Key, _Line] = {}
        #: The same by sender, for who asks what a sender has in the lane.
        self._of_sender: dict[str, list[_Line]] = {}
        self._max_line = max_line
        self._max_jobs = max_jobs
        self._reserved = reserved
        self._jobs = 0
        self._numbers = count(1)
        self._idle: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        """Is anybody in the lane? While not, nobody needs to build a key."""
        return bool(self._lines)

    def __contains__(self, key: Key) -> bool:
        return key in self._lines

    def add(self, key: Key, job: Job, origin: Session | None = None) -> None:
        """Lines up `job` behind what this pair has in the lane; it starts now when there is nothing.

        The session it came from is slowed when the line grows (Session.slow_down), and let go when it has emptied.
        Raises Unavailable when the lane is full; the job has not been taken then.
        """
        line = self._lines.get(key)
        max_jobs = self._max_jobs if origin is None else self._max_jobs + self._reserved
        if self._jobs >= max_jobs or (line is not None and len(line.jobs) >= self._max_line):
            raise Unavailable("the slow lane is full")
        self._jobs += 1
        number = next(self._numbers)
        if line is None:
            line = self._lines[key] = _Line(number, job, origin)
            self._of_sender.setdefault(key[0], []).append(line)
            Deferred.fromCoroutine(self._run(key, line))
            return
        line.jobs.append((number, job))
        if len(line.jobs) >= SLOW_AT and not line.slowed and line.origin is not None:
            line.slowed = True
            line.origin.slow_down(True)

    def add_next(self, key: Key, job: Job) -> None:
        """Goes on with what the pair's running job has begun, before anything that has lined up behind it."""
        self._jobs += 1
        line = self._lines[key]
        line.jobs.appendleft((line.running, job))

    async def _run(self, key: Key, line: "_Line") -> None:
        jobs = line.jobs
        try:
            while jobs:
                line.running, job = jobs.popleft()
                self._jobs -= 1
                try:
                    pending = job()
                    if pending is not None:
                        await pending
                except Exception:  # noqa: BLE001 - border: a fault of ours ends one job, not those behind it
                    log.failure("slow_lane_failed")
                if line.waiting:
                    line.tell()
        finally:
            self._jobs -= len(jobs)
            jobs.clear()
            self._remove(key, line)

    def _remove(self, key: Key, line: "_Line") -> None:
        del self._lines[key]
        of_sender = self._of_sender[key[0]]
        of_sender.remove(line)
        if not of_sender:
            del self._of_sender[key[0]]
        line.tell()
        if line.slowed and line.origin is not None:
            line.origin.slow_down(False)
        if not self._lines:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    async def earlier(self, key: Key) -> None:
        """Returns when all is done that the sender of a pair had in other lines before the pair's running job came.

        Called by that job. Who waits here waits for lower numbers only, so that no two wait for each other.
        """
        number = self._lines[key].running
        waiting: list[Deferred[None]] = []
        for line in self._of_sender[key[0]]:
            if line.running < number:
                waiting.append(Deferred())
                line.waiting.append((number, waiting[-1]))
        for deferred in waiting:
            await deferred

    def when_idle(self) -> Deferred[None]:
        """Fires once nobody is in the lane: everything that was taken has been dealt with."""
        deferred: Deferred[None] = Deferred()
        if self._lines:
            self._idle.append(deferred)
        else:
            deferred.callback(None)
        return deferred
