"""What rooms send to their members, and what their archives keep of it."""

from secrets import token_hex

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.core.router import Router
from dynxmpp.module import JID, CommitTicket, RoutingContext, Stanza, StanzaError, Unavailable
from dynxmpp.modules.muc_light import notices
from dynxmpp.modules.muc_light.names import MUC_USER_KEY, NS_MUC_USER
from dynxmpp.modules.muc_light.notices import Content
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.protocol.stanza_id import STANZA_ID_KEY, stanza_id, without_stanza_ids


class Sending:
    """For the rooms of a host type."""

    log = Logger()

    def __init__(self, router: Router) -> None:
        self._router = router
        #: None: rooms have no archives.
        self.archive: RoomArchive | None = None
        #: Messages of members that were taken, and what members were sent, notices included.
        self.messages = self.copies = 0

    # -- messages (section 6)

    def message(self, room: Room, stanza: Stanza, context: RoutingContext) -> None:
        """Sends what a member says to all members. Raises StanzaError for who is none, and Unavailable.

        Only the content is passed on, of the attributes `id` alone; it is the same bytes for all.
        """
        sender = context.sender.to_bare()
        affiliation = room.members.get(sender)
        if affiliation is None:
            raise StanzaError("item-not-found")
        stanza = without_stanza_ids(stanza, room.jid.bare)
        occupant = room.jid.with_resource(sender.bare)
        attributes = {"id": stanza.attributes.get("id") or token_hex(8), "type": "groupchat", "from": occupant.full}
        inner, keys, prefixes = stanza.inner(), stanza.child_keys, stanza.localPrefixes
        ticket = context.open_ticket()
        if self.archive is not None:
            archived = Stanza("message", attributes, inner, keys, prefixes=prefixes)
            if archived.has_child(MUC_USER_KEY):
                archived = archived.without(_is_author)
            archived = archived.appended(notices.author(affiliation, context.sender), MUC_USER_KEY)
            id_ = self.archive.store(room.jid, context.sender, archived, ticket)
            if id_ is not None:
                inner += stanza_id(room.jid.bare, id_)
                keys = (*keys, STANZA_ID_KEY)
        self.messages += 1
        self.copies += len(room.members)
        to_member = self._router.to_member
        for member in room.members:
            copy = Stanza("message", {**attributes, "to": member.full}, inner, keys, prefixes=prefixes)
            to_member(copy, occupant, member, ticket)

    # -- notices

    def archived(
        self, room: JID, content: Content, id_: str, ticket: CommitTicket, shown: Content | None = None
    ) -> Content:
        """Archives a notice; gives what is to be shown (it, or `shown`), with its id in the archive.

        The change that it tells of is committed already, so what the archive cannot take is missing there.
        """
        shown = shown or content
        if self.archive is None:
            return shown
        try:
            kept = self.archive.store(room, None, notices.message(content, room=room, to=None, id_=id_), ticket)
        except Unavailable as problem:
            self.log.warn("room_notice_not_archived", room=room.bare, reason=str(problem))
            return shown
        if kept is None:
            return shown
        return Content(shown.inner + stanza_id(room.bare, kept), (*shown.keys, STANZA_ID_KEY))

    def notice(self, room: JID, member: JID, content: Content, id_: str, ticket: CommitTicket) -> None:
        """Tells a member, or somebody who has been one."""
        self.copies += 1
        self._router.to_member(notices.message(content, room=room, to=member, id_=id_), room, member, ticket)

    async def told(self, room: JID, member: JID) -> None:
        """Returns when the notices of a room have reached a member's clients: the answer to a request comes after them.

        They wait where something of the member's, his archive for one, is not in memory; results wait for nothing.
        """
        lane, pair = self._router.slow_lane, (room.full, member.bare)
        if pair not in lane:
            return
        reached: Deferred[None] = Deferred()
        try:
            lane.add(pair, lambda: reached.callback(None))
        except Unavailable:  # too much waits in the lane; out of order is better than not at all
            return
        await reached


def _is_author(element: domish.Element) -> bool:
    return bool(element.uri == NS_MUC_USER and element.name == "x")
