"""SessionTable: bare JID -> bound sessions on this node, and what RFC 6121 8.5 asks of them."""

from collections.abc import Iterator

from dynxmpp.core.interfaces import Session
from dynxmpp.jid import JID


class SessionTable:
    """All sessions, by account; accounts by domain, so that a domain's end needs no search."""

    def __init__(self) -> None:
        self._accounts: dict[str, list[Session]] = {}
        self._domains: dict[str, set[str]] = {}
        self._counts: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, session: Session) -> Session | None:
        """Binds a session; returns the one that had the same full JID and has lost its place to it."""
        sessions = self._accounts.get(session.jid.bare)
        replaced = None
        if sessions is None:
            self._accounts[session.jid.bare] = [session]
            self._domains.setdefault(session.jid.domain, set()).add(session.jid.bare)
        else:
            replaced = next((s for s in sessions if s.jid.resource == session.jid.resource), None)
            if replaced is not None:
                self.remove(replaced)
            self._accounts.setdefault(session.jid.bare, []).append(session)
            self._domains.setdefault(session.jid.domain, set()).add(session.jid.bare)
        self._count += 1
        self._counts[session.jid.domain] = self._counts.get(session.jid.domain, 0) + 1
        return replaced

    def remove(self, session: Session) -> bool:
        """Takes a session out; False when it was not (or no longer) in."""
        bare = session.jid.bare
        sessions = self._accounts.get(bare)
        if sessions is None or session not in sessions:
            return False
        # A new list: whoever walks the old one right now must not trip over the change.
        left = [s for s in sessions if s is not session]
        self._count -= 1
        domain = session.jid.domain
        self._counts[domain] -= 1
        if left:
            self._accounts[bare] = left
            return True
        del self._accounts[bare]
        accounts = self._domains[domain]
        accounts.discard(bare)
        if not accounts:
            del self._domains[domain], self._counts[domain]
        return True

    def of(self, bare: str) -> list[Session]:
        """The sessions of an account, oldest first. Not to be changed."""
        return self._accounts.get(bare, _NONE)

    def get(self, jid: JID) -> Session | None:
        """The session of a full JID."""
        for session in self._accounts.get(jid.bare, _NONE):
            if session.jid.resource == jid.resource:
                return session
        return None

    def top(self, bare: str) -> list[Session]:
        """The available sessions with the highest non-negative priority: who gets a message for the bare JID."""
        sessions = self._accounts.get(bare, _NONE)
        if len(sessions) == 1:  # by far the most frequent case
            session = sessions[0]
            return sessions if session.available and session.priority >= 0 else _NONE
        highest = max((s.priority for s in sessions if s.available), default=-1)
        if highest < 0:
            return _NONE
        return [s for s in sessions if s.available and s.priority == highest]

    def available(self, bare: str) -> list[Session]:
        """The available sessions of an account, whatever their priority."""
        return [s for s in self._accounts.get(bare, _NONE) if s.available]

    def of_domain(self, domain: str) -> list[Session]:
        """All sessions of a domain; a copy."""
        return [s for bare in self._domains.get(domain, ()) for s in self._accounts[bare]]

    def count_domain(self, domain: str) -> int:
        return self._counts.get(domain, 0)

    def __iter__(self) -> Iterator[Session]:
        """All sessions; over a copy."""
        return iter([s for sessions in self._accounts.values() for s in sessions])


_NONE: list[Session] = []
