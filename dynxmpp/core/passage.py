"""How a stanza passes filters, waits, and comes back: what all steps of its way share."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Protocol

from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.commit import CommitTicket
from dynxmpp.core import replies
from dynxmpp.core.interfaces import CarbonCopies, Session
from dynxmpp.core.pipeline import Phase, Pipeline, Stop, Wait
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.jid import JID
from dynxmpp.wire.errors import Unavailable, stanza_error
from dynxmpp.wire.stanza import Stanza

#: What comes after a pipeline, or what a stanza that lined up goes on with.
Next = Callable[[Stanza, RoutingContext], None]


class Route(Protocol):
    """Router.route: sends a stanza of the server's own making."""

    def __call__(self, stanza: Stanza, sender: JID, recipient: JID, origin: Session | None = None) -> None: ...


class Passage:
    """One a node, shared by the router and what it delegates to."""

    log = Logger()

    def __init__(self, slow_lane: SlowLane, route: Route) -> None:
        self.slow_lane = slow_lane
        self._route = route

    # -- filters

    def pass_on(self, pipeline: Pipeline, start: int, stanza: Stanza, context: RoutingContext, then: Next) -> None:
        """Asks the filters from `start` on, then goes on with `then`."""
        for step in pipeline[start:] if start else pipeline:
            try:
                verdict = step.apply(stanza, context)
            except Exception as problem:  # noqa: BLE001 - border: a filter's fault ends this stanza only
                if self._survives(step.phase, step.module, problem):
                    continue
                self.refuse_exception(stanza, context, problem, step.module)
                return
            if verdict is stanza:
                continue
            if isinstance(verdict, Stanza):
                stanza = verdict
            elif isinstance(verdict, Wait):
                index = pipeline.index(step)
                self.later(stanza, context, self._pass_later(verdict, pipeline, index, stanza, context, then))
                return
            else:
                return
        then(stanza, context)

    async def _pass_later(
        self, wait: Wait, pipeline: Pipeline, index: int, stanza: Stanza, context: RoutingContext, then: Next
    ) -> None:
        step = pipeline[index]
        try:
            verdict = await wait.answer
        except Exception as problem:  # noqa: BLE001 - border: a filter's fault ends this stanza only
            if not self._survives(step.phase, step.module, problem):
                self.refuse_exception(stanza, context, problem, step.module)
                return
            verdict = stanza
        if not isinstance(verdict, Stop):
            self.pass_on(pipeline, index + 1, verdict, context, then)

    def _survives(self, phase: Phase, module: str, problem: Exception) -> bool:
        """May the stanza go on although a filter failed? A copy less harms nobody, a policy less does."""
        if phase is not Phase.COPY or stanza_error(problem) is not None:
            return False
        self.log.failure("copy_failed", module=module)
        return True

    # -- the slow lane

    def line_up(self, stanza: Stanza, context: RoutingContext, then: Next) -> bool:
        """Puts `stanza` behind an earlier one of the same pair that still waits; False when there is none.

        Results and errors overtake: what waits may be waiting for them.
        """
        key = _pair(context)
        if key not in self.slow_lane or stanza.attributes.get("type") in ("result", "error"):
            return False

        def go_on() -> None:
            then(stanza, context)

        self._enter(key, stanza, context, go_on)
        return True

    def later(self, stanza: Stanza, context: RoutingContext, work: Coroutine[object, object, None]) -> None:
        """Lets `stanza` wait for `work`, which must not raise."""

        def wait() -> Awaitable[None]:
            return work

        if not self._enter(_pair(context), stanza, context, wait):
            work.close()

    async def earlier(self, context: RoutingContext) -> None:
        """Returns when all has been dealt with that the sender of a stanza in the lane had sent before, to whomever."""
        if context.in_lane:
            await self.slow_lane.earlier(_pair(context))

    def _enter(
        self,
        key: tuple[str, str],
        stanza: Stanza,
        context: RoutingContext,
        job: Callable[[], Awaitable[None] | None],
    ) -> bool:
        # What waits has not been dealt with: it must not be acknowledged before its turn is over.
        ticket = context.open_ticket()
        ticket.hold()
        held = partial(_run_held, job, ticket)
        try:
            if context.in_lane:
                self.slow_lane.add_next(key, held)
            else:
                context.in_lane = True
                self.slow_lane.add(key, held, context.origin)
        except Unavailable as problem:
            self.refuse_exception(stanza, context, problem, "slow lane")
            ticket.release()
            return False
        return True

    # -- back

    def refuse(self, stanza: Stanza, context: RoutingContext, condition: StanzaError) -> None:
        """Answers `stanza` with an error, unless it is one of those that are never answered (RFC 6120 8.3.1).

        To a session of ours the server says itself what went wrong; no filter stands in between.
        """
        if not replies.wants_error(stanza):
            return
        reply = replies.error(stanza, condition, context.recipient.full, context.sender.full)
        if context.origin is None:
            self._route(reply, context.recipient, context.sender)
            return
        context.origin.deliver(reply, reply.to_bytes())
        copies = context.sender_type.find(CarbonCopies) if reply.name == "message" and context.sender_type else None
        if copies is not None:
            copies.refused(reply, context.recipient, context.sender)

    def refuse_exception(self, stanza: Stanza, context: RoutingContext, problem: Exception, where: str) -> None:
        """Answers `stanza` with the error that `problem` means; an unexpected one is logged with its traceback."""
        condition = stanza_error(problem)
        if condition is None:
            self.log.failure("stanza_failed", where=where, stanza_name=stanza.name, domain=context.recipient.domain)
            condition = StanzaError("internal-server-error")
        self.refuse(stanza, context, condition)

    def send_back(self, reply: Stanza, context: RoutingContext) -> None:
        """Sends the result of a request to who asked; between domains it takes the way of every stanza."""
        origin = context.origin
        if origin is not None and origin.jid.domain == context.recipient.domain:
            origin.deliver(reply, reply.to_bytes())
        else:
            self._route(reply, context.recipient, context.sender)


def _pair(context: RoutingContext) -> tuple[str, str]:
    """Between whom the order is kept. What a room sends a member is in one order, whoever of the room has said it."""
    sender = context.sender
    return sender.bare if context.from_room else sender.full, context.recipient.bare


def _run_held(job: Callable[[], Awaitable[None] | None], ticket: CommitTicket) -> Awaitable[None] | None:
    """Runs a job of the slow lane, and releases the ticket at its end; one that fails has not dealt with its stanza."""
    try:
        pending = job()
    except BaseException:
        ticket.fail()
        raise
    if pending is None:
        ticket.release()
        return None
    return _wait_held(pending, ticket)


async def _wait_held(pending: Awaitable[None], ticket: CommitTicket) -> None:
    try:
        await pending
    except BaseException:
        ticket.fail()
        raise
    ticket.release()
