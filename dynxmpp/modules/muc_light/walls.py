"""Who is out of reach for a room: an account of a domain that nothing comes into from elsewhere."""

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Wall
from dynxmpp.module import JID


class Walls:
    """What the host types of users say of rooms; core.interfaces.Wall."""

    def __init__(self, domains: DomainTable[HostType]) -> None:
        self._domains = domains

    def separate(self, room: JID, user: JID) -> bool:
        """May nothing that is said in a room reach a user?"""
        served = self._domains.get(user.domain)
        wall = None if served is None else served.host_type.find(Wall)
        return wall is not None and wall.separates(room.domain, user.domain)
