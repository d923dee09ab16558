"""XEP-0313 Message Archive Management, version 1.1.3: what was said, kept by the server and read by any client.

Archives of accounts (`pm`) and of rooms (`muc`).

| What | Files |
|---|---|
| options, tables, ids | config.py, schema.py, ids.py |
| whose archive has which number | owners.py |
| which messages are kept, and for whom | rules.py, preferences.py (XEP-0441) |
| a message on its way in | writing.py, rooms.py with arrivals.py; store.py for the rows |
| messages taken back | retraction.py (XEP-0424) |
| a request: who may, what it asks for | permission.py, query.py, form.py; reading.py leads through it |
| the page: rules of XEP-0059, SQL, numbers | paging.py, lookup.py, conditions.py, counts.py |
| text search | search.py, words.py (XEP-0431) |
| messages on their way out | results.py, authors.py for those of rooms |
| what an account's owner may have of it all | personal_data.py |
| archives that leave and arrive (XEP-0227) | portability.py |
| archives that go | removal.py at once, retention.py by age and number |
| numbers for Prometheus | figures.py |
| work that several want and that is done once | shared.py |
"""

from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from typing import Any

from twisted.words.xish import domish

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.module import (
    IQ,
    JID,
    Answer,
    Direction,
    Filter,
    Module,
    ModuleContext,
    PersonalTable,
    Phase,
    Session,
    StanzaError,
    Target,
    Unavailable,
    Xep,
    iq_get,
    iq_set,
)
from dynxmpp.modules.mam import retraction
from dynxmpp.modules.mam.arrivals import Arrivals
from dynxmpp.modules.mam.config import ArchiveOptions, MamConfig, PmArchive
from dynxmpp.modules.mam.counts import Counts
from dynxmpp.modules.mam.figures import announce_archives, announce_store
from dynxmpp.modules.mam.form import NS_MAM_1, NS_MAM_2
from dynxmpp.modules.mam.ids import ArchiveIds
from dynxmpp.modules.mam.lookup import Lookups
from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.personal_data import tables_of
from dynxmpp.modules.mam.portability import ARCHIVE, IMPORTED, Arriving, printed_archive
from dynxmpp.modules.mam.preferences import Preferences
from dynxmpp.modules.mam.reading import Owner, Reading
from dynxmpp.modules.mam.removal import Removal
from dynxmpp.modules.mam.retention import Retention
from dynxmpp.modules.mam.rooms import Rooms
from dynxmpp.modules.mam.schema import ACCOUNT, MEASURED, MIGRATIONS, ROOM, TABLES
from dynxmpp.modules.mam.search import Search
from dynxmpp.modules.mam.store import ArchiveStore
from dynxmpp.modules.mam.writing import Wants, Writing
from dynxmpp.protocol.rsm import NS_RSM
from dynxmpp.protocol.stanza_id import NS_SID
from dynxmpp.wire.tree import print_children

NS_FULL_TEXT = "urn:xmpp:fulltext:0"
#: Archives whose numbers are in memory.
OWNERS = 100_000


class Mam(Module):
    """Keeps archives and answers for them. Provides RoomArchive when `muc` is configured."""

    name = "mod_mam_meta"
    xep = Xep(313, "1.1.3")
    config_model = MamConfig
    migrations = MIGRATIONS
    removed_here = ("mam_archive", *TABLES)
    measured = MEASURED
    imported = IMPORTED

    def __init__(self, context: ModuleContext, config: MamConfig) -> None:
        super().__init__(context, config)
        #: What holds for both kinds of archives.
        options: ArchiveOptions = config.pm or config.muc or config
        self.ids = ArchiveIds(context.clock, context.node_number)
        self.owners = Owners(
            context.database,
            OWNERS if options.cache_users else 0,
            clock=context.clock,
            lifetime_s=config.cache.time_to_live * 60,
        )
        self.store = ArchiveStore(context.database, context.clock, self.ids, options.async_writer)
        self.removal = Removal(context, self.owners, self.store, options.delete_domain_limit)
        arrivals = Arrivals()
        self.counts = Counts(context.database, context.clock)
        lookups = Lookups(context.database, self.counts, Search(context.database, context.clock))
        self.retentions = tuple(self._retentions(config))
        self._all_retractions: list[retraction.Retractions] = []
        self.reading: Reading | None = None
        self.writing: Writing | None = None
        if config.pm is not None:
            self.preferences = self._preferences(config.pm, ACCOUNT)
            wants: Wants | None = self.preferences.wants if self.preferences.enabled else None
            self.writing = Writing(context, config.pm, self.owners, self.store, self._retractions(config.pm), wants)
            self.reading = Reading(context, self.owners, self.store, arrivals, lookups, config.pm, is_room=False)
            self.features = self.account_features = pm_features(config.pm)
        if config.muc is not None:
            self.rooms = Rooms(
                context,
                config.muc,
                self.owners,
                self.store,
                arrivals,
                self.removal,
                self._retractions(config.muc),
                self._preferences(config.muc, ROOM),
                features(config.muc),
                Reading(context, self.owners, self.store, arrivals, lookups, config.muc, is_room=True),
            )
            self.host_type.provide(RoomArchive, self.rooms)
        self._announce_figures(context)

    def _announce_figures(self, context: ModuleContext) -> None:
        announce_store(context, self.store)
        if self.reading is not None and self.writing is not None:
            writing = self.writing
            announce_archives(
                context,
                "pm",
                reading=self.reading,
                preferences=self.preferences,
                archived=lambda: writing.archived,
                removed=lambda: self.removal.removed[ACCOUNT],
            )
        if self.config.muc is not None:
            announce_archives(
                context,
                "muc",
                reading=self.rooms.reading,
                preferences=self.rooms.preferences,
                archived=lambda: self.rooms.archived,
                removed=lambda: self.removal.removed[ROOM],
            )

    def _retractions(self, options: ArchiveOptions) -> retraction.Retractions:
        retractions = retraction.Retractions(
            self.database,
            self.store,
            clock=self.clock,
            spawn=self.context.spawn,
            enabled=options.message_retraction,
        )
        self._all_retractions.append(retractions)
        return retractions

    def _preferences(self, options: ArchiveOptions, kind: int) -> Preferences:
        return Preferences(
            self.context,
            self.owners,
            kind,
            enabled=options.user_prefs_store is not None,
            lifetime_s=self.config.cache.time_to_live * 60,
        )

    def _retentions(self, config: MamConfig) -> Iterator[Retention]:
        for kind, options in ((ACCOUNT, config.pm), (ROOM, config.muc)):
            if options is not None:
                yield Retention(self.context, kind, options.retention, forget=self.counts.forget)

    async def start(self) -> None:
        for retention in self.retentions:
            retention.start()
        self.context.spawn("archive_removal_failed", self.removal.resume())

    async def stop(self) -> None:
        for retention in self.retentions:
            retention.stop()
        await self.store.stop()
        for retractions in self._all_retractions:
            await retractions.settled()

    def filters(self) -> Iterable[Filter]:
        if self.writing is not None:
            yield Filter(Direction.OUTGOING, Phase.ARCHIVE, self.writing.outgoing)
            yield Filter(Direction.INCOMING, Phase.ARCHIVE, self.writing.incoming)

    def iq_routes(self) -> Iterable[Any]:
        """What is answered for accounts; rooms are asked by way of RoomArchive."""
        return () if self.writing is None else super().iq_routes()

    @iq_set(NS_MAM_1, "query", at=Target.ACCOUNT)
    @iq_set(NS_MAM_2, "query", at=Target.ACCOUNT)
    @iq_get(NS_MAM_1, "query", at=Target.ACCOUNT)
    @iq_get(NS_MAM_2, "query", at=Target.ACCOUNT)
    @iq_get(NS_MAM_1, "metadata", at=Target.ACCOUNT)
    @iq_get(NS_MAM_2, "metadata", at=Target.ACCOUNT)
    def _read(self, iq: IQ) -> Awaitable[Answer]:
        assert self.reading is not None
        return self.reading.answer(Owner.account(iq.recipient), iq, allowed=iq.from_own_account)

    @iq_set(NS_MAM_1, "prefs", at=Target.ACCOUNT)
    @iq_set(NS_MAM_2, "prefs", at=Target.ACCOUNT)
    @iq_get(NS_MAM_1, "prefs", at=Target.ACCOUNT)
    @iq_get(NS_MAM_2, "prefs", at=Target.ACCOUNT)
    def _answer_prefs(self, iq: IQ) -> Awaitable[Answer]:
        return self.preferences.answer(iq.recipient, iq, allowed=iq.from_own_account)

    async def bound(self, session: Session) -> bytes:
        """What Bind 2 tells a client of its archive (XEP-0386 4.1). Raises Unavailable."""
        try:
            return b"" if self.reading is None else await self.reading.metadata(Owner.account(session.jid))
        except StanzaError as problem:
            raise Unavailable(str(problem)) from problem

    # -- removal

    def forget_domain(self, domain: str) -> None:
        self.owners.forget_domain(domain)

    async def remove_domain(self, domain: str) -> None:
        await self.removal.remove_domain(domain)

    async def remove_account(self, account: JID) -> None:
        await self.removal.remove(account.domain, ACCOUNT, account.local or "")

    async def personal_data(self, account: JID) -> Sequence[PersonalTable]:
        return await tables_of(account, self.database, self.store)

    # -- archives that leave and arrive

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        prefs = await self.preferences.stored(account, NS_MAM_2) if self.writing is not None else None
        if prefs is not None:
            yield print_children([prefs], "").encode() + b"\n"
        await self.store.flush()
        async for piece in printed_archive(self.database, account):
            yield piece

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        if self.writing is None:
            return False
        if element.name == ARCHIVE:
            archive = await self.owners.get(account.domain, ACCOUNT, account.local or "")
            await Arriving(self.database, self.clock, archive, account).take(element)
            self.counts.forget(archive)
        else:
            await self.preferences.add(account, element)
        return True


def features(options: ArchiveOptions) -> tuple[str, ...]:
    """What is announced of those who have an archive."""
    search = (NS_FULL_TEXT,) if options.full_text_search else ()
    own = (NS_MAM_1, NS_MAM_2, f"{NS_MAM_2}#extended", NS_SID, NS_RSM, *search)
    return (*own, *retraction.features(options.message_retraction))


def pm_features(options: PmArchive) -> tuple[str, ...]:
    """What is announced of accounts, and of their domain."""
    groupchats = (f"{NS_MAM_2}#groupchat-available",) if options.archive_groupchats else ()
    return (*features(options), f"{NS_MAM_2}#groupchat-field", *groupchats)
