"""MUC Light: group chat for phones. Members are in the database, presence plays no role, history is in the archive.

An extension of the field, not of the XSF; the specification that was followed is in docs/muc-light.md.

| What | Files |
|---|---|
| options, tables, namespaces | config.py, schema.py, names.py |
| a room at one version; its configuration | room.py, room_config.py |
| who may become what | affiliations.py |
| what clients ask; what members are told | requests.py, notices.py |
| rooms in the database; in memory | store.py, room_lists.py, blocking_store.py; rooms.py |
| changes, messages | changes.py, sending.py |
| lists of rooms | discovery.py, rostered.py |
| who is out of reach | walls.py |
| accounts and domains that go | removal.py |
| the administration of rooms | admin.py |
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from twisted.internet.task import LoopingCall
from twisted.words.xish import domish

from dynxmpp.config.acl import DENY
from dynxmpp.core.interfaces import DomainLimits, RoomAdmin, RoomArchive, RosterRooms
from dynxmpp.module import (
    IQ,
    JID,
    Answer,
    CommitTicket,
    Measured,
    Module,
    ModuleContext,
    PersonalTable,
    RoutingContext,
    Stanza,
    StanzaError,
    Stored,
    Target,
    iq_get,
    iq_set,
)
from dynxmpp.modules.muc_light import notices, requests
from dynxmpp.modules.muc_light.admin import Administration
from dynxmpp.modules.muc_light.changes import RoomChanges, affiliation_of
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.discovery import Discovery
from dynxmpp.modules.muc_light.names import (
    NS_AFFILIATIONS,
    NS_BLOCKING,
    NS_CONFIGURATION,
    NS_CREATE,
    NS_DESTROY,
    NS_INFO,
    NS_MAM_1,
    NS_MAM_2,
    NS_MUC_LIGHT,
)
from dynxmpp.modules.muc_light.portability import IMPORTED, add_blocking, printed_blocking
from dynxmpp.modules.muc_light.removal import Removal
from dynxmpp.modules.muc_light.room import Affiliation, Room
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.modules.muc_light.rooms import Rooms
from dynxmpp.modules.muc_light.rostered import Rostered
from dynxmpp.modules.muc_light.schema import MIGRATIONS
from dynxmpp.modules.muc_light.sending import Sending
from dynxmpp.modules.muc_light.store import CHANNEL, RoomStore
from dynxmpp.modules.muc_light.walls import Walls
from dynxmpp.protocol.disco_info import NS_DISCO_INFO, NS_DISCO_ITEMS

#: How often what crashes have left of removed rooms is looked for, in seconds.
SWEEP_S = 3600


class MucLight(Module):
    """The service and its rooms, of all domains of a host type. Provides RoomAdmin, and RosterRooms if configured."""

    name = "mod_muc_light"
    config_model = MucLightConfig
    service_node = NS_MUC_LIGHT
    migrations = MIGRATIONS
    stored = (
        Stored("muc_light_rooms", domain="server"),
        Stored("muc_light_blocking", domain="server", user="username"),
    )
    removed_here = ("muc_light_occupants",)
    imported = IMPORTED
    measured = (Measured("muc_light_occupants", "room IN (SELECT id FROM muc_light_rooms WHERE server = %s)"),)

    def __init__(self, context: ModuleContext, config: MucLightConfig) -> None:
        super().__init__(context, config)
        self.subdomain = config.host
        self.schema = RoomSchema(config.config_schema)
        self.archive: RoomArchive | None = None
        lifetime_min = float("inf") if config.cache_affs is None else config.cache_affs.time_to_live
        self.rooms = Rooms(
            RoomStore(context.database),
            context.domains.owner,
            context.clock,
            is_served=self._is_served,
            archives=lambda: self.archive,
            lifetime_s=lifetime_min * 60,
        )
        self.sending = Sending(context.router)
        walls = Walls(context.domains)
        self.changes = RoomChanges(self.rooms, self.sending, walls, config, self.schema, max_rooms=self._max_rooms)
        self.discovery = Discovery(self.rooms, self.schema, config.rooms_per_page)
        self.removal = Removal(self.rooms.store, self.changes, is_served=self._is_served, is_ours=self._is_ours)
        administration = Administration(config.host, self.rooms, self.changes, self.sending, self.schema)
        self.host_type.provide(RoomAdmin, administration)
        self._sweep = LoopingCall(self._finish_removals)
        self._sweep.clock = context.clock
        if config.rooms_in_rosters:
            self.host_type.provide(RosterRooms, Rostered(self.rooms.store, walls, self.schema))

    def _is_ours(self, service: str) -> bool:
        """Those that nobody serves now are everybody's."""
        return self._is_served(service) or self._server_of_rooms(service) is None

    async def start(self) -> None:
        archive = self.host_type.find(RoomArchive)
        if archive is not None and archive.serves(self.config.host):
            self.archive = self.sending.archive = archive
            self.discovery.features = archive.features
        if self.context.announcements is not None:
            self.context.announcements.subscribe(CHANNEL, self.rooms.announced, on_reconnect=self.rooms.forget_all)
        self._sweep.start(SWEEP_S, now=False)

    async def stop(self) -> None:
        if self._sweep.running:
            self._sweep.stop()

    def _finish_removals(self) -> None:
        self.context.spawn("room_removal_failed", self.rooms.finish_removals())

    def _max_rooms(self, domain: str) -> float:
        limits = self.host_type.find(DomainLimits)
        return float("inf") if limits is None else limits.limit(domain, "rooms")

    def _is_served(self, service: str) -> bool:
        return self._server_of_rooms(service) is self

    def _server_of_rooms(self, service: str) -> "MucLight | None":
        """Who serves a service with rooms, of whatever host type."""
        subdomain = self.context.domains.find_subdomain(service)
        found = None if subdomain is None else subdomain.host_type.services.get(subdomain.pattern)
        return found if isinstance(found, MucLight) else None

    # -- what comes to the service (section 3)

    def receive(self, stanza: Stanza, context: RoutingContext) -> Awaitable[None] | None:
        """Everything but the requests that have a handler below."""
        type_ = stanza.attributes.get("type")
        if stanza.name == "presence" or type_ == "error" or (stanza.name == "iq" and type_ == "result"):
            return None
        if context.from_room:
            # A room is no member of another one: two that were would talk to each other for ever.
            return None
        if context.recipient.resource is not None:
            raise StanzaError("bad-request", text="Resource expected to be empty")
        if stanza.name == "message":
            if type_ != "groupchat" or context.recipient.local is None:
                raise StanzaError("bad-request", text="Uncategorized bad request")
            return self._message(stanza, context)
        if stanza.child_keys[0].startswith(NS_MUC_LIGHT):
            raise StanzaError("bad-request")
        raise StanzaError("feature-not-implemented", text="mod_muc_iq returns error")

    def _message(self, stanza: Stanza, context: RoutingContext) -> Awaitable[None] | None:
        room = self.rooms.known(context.recipient)
        if room is None:
            return self._message_later(stanza, context)
        self.sending.message(room, stanza, context)
        return None

    async def _message_later(self, stanza: Stanza, context: RoutingContext) -> None:
        self.sending.message(await self._room(context.recipient), stanza, context)

    async def _room(self, jid: JID) -> Room:
        room = await self.rooms.get(jid)
        if room is not None and self.archive is not None:
            await self.archive.load(jid, self.rooms.server_of(jid))
            # Meanwhile it may have been changed, and the members been told so.
            room = await self.rooms.get(jid)
        if room is None:
            raise StanzaError("item-not-found")
        return room

    # -- discovery (section 4)

    @iq_get(NS_DISCO_INFO, "query", at=Target.SERVICE | Target.ROOM)
    def on_info(self, iq: IQ) -> domish.Element:
        return self.discovery.info(iq)

    @iq_get(NS_DISCO_ITEMS, "query", at=Target.SERVICE)
    def on_items(self, iq: IQ) -> Awaitable[Answer]:
        return self.discovery.items(iq)

    @iq_get(NS_DISCO_ITEMS, "query", at=Target.ROOM)
    def on_room_items(self, iq: IQ) -> Answer:
        """Rooms have no items (members are not told to who is none)."""
        return Stanza("query", {}, uri=NS_DISCO_ITEMS)

    # -- reading (section 7)

    @iq_get(NS_CONFIGURATION, "query", at=Target.ROOM)
    async def on_configuration(self, iq: IQ) -> Answer:
        return await self._read(iq, lambda room: notices.configuration_answer(room, self.schema))

    @iq_get(NS_AFFILIATIONS, "query", at=Target.ROOM)
    async def on_affiliations(self, iq: IQ) -> Answer:
        return await self._read(iq, notices.affiliations_answer)

    @iq_get(NS_INFO, "query", at=Target.ROOM)
    async def on_room(self, iq: IQ) -> Answer:
        return await self._read(iq, lambda room: notices.info_answer(room, self.schema))

    async def _read(self, iq: IQ, answer: Callable[[Room], Answer]) -> Answer:
        room = await self._room(iq.recipient)
        affiliation_of(room, iq.sender.to_bare())
        return None if requests.read_version(iq.payload) == room.version else answer(room)

    # -- changes (sections 5, 8, 9, 12)

    @iq_set(NS_CREATE, "query", at=Target.SERVICE | Target.ROOM)
    async def on_create(self, iq: IQ) -> None:
        """At the address of the service the server names the room; the notice tells the creator how."""
        domains, within = self.context.domains, self.rooms.server_of(iq.recipient)
        if self.host_type.access("muc_create", iq.sender, domains.__contains__, within=within) == DENY:
            raise StanzaError("not-allowed")
        service = iq.recipient
        jid = self.changes.new_address(service) if service.local is None else service
        wanted = requests.read_create(iq.payload, self.schema)
        await self.changes.create(iq.sender.to_bare(), jid, wanted, *_request(iq))
        await self.sending.told(jid, iq.sender)

    @iq_set(NS_CONFIGURATION, "query", at=Target.ROOM)
    async def on_configure(self, iq: IQ) -> None:
        await self._check_member(iq)
        fields = requests.read_configuration(iq.payload, self.schema)
        await self.changes.configure(iq.recipient, iq.sender.to_bare(), fields, *_request(iq))
        await self.sending.told(iq.recipient, iq.sender)

    @iq_set(NS_AFFILIATIONS, "query", at=Target.ROOM)
    async def on_affiliate(self, iq: IQ) -> None:
        await self._check_member(iq)
        wanted = requests.read_affiliations(iq.payload)
        await self.changes.affiliate(iq.recipient, iq.sender.to_bare(), wanted, *_request(iq))
        await self.sending.told(iq.recipient, iq.sender)

    @iq_set(NS_DESTROY, "query", at=Target.ROOM)
    async def on_destroy(self, iq: IQ) -> None:
        await self.changes.destroy(iq.recipient, iq.sender.to_bare(), *_request(iq))
        await self.sending.told(iq.recipient, iq.sender)

    async def _check_member(self, iq: IQ) -> None:
        """Outsiders learn nothing of a room, not even what is wrong with their request. It is decided again later."""
        affiliation_of(await self._room(iq.recipient), iq.sender.to_bare())

    # -- blocking (section 11)

    @iq_get(NS_BLOCKING, "query", at=Target.SERVICE)
    async def on_blocking(self, iq: IQ) -> Answer:
        self._check_blocking()
        return notices.blocking_answer(await self.rooms.store.blocking(iq.sender.to_bare()))

    @iq_set(NS_BLOCKING, "query", at=Target.SERVICE)
    async def on_block(self, iq: IQ) -> None:
        self._check_blocking()
        await self.rooms.store.change_blocking(iq.sender.to_bare(), requests.read_blocking(iq.payload))

    def _check_blocking(self) -> None:
        if not self.config.blocking:
            raise StanzaError("bad-request")

    # -- blocking lists that leave and arrive (XEP-0227); rooms are no part of an account

    def exported(self, account: JID) -> AsyncIterator[bytes]:
        return printed_blocking(self.rooms.store, account)

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        await add_blocking(self.rooms.store, account, element)
        return True

    # -- the archive (section 14; XEP-0313)

    @iq_set(NS_MAM_1, "query", at=Target.ROOM)
    @iq_set(NS_MAM_2, "query", at=Target.ROOM)
    @iq_get(NS_MAM_1, "query", at=Target.ROOM)
    @iq_get(NS_MAM_2, "query", at=Target.ROOM)
    @iq_get(NS_MAM_1, "metadata", at=Target.ROOM)
    @iq_get(NS_MAM_2, "metadata", at=Target.ROOM)
    @iq_set(NS_MAM_1, "prefs", at=Target.ROOM)
    @iq_set(NS_MAM_2, "prefs", at=Target.ROOM)
    @iq_get(NS_MAM_1, "prefs", at=Target.ROOM)
    @iq_get(NS_MAM_2, "prefs", at=Target.ROOM)
    async def on_archive(self, iq: IQ) -> Answer:
        """Members see all of it, what was said before they came too."""
        if self.archive is None:
            raise StanzaError("feature-not-implemented", text="mod_muc_iq returns error")
        room = await self.rooms.get(iq.recipient)
        affiliation = None if room is None else room.members.get(iq.sender.to_bare())
        if affiliation is None:
            raise StanzaError("not-allowed", text="The action is not allowed. Not allowed to enter the room.")
        server = self.rooms.server_of(iq.recipient)
        return await self.archive.answer(iq.recipient, server, iq, is_owner=affiliation is Affiliation.OWNER)

    # -- domains

    def forget_domain(self, domain: str) -> None:
        self.rooms.forget_domain(domain)

    async def remove_domain(self, domain: str) -> None:
        self.rooms.forget_domain(domain)
        await self.removal.remove_domain(domain)

    async def personal_data(self, account: JID) -> Sequence[PersonalTable]:
        rooms = PersonalTable("rooms", ("room", "affiliation"), self._memberships(account))
        return [*await super().personal_data(account), rooms]

    async def _memberships(self, account: JID) -> AsyncIterator[Sequence[tuple[str, str]]]:
        found = await self.rooms.store.memberships(account)
        yield [(room.full, affiliation.text) for room, affiliation in found]

    async def remove_account(self, account: JID) -> None:
        await self.removal.remove_account(account)


def _request(iq: IQ) -> tuple[str, CommitTicket]:
    """What the notices of a request have of it: its id, and its ticket."""
    return iq.stanza.attributes["id"], iq.context.open_ticket()
