"""Many new domains at once: a batch is one transaction with one statement, and one announcement.

What becomes of a domain is what `DomainStore.insert` would have made of it. The key of a row is taken before the id of
its event is drawn, as everywhere (`store.py`), and the names of a batch are sorted, so that two batches with the same
names wait for each other instead of meeting in a deadlock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.interfaces import Transaction
from dynxmpp.domains.errors import DomainExists, DomainIsStatic, UnknownHostType
from dynxmpp.domains.store import CHANNEL, Change, DomainRow, DomainStatus, DomainStore

__all__ = ["Outcome", "insert_many"]

#: True: it was created; False: it was there already, with this host type and in whatever state; or why it was refused.
Outcome = bool | DomainIsStatic | UnknownHostType | DomainExists

#: How often names are looked at again that somebody else took, or gave back, while the statement ran.
_ROUNDS: Final = 3

# What stood there is what the statement could see when it began: a name that somebody else takes meanwhile is neither
# inserted nor present. OFFSET 0: one look into the index for each, whatever the planner thinks of their number.
_INSERT: Final = """
WITH wanted AS (
    SELECT domain, host_type FROM unnest(%s::text[], %s::text[]) AS given (domain, host_type)
), inserted AS (
    INSERT INTO domain_settings (domain, host_type) SELECT domain, host_type FROM wanted
    ON CONFLICT (domain) DO NOTHING RETURNING domain
), noted AS (
    INSERT INTO domain_events (domain) SELECT domain FROM inserted RETURNING id, domain
)
SELECT wanted.domain, noted.id, present.host_type, present.status,
    CASE WHEN noted.id = (SELECT max(id) FROM noted) THEN pg_notify(%s, noted.id::text) END
FROM wanted LEFT JOIN noted ON noted.domain = wanted.domain
LEFT JOIN LATERAL (
    SELECT host_type, status FROM domain_settings WHERE domain_settings.domain = wanted.domain OFFSET 0
) AS present ON true
"""


async def insert_many(
    table: DomainTable[Any], store: DomainStore, entries: Sequence[tuple[str, str]]
) -> tuple[list[Outcome], list[Change]]:
    """The outcome for each pair of a prepared name and a host type, in their order, and the rows as they are now.

    Of a name that stands there twice the first counts. Raises Unavailable or psycopg2.Error; whether anything was
    changed is then to be found out by asking again.
    """
    refusals = [_refusal(table, domain, host_type) for domain, host_type in entries]
    wanted: dict[str, str] = {}
    for refusal, (domain, host_type) in zip(refusals, entries, strict=True):
        if refusal is None:
            wanted.setdefault(domain, host_type)
    changes: dict[str, Change] = {}
    if wanted:
        changes = await store.change(lambda transaction: _insert(transaction, wanted))
    new = {domain for domain, change in changes.items() if change.event_id is not None}
    outcomes: list[Outcome] = []
    for refusal, (domain, host_type) in zip(refusals, entries, strict=True):
        if refusal is not None:
            outcomes.append(refusal)
        elif domain in new:
            new.discard(domain)
            outcomes.append(True)
        else:
            outcomes.append(_found(changes[domain].row, host_type))
    return outcomes, list(changes.values())


def _refusal(table: DomainTable[Any], domain: str, host_type: str) -> DomainIsStatic | UnknownHostType | None:
    if table.is_static(domain):
        return DomainIsStatic(domain)
    return None if table.accepts(host_type) else UnknownHostType(host_type)


def _found(row: DomainRow, host_type: str) -> Outcome:
    """What `DomainStore.insert` says of a row that is there."""
    if row.host_type != host_type or row.status is DomainStatus.DELETING:
        return DomainExists(row.domain)
    return False


async def _insert(transaction: Transaction, wanted: Mapping[str, str]) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for _ in range(_ROUNDS):
        left = sorted(domain for domain in wanted if domain not in changes)
        rows = await transaction.query(_INSERT, (left, [wanted[domain] for domain in left], CHANNEL))
        for domain, event_id, host_type, status, _notified in rows:
            if event_id is not None:
                changes[domain] = Change(DomainRow(domain, wanted[domain], DomainStatus.ENABLED), event_id)
            elif host_type is not None:
                changes[domain] = Change(DomainRow(domain, host_type, DomainStatus(status)), None)
        if len(changes) == len(wanted):
            break
    for domain, host_type in wanted.items():
        if domain not in changes:  # others take it and give it back all the time
            changes[domain] = Change(DomainRow(domain, host_type, DomainStatus.DELETING), None)
    return changes
