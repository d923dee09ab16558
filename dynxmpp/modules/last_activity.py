"""XEP-0012 Last Activity, version 2.0: a domain's uptime, and when an account was last online.

Of accounts only those learn it who may see their presence.

An account with an available resource was active 0 seconds ago. Requests to a full JID are the client's to answer
(section 4); those of strangers do not get that far.
"""

from collections.abc import AsyncIterator, Iterable

from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.config.model import one_of
from dynxmpp.config.modules import IqDisc
from dynxmpp.module import (
    IQ,
    JID,
    BatchWriter,
    CommitTicket,
    Direction,
    Filter,
    Imported,
    Migration,
    Module,
    ModuleContext,
    Phase,
    RoutingContext,
    Section,
    Session,
    Stanza,
    StanzaError,
    Stop,
    Stored,
    SubscriptionBook,
    Target,
    Unavailable,
    Verdict,
    Wait,
    Xep,
    iq_get,
    option,
    qualified,
    section,
)
from dynxmpp.protocol.delay import NS_DELAY
from dynxmpp.protocol.timestamps import InvalidTimestamp, format_seconds, parse_utc
from dynxmpp.wire import escape

NS_LAST = "jabber:iq:last"
LAST_KEY = qualified(NS_LAST, "query")

_CREATE = """
CREATE TABLE last_activity (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    logged_out bigint NOT NULL,
    status text NOT NULL,
    PRIMARY KEY (server, username)
)
"""
_SELECT = "SELECT logged_out, status FROM last_activity WHERE server = %s AND username = %s"
_STORE = """
INSERT INTO last_activity (server, username, logged_out, status)
SELECT DISTINCT ON (server, username) *
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) AS batch (server, username, logged_out, status)
ORDER BY server, username, logged_out DESC
ON CONFLICT (server, username) DO UPDATE SET logged_out = excluded.logged_out, status = excluded.status
WHERE excluded.logged_out >= last_activity.logged_out
"""
_DELETE_DOMAIN = "DELETE FROM last_activity WHERE server = %s"
_DELETE_ACCOUNT = "DELETE FROM last_activity WHERE server = %s AND username = %s"

#: What is kept of a status, in characters.
MAX_STATUS = 1024
#: Log-outs in one statement, and those that wait at most: all sessions of a server may end at once.
BATCH = 1000
MAX_WAITING = 100_000


@section
class LastConfig(Section):
    """[modules.mod_last]"""

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("riak",), kind="backend"), unused=True
    )
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class LastActivity(Module):
    """Notes log-outs, and answers for those who may know."""

    name = "mod_last"
    xep = Xep(12, "2.0")
    config_model = LastConfig
    features = (NS_LAST,)
    account_features = (NS_LAST,)
    stored = (Stored("last_activity", domain="server", user="username"),)
    migrations = (Migration("mod_last", 1, "last_activity", _CREATE),)
    imported = (Imported.of(NS_LAST, "query", "last"),)
    log = Logger()

    def __init__(self, context: ModuleContext, config: LastConfig) -> None:
        super().__init__(context, config)
        self._started_at = self.clock.seconds()
        self._subscriptions: SubscriptionBook | None = None
        self._writer = BatchWriter(self.database, _STORE, clock=self.clock, max_rows=BATCH, max_waiting=MAX_WAITING)

    async def start(self) -> None:
        self._started_at = self.clock.seconds()
        self._subscriptions = self.host_type.find(SubscriptionBook)

    async def stop(self) -> None:
        await self._writer.stop()

    async def remove_domain(self, domain: str) -> None:
        # The log-outs that the removal itself has caused may have come after the rows went.
        await self._writer.flush()
        await self.database.execute(_DELETE_DOMAIN, (domain,))

    async def remove_account(self, account: JID) -> None:
        await self._writer.flush()
        await self.database.execute(_DELETE_ACCOUNT, (account.domain, account.local))

    # -- what leaves and arrives (XEP-0227, which knows no such element: a time that stays right is added to XEP-0012's)

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        await self._writer.flush()
        for logged_out, status in await self.database.query(_SELECT, (account.domain, account.local)):
            seconds = max(0, int(self.clock.seconds()) - logged_out)
            stamp = format_seconds(logged_out)
            yield (
                f"<query xmlns='{NS_LAST}' seconds='{seconds}'>{escape.text(status)}"
                f"<delay xmlns='{NS_DELAY}' stamp='{stamp}'/></query>\n"
            ).encode()

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        moment = self._moment(element)
        status = "".join(child for child in element.children if isinstance(child, str)).strip()[:MAX_STATUS]
        await self.database.execute(_STORE, ([account.domain], [account.local], [moment], [status]))
        return True

    def _moment(self, element: domish.Element) -> int:
        """When a session was over, in seconds since 1970. Raises StanzaError."""
        now = int(self.clock.seconds())
        stamps = [child.getAttribute("stamp", "") for child in element.elements() if child.uri == NS_DELAY]
        seconds = element.getAttribute("seconds", "")
        try:
            if stamps:
                return min(now, int(parse_utc(stamps[0]).timestamp()))
            if seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
                return max(0, now - int(seconds))
        except InvalidTimestamp:
            pass
        raise StanzaError("bad-request", text="Neither seconds nor a time")

    # -- log-outs

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.STATE, self._note_presence, ("presence",))
        yield Filter(Direction.INCOMING, Phase.POLICY, self._guard_resource, ("iq",))

    def _note_presence(self, stanza: Stanza, context: RoutingContext) -> Stanza:
        if context.origin is not None and "to" not in stanza.attributes:
            type_ = stanza.attributes.get("type")
            if type_ is None:
                context.origin.slots.pop(LastActivity, None)
            elif type_ == "unavailable" and LastActivity not in context.origin.slots:
                self._log_out(context.origin, _status(stanza), context.open_ticket())
        return stanza

    def session_ended(self, session: Session) -> None:
        if LastActivity not in session.slots:
            self._log_out(session, "", CommitTicket())

    def _log_out(self, session: Session, status: str, ticket: CommitTicket) -> None:
        """A session is online no more; whatever becomes of it, until it sends presence again that was its log-out."""
        session.slots[LastActivity] = True
        row = (session.jid.domain, session.jid.local, int(self.clock.seconds()), status)
        try:
            self._writer.write(row, ticket)
        except Unavailable:
            self.log.warn("log_out_not_noted", jid=session.jid.full)

    # -- requests

    @iq_get(NS_LAST, "query", at=Target.DOMAIN)
    def on_uptime(self, iq: IQ) -> domish.Element:
        return _answer(int(self.clock.seconds() - self._started_at))

    @iq_get(NS_LAST, "query", at=Target.ACCOUNT)
    async def on_last(self, iq: IQ) -> domish.Element:
        account = iq.recipient
        if not iq.from_own_account:
            await self._check_subscriber(account, iq.sender.to_bare())
        if self.sessions.available(account.bare):
            return _answer(0)
        await self._writer.flush()
        rows = await self.database.query(_SELECT, (account.domain, account.local))
        if not rows:
            raise StanzaError("item-not-found")
        logged_out, status = rows[0]
        return _answer(max(0, int(self.clock.seconds()) - logged_out), status)

    def _guard_resource(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """Section 4: the server sees to it that a client is asked only by those who may see its presence."""
        recipient = context.recipient
        if recipient.local is None or recipient.resource is None or context.subdomain is not None:
            return stanza
        if stanza.attributes.get("type") != "get" or not stanza.has_child(LAST_KEY) or context.from_own_account:
            return stanza
        return Wait(self._guard_later(stanza, context))

    async def _guard_later(self, stanza: Stanza, context: RoutingContext) -> Stanza | Stop:
        await self._check_subscriber(context.recipient.to_bare(), context.sender.to_bare())
        return stanza

    async def _check_subscriber(self, account: JID, contact: JID) -> None:
        """Raises StanzaError for a contact that must not see the account's presence."""
        if self._subscriptions is not None:
            await self._subscriptions.load(account)
            if self._subscriptions.subscription(account, contact) in ("from", "both"):
                return
        raise StanzaError("forbidden")


def _status(presence: Stanza) -> str:
    element = presence.child("jabber:client", "status")
    return "" if element is None else str(element)[:MAX_STATUS]


def _answer(seconds: int, status: str = "") -> domish.Element:
    query = domish.Element((NS_LAST, "query"))
    query["seconds"] = str(seconds)
    if status:
        query.addContent(status)
    return query
