"""The roster, and the subscriptions in it: RFC 6121 2 and 3, with roster versioning (2.6, formerly XEP-0237 1.3).

Subscriptions are what this module makes of presence stanzas of the types `subscribe`, `subscribed`, `unsubscribe` and
`unsubscribed`, at the sender's host type and at the recipient's; what they allow is told to others by SubscriptionBook.
Requests are kept, with what the contact wrote, until they are answered.

Left out: pre-approval (RFC 6121 3.4, optional). A request to an account that does not exist is ignored (3.1.3).
Requests are not sent again at login (3.1.2): contacts are on this server, which keeps what it has taken.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from twisted.words.xish import domish

from dynxmpp.config.model import one_of, positive
from dynxmpp.core.interfaces import Blocklist, RosterRooms
from dynxmpp.module import (
    IQ,
    JID,
    Direction,
    Filter,
    Migration,
    Module,
    ModuleContext,
    Phase,
    Section,
    Session,
    Stanza,
    StanzaError,
    Stored,
    SubscriptionBook,
    Target,
    Xep,
    iq_get,
    iq_set,
    option,
    qualified,
    section,
)
from dynxmpp.modules.roster.items import AccountRoster, RosterItem, RosterSet, read_set
from dynxmpp.modules.roster.portability import IMPORTED, Merging, printed_roster
from dynxmpp.modules.roster.store import CREATE, Rosters
from dynxmpp.modules.roster.subscriptions import Subscriptions
from dynxmpp.wire.escape import attribute
from dynxmpp.wire.ns import NS_ROSTER
from dynxmpp.wire.parse import parse_stanza

NS_VERSIONING = "urn:xmpp:features:rosterver"
_QUERY = (qualified(NS_ROSTER, "query"),)


@section
class RosterConfig(Section):
    """[modules.mod_roster]

    `max_items` bounds what is in a roster, `max_requests` the unanswered requests of others, `cache_size` the rosters
    in memory of accounts that are not online.
    """

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("riak",), kind="backend"), unused=True
    )
    versioning: bool = option(default=False)
    store_current_id: bool = option(default=False, unused=True)
    max_items: int = option(default=1000, check=positive)
    max_requests: int = option(default=200, check=positive)
    cache_size: int = option(default=10_000, check=positive)


class Roster(Module):
    """Keeps rosters and answers for them. Provides SubscriptionBook."""

    name = "mod_roster"
    xep = Xep(237, "1.3")
    config_model = RosterConfig
    stored = (
        Stored("rosters", domain="server", user="username"),
        Stored("roster_versions", domain="server", user="username"),
    )
    migrations = (Migration("mod_roster", 1, "rosters", CREATE),)
    imported = IMPORTED
    #: What a stream announces after authentication.
    stream_features: tuple[bytes, ...] = ()

    def __init__(self, context: ModuleContext, config: RosterConfig) -> None:
        super().__init__(context, config)
        if config.versioning:
            self.stream_features = (f"<ver xmlns='{NS_VERSIONING}'/>".encode(),)
        self._rosters = Rosters(context.database, context.sessions, config.cache_size)
        self._subscriptions = Subscriptions(context, self._rosters, self, config.max_requests)
        self._blocklist: Blocklist | None = None
        self._rooms: RosterRooms | None = None
        self._pushes = 0
        self.host_type.provide(SubscriptionBook, self)

    async def start(self) -> None:
        self._blocklist = self.host_type.find(Blocklist)
        self._rooms = self.host_type.find(RosterRooms)

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.STATE, self._subscriptions.outgoing, ("presence",))
        yield Filter(Direction.INCOMING, Phase.STATE, self._subscriptions.incoming, ("presence",))

    # -- sessions

    def session_bound(self, session: Session) -> None:
        self._rosters.settle(session.jid)

    def session_ended(self, session: Session) -> None:
        self._rosters.settle(session.jid)

    # -- SubscriptionBook

    async def load(self, account: JID) -> None:
        await self._rosters.load(account)

    def subscription(self, account: JID, contact: JID) -> str | None:
        roster = self._rosters.get(account)
        return None if roster is None else roster.get(contact).state.subscription

    def subscribers(self, account: JID) -> Sequence[JID] | None:
        roster = self._rosters.get(account)
        return None if roster is None else roster.subscribers

    def subscribed_to(self, account: JID) -> Sequence[JID] | None:
        roster = self._rosters.get(account)
        return None if roster is None else roster.subscribed_to

    def requests(self, account: JID) -> Sequence[Stanza] | None:
        roster = self._rosters.get(account)
        if roster is None:
            return None
        blocklist = self._blocklist
        return [
            parse_stanza(item.request)
            for item in roster.requests
            if item.request is not None and not (blocklist and blocklist.blocks(roster.account, item.contact))
        ]

    # -- roster get

    @iq_get(NS_ROSTER, "query", at=Target.ACCOUNT)
    async def on_get(self, iq: IQ) -> domish.Element | None:
        """RFC 6121 2.1.3, 2.6.2."""
        _check_owner(iq)
        # Rooms have no place in the versions of a roster: with them, all of it is sent each time.
        known = iq.payload.getAttribute("ver") if self.config.versioning and self._rooms is None else None
        roster = await self._rosters.load(iq.recipient)
        session = iq.context.origin
        if session is not None:
            session.wants_roster = True
        changed = None if known is None else _changed_since(roster, known)
        if changed is None:
            return await self._whole(roster)
        if changed and session is not None:
            self.clock.callLater(0, self._catch_up, session, changed)  # after the result
        return None

    async def _whole(self, roster: AccountRoster) -> domish.Element:
        query = domish.Element((NS_ROSTER, "query"))
        if self.config.versioning:
            query["ver"] = str(roster.version)
        rooms = [] if self._rooms is None else await self._rooms.rostered(roster.account)
        # RFC 6121 2.1.2.3: one item for an address; that of a room says what the room says.
        addresses = {str(item["jid"]) for item in rooms}
        query.addRawXml("".join(item.to_xml() for item in roster.listed if item.contact.full not in addresses))
        for item in rooms:
            query.addChild(item)
        return query

    def _catch_up(self, session: Session, changed: list[RosterItem]) -> None:
        """Pushes what had changed when the session asked, except for what was pushed to it since."""
        if self.sessions.get(session.jid) is not session:
            return
        roster = self._rosters.get(session.jid)
        for item in changed:
            if roster is None or roster.get(item.contact).version == item.version:
                self._push_to([session], item.to_xml(), item.version)

    # -- roster set

    @iq_set(NS_ROSTER, "query", at=Target.ACCOUNT)
    async def on_set(self, iq: IQ) -> None:
        """RFC 6121 2.1.5, 2.3 to 2.5."""
        _check_owner(iq)
        wanted = read_set(iq.payload)
        if wanted.contact == iq.recipient:
            raise StanzaError("not-allowed", text="Nobody is a contact of himself")

        async def decide(roster: AccountRoster) -> None:
            if wanted.remove:
                await self._remove(roster, wanted.contact)
            else:
                await self._set(roster, wanted)

        await self._rosters.change(iq.recipient, decide)

    async def _set(self, roster: AccountRoster, wanted: RosterSet) -> None:
        item = roster.get(wanted.contact)
        self.check_room(roster, item)
        item = replace(item, name=wanted.name, groups=wanted.groups, listed=True)
        self.push(await self._rosters.write(roster, item), roster)

    async def _remove(self, roster: AccountRoster, contact: JID) -> None:
        """RFC 6121 2.5.2: the subscriptions end with the item; a request that waits for an answer is denied."""
        item = roster.get(contact)
        if not item.listed:
            raise StanzaError("item-not-found")
        await self._rosters.erase(roster, item)
        xml = f"<item jid='{attribute(contact.full)}' subscription='remove'/>"
        self._push_to(self._interested(roster.account), xml, roster.version)
        self._subscriptions.end(roster.account, item)

    def check_room(self, roster: AccountRoster, item: RosterItem) -> None:
        """Raises StanzaError when `item` would be one too many in what clients see."""
        if not item.listed and len(roster.listed) >= self.config.max_items:
            raise StanzaError("policy-violation", type="modify", text=f"At most {self.config.max_items} contacts")

    # -- pushes

    def push(self, item: RosterItem, roster: AccountRoster) -> None:
        """RFC 6121 2.1.6: tells the interested resources of an item that was written."""
        self._push_to(self._interested(roster.account), item.to_xml(), item.version)

    def _interested(self, account: JID) -> list[Session]:
        return [session for session in self.sessions.of(account.bare) if session.wants_roster]

    def _push_to(self, sessions: Iterable[Session], item: str, version: int) -> None:
        ver = f" ver='{version}'" if self.config.versioning else ""
        inner = f"<query xmlns='{NS_ROSTER}'{ver}>{item}</query>".encode()
        for session in sessions:
            self._pushes += 1
            attributes = {"type": "set", "id": f"push{self._pushes}", "to": session.jid.full}
            stanza = Stanza("iq", attributes, inner, _QUERY)
            session.deliver(stanza, stanza.to_bytes())

    # -- rosters that leave and arrive (XEP-0227)

    def exported(self, account: JID) -> AsyncIterator[bytes]:
        return printed_roster(self._rosters, account)

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        merging = Merging(account, self.config.max_items, self.config.max_requests)
        if not merging.read(element):
            return False
        if merging.wanted:
            await self._rosters.change(account, lambda roster: self._merge(roster, merging))
        merging.check()
        return True

    async def _merge(self, roster: AccountRoster, merging: Merging) -> None:
        changed = merging.changes(roster)
        for item in await self._rosters.write_all(roster, changed) if changed else ():
            if item.listed:
                self.push(item, roster)

    # -- removal

    def forget_domain(self, domain: str) -> None:
        self._rosters.forget_domain(domain)

    async def remove_account(self, account: JID) -> None:
        self._rosters.forget(account.bare)


def _check_owner(iq: IQ) -> None:
    if not iq.from_own_account:
        raise StanzaError("forbidden")


def _changed_since(roster: AccountRoster, known: str) -> list[RosterItem] | None:
    """What a client lacks that has the version `known`; None when it had better get the whole roster (2.6.3)."""
    if not (known.isascii() and known.isdecimal() and len(known) < 20):
        return None
    changed = roster.changed_since(int(known))
    # A push of one item is about as long as two items of a whole roster.
    return None if changed is None or 2 * len(changed) > len(roster.listed) else changed
