"""A room at one version, and what its members are in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from dynxmpp.module import JID


class Affiliation(IntEnum):
    """What somebody is in a room; the numbers stand in the database. NONE is said of who leaves, and never stored."""

    NONE = 0
    OWNER = 1
    MEMBER = 2

    @property
    def text(self) -> str:
        """As it stands in an element."""
        return self.name.lower()


#: By bare address, in the order of the addresses' texts; owners and members only.
Members = Mapping[JID, Affiliation]
#: What shall become of whom, or what has.
Changes = Mapping[JID, Affiliation]


def in_order(affiliations: Mapping[JID, Affiliation]) -> dict[JID, Affiliation]:
    """The same, ordered by the texts of the addresses."""
    return {jid: affiliations[jid] for jid in sorted(affiliations, key=_text)}


def _text(jid: JID) -> str:
    return jid.full


@dataclass(frozen=True, slots=True)
class Room:
    """Never changed: a change of the room makes a new one."""

    jid: JID
    #: In the tables; never used again.
    number: int
    #: Opaque, unique per room.
    version: str
    members: Members
    #: By internal key, texts as they stand in elements; what is missing has the default of the schema.
    config: Mapping[str, str]
