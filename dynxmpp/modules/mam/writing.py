"""How messages of accounts come into their archives: a filter on each side of the way.

What they need is in memory for accounts that have been at it before. The filters come after the policies, so what a
sender may not send, or a recipient has blocked, is not archived there.
"""

from collections.abc import Awaitable, Callable

from dynxmpp.module import JID, ModuleContext, RoutingContext, Stanza, Verdict, Wait
from dynxmpp.modules.mam.config import PmArchive
from dynxmpp.modules.mam.ids import from_text, to_text
from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.retraction import Retractions
from dynxmpp.modules.mam.rules import Archivable
from dynxmpp.modules.mam.schema import ACCOUNT
from dynxmpp.modules.mam.store import ArchiveStore
from dynxmpp.protocol.stanza_id import origin_id, with_stanza_id, without_stanza_ids

#: Preferences.wants: (owner of the archive, the other side) -> shall a message between them be archived?
Wants = Callable[[JID, JID], bool | Awaitable[bool]]


class Writing:
    """The filters of a host type."""

    def __init__(
        self,
        context: ModuleContext,
        options: PmArchive,
        owners: Owners,
        store: ArchiveStore,
        retractions: Retractions,
        wants: Wants | None,
    ) -> None:
        """`wants` is asked about each message; None: all are archived."""
        self._host_type = context.host_type
        self._owners = owners
        self._store = store
        self._retractions = retractions
        self._wants = wants
        self._archivable = Archivable(markers=options.archive_chat_markers)
        self._groupchats = options.archive_groupchats
        self._same_id = options.same_mam_id_for_peers
        self._tells_ids = not options.no_stanzaid_element
        #: The last message and its origin-id: most are archived for both sides, one right after the other.
        self._last: tuple[Stanza | None, str | None] = (None, None)
        #: Messages that were given to the store.
        self.archived = 0

    # -- outgoing

    def outgoing(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """A message that a session of an account sends."""
        sender = context.sender
        stanza = without_stanza_ids(stanza, sender.bare)
        if not self._archivable(stanza):
            return stanza
        archive = self._owners.known(sender.domain, ACCOUNT, sender.local or "")
        wants = self._wants is None or self._wants(sender, context.recipient)
        if wants is False:
            return stanza
        if archive is None or wants is not True or self._store.at_once:
            return Wait(self._outgoing_later(stanza, context, wants))
        self._keep_sent(archive, stanza, context)
        return stanza

    async def _outgoing_later(self, stanza: Stanza, context: RoutingContext, wants: bool | Awaitable[bool]) -> Stanza:
        if not (wants if isinstance(wants, bool) else await wants):
            return stanza
        sender = context.sender
        archive = await self._owners.get(sender.domain, ACCOUNT, sender.local or "")
        self._keep_sent(archive, stanza, context)
        if self._store.at_once:
            await self._store.written(archive)
        return stanza

    def _keep_sent(self, archive: int, stanza: Stanza, context: RoutingContext) -> None:
        id_ = self._store.ids.next()
        self._keep(archive, id_, context.recipient, stanza, context, outgoing=True)
        context.sent_as = to_text(id_)

    # -- incoming

    def incoming(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """A message for an account, if there is one of this name."""
        recipient = context.recipient
        if recipient.local is None or context.subdomain is not None:
            return stanza
        stanza = without_stanza_ids(stanza, recipient.bare)
        if not self._archivable(stanza, groupchat=self._groupchats):
            return stanza
        if context.sent_as is not None and context.from_own_account:
            # To oneself: the copy that was sent is the only one.
            return self._tell(stanza, context, context.sent_as)
        archive: int | None = None
        wants: bool | Awaitable[bool] | None = None
        if self._host_type.accounts.known(recipient.domain, recipient.local):
            wants = self._wants is None or self._wants(recipient, context.sender)
            if wants is False:
                return stanza
            archive = self._owners.known(recipient.domain, ACCOUNT, recipient.local)
        if archive is None or wants is not True or self._store.at_once:
            return Wait(self._incoming_later(stanza, context, wants))
        return self._keep_received(archive, stanza, context)

    async def _incoming_later(
        self, stanza: Stanza, context: RoutingContext, wants: bool | Awaitable[bool] | None
    ) -> Stanza:
        """`wants` is None while it is not known whether the account exists."""
        recipient = context.recipient
        username = recipient.local or ""
        if wants is None:
            if not await self._host_type.accounts.exists(recipient.domain, username):
                return stanza
            wants = self._wants is None or self._wants(recipient, context.sender)
        if not (wants if isinstance(wants, bool) else await wants):
            return stanza
        archive = await self._owners.get(recipient.domain, ACCOUNT, username)
        stanza = self._keep_received(archive, stanza, context)
        if self._store.at_once:
            await self._store.written(archive)
        return stanza

    def _keep_received(self, archive: int, stanza: Stanza, context: RoutingContext) -> Stanza:
        sent_as = context.sent_as
        if self._same_id and sent_as is not None and context.sender_type is self._host_type:
            id_, text = from_text(sent_as), sent_as
        else:
            id_ = self._store.ids.next()
            text = to_text(id_)
        self._keep(archive, id_, context.sender, stanza, context, outgoing=False)
        return self._tell(stanza, context, text)

    def _tell(self, stanza: Stanza, context: RoutingContext, id_: str) -> Stanza:
        return with_stanza_id(stanza, context.recipient.bare, id_) if self._tells_ids else stanza

    # -- both

    def _keep(
        self, archive: int, id_: int, remote: JID, stanza: Stanza, context: RoutingContext, *, outgoing: bool
    ) -> None:
        ticket = context.open_ticket()
        self._store.write(
            archive,
            id_,
            remote,
            context.embedded(stanza),
            ticket,
            source=context.sender.full,
            outgoing=outgoing,
            groupchat=stanza.attributes.get("type") == "groupchat",
            origin_id=self._origin_id(stanza),
        )
        self.archived += 1
        self._retractions.apply(archive, remote.bare, outgoing, stanza, ticket)

    def _origin_id(self, stanza: Stanza) -> str | None:
        if self._last[0] is not stanza:
            self._last = (stanza, origin_id(stanza))
        return self._last[1]
