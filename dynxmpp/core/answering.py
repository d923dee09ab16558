"""IQs that the server answers: of a domain, of an account, of a subdomain's service."""

from collections.abc import Awaitable

from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.core import replies
from dynxmpp.core.host_type import HostType
from dynxmpp.core.iq_registry import IQ, Answer, Registered, Target
from dynxmpp.core.passage import Passage
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.wire.stanza import Stanza


class Answering:
    """Finds the handler of a get or set, asks it, sends what it gives; one a node."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def ask(self, place: Target, stanza: Stanza, context: RoutingContext) -> None:
        """A get or set for a domain or an account of `context.recipient_type`."""
        host_type: HostType = context.recipient_type
        registered = host_type.iqs.find(place, stanza.attributes["type"], stanza.child_keys[0])
        if registered is None:
            if place is not Target.DOMAIN or not self.show_to_handlers(stanza, context):
                # RFC 6120 8.3.3.3: understood, and switched off for this domain; 8.3.3.19: not understood.
                is_known = stanza.child_keys[0] in host_type.not_served
                condition = "feature-not-implemented" if is_known else "service-unavailable"
                self._passage.refuse(stanza, context, StanzaError(condition))
            return
        recipient = context.recipient
        if (
            place is Target.ACCOUNT
            and not context.from_own_account
            and not host_type.accounts.known(recipient.domain, recipient.local or "")
        ):
            self._passage.later(stanza, context, self._answer_if_account(registered, stanza, context))
        else:
            self.answer(registered, stanza, context)

    async def _answer_if_account(self, registered: Registered, stanza: Stanza, context: RoutingContext) -> None:
        recipient = context.recipient
        accounts = context.recipient_type.accounts
        try:
            exists = await accounts.exists(recipient.domain, recipient.local or "")
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._passage.refuse_exception(stanza, context, problem, "account look-up")
            return
        if exists:
            self.answer(registered, stanza, context)
        else:
            # RFC 6121 8.5.1; the same answer that a request gets which no module knows.
            self._passage.refuse(stanza, context, StanzaError("service-unavailable"))

    def answer(self, registered: Registered, stanza: Stanza, context: RoutingContext) -> None:
        """Asks the handler; what it raises becomes the error that is sent."""
        try:
            answer = registered.handler(IQ(stanza, context))
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._refuse(registered, stanza, context, problem)
            return
        if isinstance(answer, Awaitable):
            self._passage.later(stanza, context, self._answer_later(registered, answer, stanza, context))
        else:
            self._send_result(stanza, context, answer)

    async def _answer_later(
        self, registered: Registered, answer: Awaitable[Answer], stanza: Stanza, context: RoutingContext
    ) -> None:
        try:
            payload = await answer
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._refuse(registered, stanza, context, problem)
        else:
            self._send_result(stanza, context, payload)

    def _refuse(self, registered: Registered, stanza: Stanza, context: RoutingContext, problem: Exception) -> None:
        # What services say of a request is about their own rules: the request adds nothing to it.
        is_short = registered.secret or context.subdomain is not None
        self._passage.refuse_exception(stanza.emptied() if is_short else stanza, context, problem, registered.module)

    def _send_result(self, stanza: Stanza, context: RoutingContext, payload: Answer) -> None:
        reply = replies.result(stanza, payload, context.recipient.full, context.sender.full)
        self._passage.send_back(reply, context)

    # -- services of subdomains

    def hand_to_service(self, stanza: Stanza, context: RoutingContext) -> bool:
        """Gives what is addressed to a subdomain to its service; False when there is none."""
        host_type: HostType = context.recipient_type
        pattern: str = context.subdomain.pattern
        registered = self._of_service(pattern, stanza, context) if stanza.name == "iq" else None
        if registered is not None:
            self.answer(registered, stanza, context)
            return True
        service = host_type.services.get(pattern)
        if service is None:
            return False
        try:
            pending = service.receive(stanza, context)
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._passage.refuse_exception(stanza.emptied(), context, problem, pattern)
        else:
            if pending is not None:
                self._passage.later(stanza, context, self._hand_later(pending, stanza, context))
        return True

    @staticmethod
    def _of_service(pattern: str, stanza: Stanza, context: RoutingContext) -> Registered | None:
        recipient = context.recipient
        if recipient.resource is not None or stanza.attributes["type"] not in ("get", "set"):
            return None
        host_type: HostType = context.recipient_type
        target = Target.SERVICE if recipient.local is None else Target.ROOM
        return host_type.iqs.find((target, pattern), stanza.attributes["type"], stanza.child_keys[0])

    async def _hand_later(self, pending: Awaitable[None], stanza: Stanza, context: RoutingContext) -> None:
        try:
            await pending
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._passage.refuse_exception(stanza.emptied(), context, problem, context.subdomain.pattern)

    # -- plain wokkel handlers

    def show_to_handlers(self, stanza: Stanza, context: RoutingContext) -> bool:
        """Shows a stanza for a domain to plain wokkel handlers; True when one has taken it.

        Each gets a tree of its own: some change what they are given.
        """
        stream = context.recipient_type.virtual_stream
        if stream is None:
            return False
        observer = None
        if stanza.name == "iq" and stanza.child_keys:
            observer = stream.iq_observers.get((stanza.attributes["type"], stanza.child_keys[0]))
        if observer is None and not stream.has_general_observers:
            return False
        tree = stanza.copy_tree()
        tree["to"] = context.recipient.full
        if observer is None:
            return bool(stream.take(tree))
        observer(tree)
        return True
