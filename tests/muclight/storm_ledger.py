"""The database's own account of all that was committed: triggers write it, in the transactions themselves.

What is in it was committed, and nothing else was. The changes of one room stand in the order of their commits, because
each locks the row of the room first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

#: Runs a statement as superuser.
Admin = Callable[[str], list[tuple[Any, ...]]]

INSTALL: Final = """
CREATE TABLE ledger (
    number bigserial PRIMARY KEY,
    transaction text NOT NULL DEFAULT pg_current_xact_id()::text,
    room bigint NOT NULL,
    name text,
    version text,
    config jsonb,
    username text,
    affiliation smallint
);
CREATE FUNCTION ledger_room() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO ledger (room, name, version, config) VALUES (NEW.id, NEW.name, NEW.version, NEW.config);
    RETURN NULL;
END $$;
CREATE FUNCTION ledger_occupant() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO ledger (room, username, affiliation) VALUES (OLD.room, OLD.username, 0);
    ELSE
        INSERT INTO ledger (room, username, affiliation) VALUES (NEW.room, NEW.username, NEW.affiliation);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger AFTER INSERT OR UPDATE ON muc_light_rooms FOR EACH ROW EXECUTE FUNCTION ledger_room();
CREATE TRIGGER ledger AFTER INSERT OR UPDATE OR DELETE ON muc_light_occupants
FOR EACH ROW EXECUTE FUNCTION ledger_occupant();
"""

_READ: Final = """
SELECT room, transaction, number, name, version, config, username, affiliation FROM ledger ORDER BY room, number
"""
_OCCUPANTS: Final = """
SELECT r.name, o.username, o.affiliation FROM muc_light_occupants AS o JOIN muc_light_rooms AS r ON r.id = o.room
"""
AFFILIATIONS: Final = ("none", "owner", "member")

Members = Mapping[str, str]


@dataclass(frozen=True)
class Commit:
    """One transaction that has changed a room. Members are localparts with affiliations."""

    #: Later commits of a room have greater ones.
    number: int
    #: Of the row: a room that is made anew has another one.
    room: int
    name: str
    #: Empty for a room that did not exist; of a removal `version` is empty.
    previous: str
    version: str
    before: Members
    after: Members
    #: Who has become what, `none` included; empty when the configuration has changed.
    changes: Members
    config_before: Mapping[str, str]
    config: Mapping[str, str]

    @property
    def configured(self) -> Mapping[str, str]:
        """Fields whose values have changed."""
        return {key: value for key, value in self.config.items() if self.config_before.get(key) != value}


@dataclass
class Ledger:
    """All commits, and the rooms that there were at a time."""

    commits: list[Commit]
    #: What could not be, were all as it should be.
    faults: list[str] = field(default_factory=list)

    def of(self, name: str, *, after: int = 0, until: int | None = None) -> list[Commit]:
        """The commits of all rooms that have had this name, in their order; those with these numbers."""
        return [
            commit
            for commit in self.commits
            if commit.name == name and commit.number > after and (until is None or commit.number <= until)
        ]

    def state(self, until: int | None = None) -> dict[str, Commit]:
        """The last commit of each room that exists, by name."""
        last = {commit.name: commit for commit in self.commits if until is None or commit.number <= until}
        return {name: commit for name, commit in last.items() if commit.version}


def read(admin: Admin) -> Ledger:
    ledger = Ledger([])
    for room, rows in groupby(admin(_READ), key=lambda row: row[0]):
        ledger.commits.extend(_commits_of(room, list(rows), ledger.faults))
    ledger.commits.sort(key=lambda commit: commit.number)
    return ledger


def _commits_of(room: int, rows: list[tuple[Any, ...]], faults: list[str]) -> Iterator[Commit]:
    name, version, members, config = "", "", dict[str, str](), dict[str, str]()
    for _, group in groupby(rows, key=lambda row: row[1]):
        part = list(group)
        versions = [row for row in part if row[3] is not None]
        if len(versions) != 1:
            faults.append(f"room {room}: {len(versions)} versions in one transaction: {part}")
            continue
        changes = {row[6]: AFFILIATIONS[row[7]] for row in part if row[6] is not None}
        after = {user: affiliation for user, affiliation in {**members, **changes}.items() if affiliation != "none"}
        row = versions[0]
        name = row[3]
        commit = Commit(part[-1][2], room, name, version, row[4], members, after, changes, config, row[5])
        yield commit
        version, members, config = commit.version, after, dict(commit.config)


def invariants(ledger: Ledger) -> Iterator[str]:
    """What is wrong with single commits: half done, or against the rules of rooms."""
    yield from ledger.faults
    versions = [commit.version for commit in ledger.commits if commit.version]
    if len(set(versions)) != len(versions):
        yield "a version was given twice"
    for commit in ledger.commits:
        owners = [user for user, affiliation in commit.after.items() if affiliation == "owner"]
        if commit.version and not commit.after:
            yield f"an empty room was kept: {commit}"
        if not commit.version and (commit.after or not commit.previous):
            yield f"removed with members in it, or twice: {commit}"
        if commit.after and len(owners) != 1:
            yield f"{len(owners)} owners: {commit}"
        if commit.previous and commit.changes and commit.configured and commit.version:
            yield f"two changes in one: {commit}"


def tables(admin: Admin, ledger: Ledger) -> Iterator[str]:
    """Where the tables differ from what was committed."""
    rows = admin("SELECT name, version, config FROM muc_light_rooms")
    state = ledger.state()
    there = {name: (version, config) for name, version, config in rows if version}
    if there != {name: (commit.version, dict(commit.config)) for name, commit in state.items()}:
        yield f"rooms: {there}, committed: {state}"
    occupants = admin(_OCCUPANTS)
    found: dict[str, dict[str, str]] = {name: {} for name in there}
    for name, user, affiliation in occupants:
        found.setdefault(name, {})[user] = AFFILIATIONS[affiliation]
    if found != {name: dict(commit.after) for name, commit in state.items()}:
        yield f"occupants: {found}, committed: {state}"
