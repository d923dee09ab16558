"""XEP-0441 Message Archive Management Preferences, version 0.2.0: whose messages an account wants in its archive.

Several nodes may share the database. What was set at another one is noticed when what is in memory here is too old,
after `MAX_AGE_S` at the latest.
"""

from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import (
    IQ,
    JID,
    Answer,
    InvalidJID,
    ModuleContext,
    StanzaError,
    SubscriptionBook,
    Transaction,
    Unavailable,
)
from dynxmpp.modules.mam.owners import Key, Owners
from dynxmpp.modules.mam.permission import Permission
from dynxmpp.modules.mam.schema import ACCOUNT, REMOVED, ROOM
from dynxmpp.modules.mam.shared import Shared

#: Seconds for which preferences in memory are believed, whatever the configuration says.
MAX_AGE_S: Final = 60.0
#: Archives whose preferences are in memory.
MAX_CACHED: Final = 20_000
#: Addresses in both lists together.
MAX_ADDRESSES: Final = 1000

#: By the value of `default`.
_BEHAVIOURS: Final = {"always": "A", "never": "N", "roster": "R"}
_DEFAULTS: Final = {behaviour: default for default, behaviour in _BEHAVIOURS.items()}

_READ = "SELECT remote, behaviour FROM mam_preference WHERE archive = %s"
# One after the other, so that two sets at a time do not mix; and none for an archive that is being removed.
_LOCK = f"SELECT 1 FROM mam_archive WHERE id = %s AND kind <> {REMOVED} FOR UPDATE"
_CLEAR = "DELETE FROM mam_preference WHERE archive = %s"
_WRITE = """
INSERT INTO mam_preference (archive, remote, behaviour) SELECT %s, * FROM unnest(%s::text[], %s::"char"[])
"""


@dataclass(frozen=True, slots=True)
class Prefs:
    """What one archive wants; `always` and `never` are addresses as full texts, which no address is in twice."""

    default: str = "always"
    always: frozenset[str] = field(default_factory=frozenset)
    never: frozenset[str] = field(default_factory=frozenset)

    def of(self, remote: JID) -> str:
        """`always`, `never` or `roster`: what holds for messages with `remote`. The full address comes first."""
        for text in (remote.full, remote.bare):
            if text in self.never:
                return "never"
            if text in self.always:
                return "always"
        return self.default


class Preferences:
    """Reads, keeps and applies them; one for the archives of accounts, one for those of rooms.

    They are kept under the number of their archive, so those of an archive that is removed are not found again.
    """

    def __init__(
        self,
        context: ModuleContext,
        owners: Owners,
        kind: int,
        *,
        enabled: bool,
        max_cached: int = MAX_CACHED,
        lifetime_s: float = MAX_AGE_S,
    ) -> None:
        """`kind` is schema.ACCOUNT or schema.ROOM.

        `enabled`: there is a store for them (the option user_prefs_store); without one everything is archived.
        """
        self.enabled = enabled
        self._database = context.database
        self._domains = context.domains
        self._host_type = context.host_type
        self._clock = context.clock
        self._owners = owners
        self._kind = kind
        self._max_cached = max_cached
        self._lifetime_s = min(lifetime_s, MAX_AGE_S)
        self.permission = Permission(
            context.host_type, context.domains.__contains__, context.clock, is_room=kind == ROOM
        )
        #: Requests that were answered.
        self.gets = self.sets = 0
        #: By archive: the preferences, and until when they may be believed.
        self._known: OrderedDict[int, tuple[Prefs, float]] = OrderedDict()
        self._reading: Shared[int, Prefs] = Shared()
        #: Goes up with each change: what was read before one is not kept.
        self._changes = 0

    # -- decisions

    def wants(self, owner: JID, remote: JID) -> bool | Awaitable[bool]:
        """Does an account or a room want messages with `remote` in its archive? At once when it is in memory.

        `remote` is, for a room, the author as occupant. The awaitable raises Unavailable.
        """
        if not self.enabled:
            return True
        archive = self._owners.known(*self._key(owner))
        prefs = None if archive is None else self._fresh(archive)
        wanted = None if prefs is None else self._decide(prefs, owner, remote)
        return self._wants_later(owner, remote) if wanted is None else wanted

    async def _wants_later(self, owner: JID, remote: JID) -> bool:
        # The number is made if there is none: what has no preferences is going to be archived.
        prefs = await self._load(await self._owners.get(*self._key(owner)))
        wanted = self._decide(prefs, owner, remote)
        if wanted is None:
            await self._host_type.require(SubscriptionBook).load(owner)
            wanted = self._decide(prefs, owner, remote)
        return bool(wanted)

    def _decide(self, prefs: Prefs, owner: JID, remote: JID) -> bool | None:
        """None when the owner's roster matters and is not in memory."""
        behaviour = prefs.of(remote)
        if behaviour != "roster" or self._kind == ROOM:  # a room has no roster
            return behaviour != "never"
        book = self._host_type.find(SubscriptionBook)
        subscription = "none" if book is None else book.subscription(owner, remote.to_bare())
        return None if subscription is None else subscription in ("from", "both")

    def _key(self, owner: JID) -> Key:
        name = owner.local or "" if self._kind == ACCOUNT else owner.bare
        return self._domains.owner(owner.domain), self._kind, name

    # -- memory

    def _fresh(self, archive: int) -> Prefs | None:
        entry = self._known.get(archive)
        if entry is None or self._clock.seconds() >= entry[1]:
            return None
        self._known.move_to_end(archive)
        return entry[0]

    async def _load(self, archive: int) -> Prefs:
        """The preferences of an archive; all who ask at once share a look-up. Raises Unavailable."""
        prefs = self._fresh(archive)
        return await self._reading.run(archive, lambda: self._read(archive)) if prefs is None else prefs

    async def _read(self, archive: int) -> Prefs:
        before = self._changes
        prefs = _prefs(await self._database.query(_READ, (archive,)))
        if self._changes == before:
            self._keep(archive, prefs)
        return prefs

    def _keep(self, archive: int, prefs: Prefs) -> None:
        self._known[archive] = (prefs, self._clock.seconds() + self._lifetime_s)
        self._known.move_to_end(archive)
        if len(self._known) > self._max_cached:
            self._known.popitem(last=False)

    def _forget(self, archive: int) -> None:
        self._changes += 1
        self._known.pop(archive, None)

    # -- requests

    async def answer(self, owner: JID, iq: IQ, *, allowed: bool) -> Answer:
        """Answers a get or set of a <prefs/>. `allowed`: the sender may, where no access rule says otherwise.

        Raises StanzaError, and Unavailable.
        """
        action = (f"mam_{iq.type}_prefs",)
        try:
            self.permission.check(action, iq.sender, allowed=allowed)
        except StanzaError as refusal:
            if self._kind == ROOM and iq.type == "set":
                raise StanzaError("not-allowed", text="The action is not allowed. Not a room owner.") from refusal
            raise
        await self.permission.pace(action, iq.sender)
        if iq.type == "get":
            answer = _element(await self._get(owner), iq.payload.uri or "")
            self.gets += 1
        else:
            answer = await self._set(owner, iq.payload)
            self.sets += 1
        return answer

    async def _get(self, owner: JID) -> Prefs:
        archive = await self._owners.find(*self._key(owner)) if self.enabled else None
        return Prefs() if archive is None else await self._load(archive)

    async def stored(self, owner: JID, namespace: str) -> domish.Element | None:
        """What is set for an archive as a <prefs/>, None when nothing is. Raises Unavailable."""
        archive = await self._owners.find(*self._key(owner)) if self.enabled else None
        rows = await self._database.query(_READ, (archive,)) if archive is not None else []
        return _element(_prefs(rows), namespace) if rows else None

    async def add(self, owner: JID, payload: domish.Element) -> None:
        """Takes what a <prefs/> says, unless something is set already. Raises StanzaError, Unavailable."""
        if await self.stored(owner, payload.uri or "") is None:
            await self._set(owner, payload)

    async def _set(self, owner: JID, payload: domish.Element) -> domish.Element:
        """Puts what a <prefs/> says in the place of what was there; the answer is what is stored."""
        if not self.enabled:
            raise StanzaError("feature-not-implemented", type="cancel")
        prefs = read_prefs(payload)
        key = self._key(owner)
        archive = await self._owners.get(*key)

        async def store(transaction: Transaction) -> bool:
            if not await transaction.query(_LOCK, (archive,)):
                return False
            await transaction.execute(_CLEAR, (archive,))
            await transaction.execute(_WRITE, (archive, *_columns(prefs)))
            return True

        stored = False
        try:
            stored = await self._database.transaction(store)
        finally:
            self._forget(archive)  # it may have been committed even if we were not told
        if not stored:
            self._owners.forget(*key)
            raise Unavailable("the archive was removed")
        self._keep(archive, prefs)
        return _element(prefs, payload.uri or "")


def read_prefs(payload: domish.Element) -> Prefs:
    """The preferences that a <prefs/> spells. What is no address is passed over; `never` wins over `always`.

    Raises StanzaError: internal-server-error for a `default` that there is not, as clients of this extension know it,
    not-acceptable for too many addresses.
    """
    default = payload.getAttribute("default")
    if default not in _BEHAVIOURS:
        raise StanzaError("internal-server-error", type="wait", text="default is always, never or roster")
    lists: dict[str, set[str]] = {"always": set(), "never": set()}
    for child in payload.elements():
        if child.uri == payload.uri and child.name in lists:
            lists[child.name].update(_addresses(child))
    never = frozenset(lists["never"])
    always = frozenset(lists["always"]) - never
    if len(always) + len(never) > MAX_ADDRESSES:
        raise StanzaError("not-acceptable", type="modify", text=f"At most {MAX_ADDRESSES} addresses")
    return Prefs(default, always, never)


def _addresses(element: domish.Element) -> set[str]:
    found = set()
    for child in element.elements():
        if child.uri == element.uri and child.name == "jid":
            try:
                found.add(JID.parse(str(child).strip()).full)
            except InvalidJID:
                continue
    return found


def _element(prefs: Prefs, namespace: str) -> domish.Element:
    element = domish.Element((namespace, "prefs"))
    element["default"] = prefs.default
    for name, addresses in (("always", prefs.always), ("never", prefs.never)):
        holder = element.addElement(name)
        for address in sorted(addresses):
            holder.addElement("jid", content=address)
    return element


def _columns(prefs: Prefs) -> tuple[list[str], list[str]]:
    """Addresses and behaviours as they are stored; '' stands for the default."""
    always, never = sorted(prefs.always), sorted(prefs.never)
    behaviours = [_BEHAVIOURS[prefs.default], *("A" for _ in always), *("N" for _ in never)]
    return ["", *always, *never], behaviours


def _prefs(rows: list[tuple[str, str]]) -> Prefs:
    by_address = dict(rows)
    default = _DEFAULTS[by_address.pop("", "A")]
    always = frozenset(address for address, behaviour in by_address.items() if behaviour == "A")
    return Prefs(default, always, frozenset(by_address) - always)
