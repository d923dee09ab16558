"""Filters of a query that are no range of ids, as a condition of SQL on mam_message."""

from typing import Final

from dynxmpp.modules.mam.query import Filters

#: Takes the parameters of `conditions()`.
CONDITIONS: Final = (
    "(%s::text IS NULL OR remote = %s) AND (%s::text IS NULL OR resource = %s) AND NOT (%s AND groupchat)"
)


def conditions(filters: Filters) -> tuple[object, ...]:
    """What CONDITIONS has to be told to let pass what `filters` do."""
    return filters.remote, filters.remote, filters.resource, filters.resource, filters.individual
