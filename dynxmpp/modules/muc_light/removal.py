"""Accounts and domains that go leave the rooms that they were in (section 18)."""

from collections.abc import Callable
from secrets import token_hex
from typing import Final

from dynxmpp.module import JID, CommitTicket, StanzaError
from dynxmpp.modules.muc_light.changes import RoomChanges
from dynxmpp.modules.muc_light.store import RoomStore

#: Rooms that are looked up at a time.
MANY: Final = 500


class Removal:
    """Rooms of services that other host types serve are left to them: they have other rules, and other archives.

    `is_served(service)`: by this host type? `is_ours`: by this one or by none; what nobody serves is everybody's, and
    tells nobody. Calls may be repeated. They raise Unavailable.
    """

    def __init__(
        self,
        store: RoomStore,
        changes: RoomChanges,
        *,
        is_served: Callable[[str], bool],
        is_ours: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._changes = changes
        self._is_served = is_served
        self._is_ours = is_ours

    async def remove_account(self, account: JID) -> None:
        """The account leaves its rooms, and their members are told."""
        id_ = token_hex(8)
        for server, room in await self._store.all_rooms_of(account):
            if self._is_ours(room.domain):
                quiet = not self._is_served(room.domain)
                await self._leave(server, room, lambda member: member == account, id_, quiet=quiet)

    async def remove_domain(self, domain: str) -> None:
        """The accounts of a domain leave rooms below other domains, and nobody is told."""
        found, last = await self._store.rooms_with_domain(domain, 0, MANY)
        while found:
            for server, room in found:
                if self._is_ours(room.domain):
                    await self._leave(server, room, lambda member: member.domain == domain, token_hex(8), quiet=True)
            found, last = await self._store.rooms_with_domain(domain, last, MANY)

    async def _leave(self, server: str, room: JID, is_gone: Callable[[JID], bool], id_: str, *, quiet: bool) -> None:
        try:
            await self._changes.leave(room, is_gone, id_, CommitTicket(), server=server, quiet=quiet)
        except StanzaError as problem:
            if problem.condition != "item-not-found":  # somebody else has removed the room meanwhile
                raise
