"""What the server does with stanzas about subscriptions: RFC 6121 3, by the tables of Appendix A.

A stanza of a client is answered for in its account's roster first, then routed from there, under the bare JIDs of both:
so what two resources of an account send to a contact arrives in the order in which the roster has taken it.
"""

from dataclasses import replace
from typing import Protocol

from dynxmpp.module import JID, ModuleContext, RoutingContext, Stanza, StanzaError, Stop, Unavailable, Verdict, Wait
from dynxmpp.modules.roster.items import AccountRoster, RosterItem
from dynxmpp.modules.roster.store import Rosters
from dynxmpp.protocol.subscription import SUBSCRIPTION_TYPES, Transition, inbound, outbound

#: Of a request that is longer, in bytes, nothing is kept but who asked.
MAX_REQUEST = 4096


class Clients(Protocol):
    """What the module does for its users' clients."""

    def push(self, item: RosterItem, roster: AccountRoster) -> None: ...
    def check_room(self, roster: AccountRoster, item: RosterItem) -> None: ...


class Subscriptions:
    """One a host type."""

    def __init__(self, context: ModuleContext, rosters: Rosters, clients: Clients, max_requests: int) -> None:
        """`max_requests` bounds the unanswered requests that an account keeps."""
        self._router = context.router
        self._sessions = context.sessions
        self._accounts = context.host_type.accounts
        self._rosters = rosters
        self._clients = clients
        self._max_requests = max_requests

    # -- filters

    def outgoing(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """What a session of ours sends."""
        if stanza.attributes.get("type") not in SUBSCRIPTION_TYPES:
            return stanza
        if context.from_own_account:
            return Stop("nobody subscribes to himself")
        return Wait(self._send(stanza, context))

    def incoming(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """What an account of ours is sent."""
        if stanza.attributes.get("type") not in SUBSCRIPTION_TYPES:
            return stanza
        if context.recipient.local is None or context.subdomain is not None:
            return stanza
        return Wait(self._receive(stanza, context))

    # -- outbound: RFC 6121 3.1.2, 3.1.5, 3.2.2, 3.3.2

    async def _send(self, stanza: Stanza, context: RoutingContext) -> Stop:
        account, contact = context.sender.to_bare(), context.recipient.to_bare()
        type_ = stanza.attributes["type"]
        stamped = stanza.with_attributes({"from": account.full, "to": contact.full})
        ticket = context.open_ticket()
        ticket.hold()

        async def decide(roster: AccountRoster) -> None:
            before = roster.get(contact)
            transition = outbound(before.state, type_)
            after = await self._enter(roster, before, transition)
            if after is not None and transition.pushes:
                self._clients.push(after, roster)
            if transition.passes:
                if before.state.value.from_ and not transition.state.value.from_:
                    self._show_unavailable(account, contact)  # 3.2.2: while it is subscribed still
                self._router.route(stamped, account, contact, context.origin)
            if transition.state.value.from_ and not before.state.value.from_:
                self._show_presence(account, contact)

        try:
            await self._rosters.change(account, decide)
        finally:
            # What could not be written is answered with an error: it needs no second try by the stream.
            ticket.release()
        return Stop("subscription")

    def end(self, account: JID, item: RosterItem) -> None:
        """RFC 6121 2.5.2: an item is gone from the roster; the contact learns it by the subscriptions that end."""
        facts = item.state.value
        if facts.to or facts.pending_out:
            self._route("unsubscribe", account, item.contact)
        if facts.from_:
            self._show_unavailable(account, item.contact)
        if facts.from_ or facts.pending_in:
            self._route("unsubscribed", account, item.contact)

    # -- inbound: RFC 6121 3.1.3, 3.1.6, 3.2.3, 3.3.3

    async def _receive(self, stanza: Stanza, context: RoutingContext) -> Stop:
        account, contact = context.recipient.to_bare(), context.sender.to_bare()
        type_ = stanza.attributes["type"]
        if not await self._exists(account):
            return Stop("no such account")
        stamped = stanza.with_attributes({"from": contact.full, "to": account.full})

        async def decide(roster: AccountRoster) -> None:
            before = roster.get(contact)
            transition = inbound(before.state, type_)
            request = None
            if transition.state.value.pending_in and not before.state.value.pending_in:
                if len(roster.requests) >= self._max_requests:
                    raise StanzaError("resource-constraint", type="wait", text="Too many requests wait for an answer")
                request = kept(stamped)
            after = await self._enter(roster, before, transition, request)
            if transition.passes:
                self._deliver(stamped, account)
            if after is not None and transition.pushes:
                self._clients.push(after, roster)
            if before.state.value.from_ and not transition.state.value.from_:
                self._show_unavailable(account, contact)
            if transition.answer is not None:
                self._route(transition.answer, account, contact)
                self._show_presence(account, contact)

        await self._rosters.change(account, decide)
        return Stop("subscription")

    async def _exists(self, account: JID) -> bool:
        username = account.local or ""
        return self._accounts.known(account.domain, username) or await self._accounts.exists(account.domain, username)

    def _deliver(self, stanza: Stanza, account: JID) -> None:
        """A request to all available resources, what answers or ends one to the interested ones."""
        data = stanza.to_bytes()
        is_request = stanza.attributes["type"] == "subscribe"
        for session in self._sessions.of(account.bare):
            if session.available if is_request else session.wants_roster:
                session.deliver(stanza, data)

    # -- both

    async def _enter(
        self, roster: AccountRoster, before: RosterItem, transition: Transition, request: bytes | None = None
    ) -> RosterItem | None:
        """Writes the state that a contact is in now; the item as it is then, None when nothing is known any more."""
        state = transition.state
        pending = state.value.pending_in
        after = replace(
            before,
            state=state,
            listed=before.listed or state.visible,
            request=(request or before.request) if pending else None,
        )
        if after == before:
            return after
        if not after.listed and not pending:
            await self._rosters.erase(roster, before)
            return None
        if after.listed:
            self._clients.check_room(roster, before)
        return await self._rosters.write(roster, after)

    def _route(self, type_: str, account: JID, contact: JID) -> None:
        stanza = Stanza("presence", {"type": type_, "from": account.full, "to": contact.full})
        self._router.route(stanza, account, contact)

    def _show_presence(self, account: JID, contact: JID) -> None:
        """RFC 6121 3.1.5: the contact, subscribed now, gets the presence of all available resources.

        After the stanza that says so, which may be waiting still for the contact's roster; and the presence of then.
        """

        def show() -> None:
            for session in self._sessions.available(account.bare):
                if session.presence is not None:
                    stanza = session.presence.with_attributes({"to": contact.full})
                    self._router.route(stanza, session.jid, contact)

        lane, pair = self._router.slow_lane, (account.full, contact.full)
        try:
            if pair in lane:
                lane.add(pair, show)
                return
        except Unavailable:
            pass  # too much waits in the lane; out of order is better than not at all
        show()

    def _show_unavailable(self, account: JID, contact: JID) -> None:
        """RFC 6121 3.2.2, 3.3.3: the contact, subscribed no more, sees all available resources go.

        Sent in the account's name, so that in the slow lane it stays before the `unsubscribed` that follows.
        """
        for session in self._sessions.available(account.bare):
            attributes = {"type": "unavailable", "from": session.jid.full, "to": contact.full}
            self._router.route(Stanza("presence", attributes), account, contact)


def kept(request: Stanza) -> bytes:
    """What is stored of a request."""
    data = request.to_bytes()
    if len(data) <= MAX_REQUEST:
        return data
    attributes = {key: request.attributes[key] for key in ("type", "from", "to", "id") if key in request.attributes}
    return Stanza("presence", attributes).to_bytes()
