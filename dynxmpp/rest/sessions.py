"""Sessions that are bound on the node that is asked."""

from datetime import UTC, datetime
from typing import Any, Final

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Session
from dynxmpp.core.session_table import SessionTable
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.jid import JID
from dynxmpp.rest.domains import list_schema, next_of
from dynxmpp.rest.errors import NoSuchSession
from dynxmpp.rest.operation import AFTER, LIMIT, Call, Reply, Schema, object_schema, operation
from dynxmpp.wire.errors import StreamError

__all__ = ["SessionsApi"]

_SESSION: Final = object_schema(
    {
        "jid": {"type": "string"},
        "username": {"type": "string"},
        "resource": {"type": "string"},
        "available": {"type": "boolean"},
        "priority": {"type": "integer", "minimum": -128, "maximum": 127},
        "since": {"type": "string", "format": "date-time"},
        "address": {"type": "string", "description": "The client's IP address."},
    },
    optional=("address",),
)


class SessionsApi:
    """The resources below {path}/sessions/{domain}."""

    def __init__(self, table: DomainTable[HostType], sessions: SessionTable) -> None:
        self._table = table
        self._sessions = sessions

    def _known(self, domain: str) -> str:
        if domain not in self._table:
            raise DomainNotFound(domain)
        return domain

    @operation(
        "GET",
        "/sessions/{domain}",
        summary="List the sessions of a domain by address",
        query=(AFTER, LIMIT),
        success=200,
        answer=list_schema("sessions", _SESSION),
        raises=(DomainNotFound,),
    )
    async def browse(self, call: Call) -> Reply:
        domain, after, limit = self._known(call.domain()), call.after(), call.limit()
        sessions = sorted(self._sessions.of_domain(domain), key=_address)
        found = [session for session in sessions if after is None or _address(session) > after][: limit + 1]
        following = next_of([_address(session) for session in found], limit)
        return Reply(200, {"sessions": [_describe(session) for session in found[:limit]], "next": following})

    @operation(
        "DELETE",
        "/sessions/{domain}/{username}/{resource}",
        summary="End a session",
        description="The client gets the stream error `policy-violation`; it may log in again.",
        success=204,
        raises=(DomainNotFound, NoSuchSession),
    )
    async def end(self, call: Call) -> Reply:
        domain, username, resource = self._known(call.domain()), call.username(), call.resource()
        session = self._sessions.get(JID.of(username, domain, resource))
        if session is None:
            raise NoSuchSession
        session.end(StreamError("policy-violation", "The session was ended by an administrator"))
        return Reply(204)


def _address(session: Session) -> str:
    return session.jid.full


def _describe(session: Session) -> Schema:
    description: Schema = {
        "jid": session.jid.full,
        "username": session.jid.local,
        "resource": session.jid.resource,
        "available": session.available,
        "priority": session.priority,
        "since": datetime.fromtimestamp(session.bound_at, UTC).isoformat(timespec="milliseconds"),
    }
    # A session whose stream is elsewhere has no transport, and the core's contract does not promise one.
    address: Any = getattr(session, "address", None)
    if isinstance(address, str):
        description["address"] = address
    return description
