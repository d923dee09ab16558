"""The administration on a free port of loopback, in front of a real database."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any
from urllib.parse import quote

import treq
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.core.domain_table import DomainOrigin
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Stored
from dynxmpp.core.session_table import SessionTable
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.remover import Place
from dynxmpp.domains.store import DomainStore
from dynxmpp.jid import JID
from dynxmpp.rest.bulk_domains import BulkDomainsApi
from dynxmpp.rest.bulk_users import BulkUsersApi
from dynxmpp.rest.dialect import FIVE, SIX
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.domains_v6 import DomainsV6Api
from dynxmpp.rest.sessions import SessionsApi
from dynxmpp.rest.site import AdminSite, Attachment, Mount
from dynxmpp.rest.users import UsersApi
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stanza import Stanza
from tests.domains.node import Node
from tests.fixtures.postgres import DatabaseTestCase

NOTES = Migration("notes", 1, "notes", "CREATE TABLE notes (server text, username text, note text)")


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def outcome(self) -> tuple[int, Any]:
        return self.status, self.body


class BoundSession:
    """What the session table needs of a session."""

    def __init__(self, sessions: SessionTable, jid: str, *, address: str | None = None) -> None:
        self.jid = JID.parse(jid)
        self.available = True
        self.priority = 5
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.bound_at = 1_600_000_000.25
        self.slots: dict[type, Any] = {}
        self.ended: StreamError | None = None
        if address is not None:
            self.address = address
        self._sessions = sessions
        sessions.add(self)

    def deliver(self, stanza: Any, data: bytes) -> None:
        raise AssertionError("nothing is sent here")

    def slow_down(self, slow: bool) -> None: ...

    def end(self, error: StreamError) -> None:
        self.ended = error
        self._sessions.remove(self)


async def in_this_thread(function: Any) -> Any:
    return function()


class HttpTestCase(TestCase):
    """Asks a site on `self.port`."""

    port: int

    @cached_property
    def requests(self) -> Agent:
        return Agent(reactor, connectTimeout=5, pool=HTTPConnectionPool(reactor, persistent=False))

    def listen(self, places: Sequence[Mount | Attachment]) -> int:
        site: Any = AdminSite(places, clock=reactor)
        listening: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        """One request. `body` goes as JSON, `raw` as it is; both with the type application/json."""
        sent: Any = {"Host": "localhost:8088", **(headers or {})}
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        response = await treq.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            data=data,
            headers=sent,
            agent=self.requests,
            timeout=20,
            **options,
        )
        content = await response.content()
        kind = response.headers.getRawHeaders("Content-Type")
        if content:
            self.assertEqual(kind, ["application/json"])
        else:
            self.assertEqual(kind, None)
        return Answer(response.code, json.loads(content) if content else None, response.headers)


class RestTestCase(DatabaseTestCase, HttpTestCase):
    """`/api` and `/six` without credentials, `/api-auth` and `/six-auth` with; host types basic and advanced."""

    migrations = (*DomainStore.migrations, *RdbmsAuth.migrations, NOTES)
    max_users = 4
    password = "sécret"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock = Clock()
        self.sessions = SessionTable()
        self.database: Any = self.db
        self.node = self.make_node()
        await self.node.start()
        self.addCleanup(self.node.service.stop)
        self.port = self.listen(self.places())

    def make_node(self) -> Node:
        auth = RdbmsAuth(
            self.database,
            secret=b"secret",
            random=Random(1),
            hashes=["sha1"],
            iterations=4096,
            max_users_per_domain=self.max_users,
            run_in_thread=in_this_thread,
        )
        self.accounts = Accounts([auth], secret=b"secret")
        node = Node(
            self.database,
            host_types=(),
            auth_places=[Place(self.database, stored) for stored in RdbmsAuth.stored],
            places=[Place(self.database, Stored("notes", "server", "username"))],
            clock=self.clock,
        )
        for name in ("basic", "advanced"):
            host_type: Any = HostType(name, is_static=False, accounts=self.accounts)
            node.table.add_host_type(name, host_type, DomainOrigin.DYNAMIC)
        static: Any = HostType("static.example", is_static=True, accounts=self.accounts)
        node.table.add_host_type("static.example", static, DomainOrigin.STATIC)
        node.table.add_static("static.example")
        node.synchroniser._on_domain_gone = self.domain_gone
        return node

    def domain_gone(self, domain: str) -> None:
        for session in self.sessions.of_domain(domain):
            session.end(StreamError("host-gone"))

    def apis(self, domains: object) -> list[object]:
        table: Any = self.node.table
        dialect = SIX if isinstance(domains, DomainsV6Api) else FIVE
        return [
            domains,
            BulkDomainsApi(self.node.service, dialect),
            BulkUsersApi(table, dialect),
            UsersApi(table, self.sessions, remove_account=self.node.remover.remove_account),
            SessionsApi(table, self.sessions),
        ]

    def places(self) -> Sequence[Mount | Attachment]:
        five, six = self.apis(DomainsApi(self.node.service)), self.apis(DomainsV6Api(self.node.service))
        login = {"username": "admin", "password": self.password}
        return [
            Mount(FIVE, host="localhost", path="/api", apis=five),
            Mount(FIVE, host="localhost", path="/api-auth", apis=five, **login),
            Mount(SIX, host="_", path="/six", apis=six),
            Mount(SIX, host="_", path="/six-auth/", apis=six, **login),
        ]

    def session(self, jid: str, **options: Any) -> BoundSession:
        return BoundSession(self.sessions, jid, **options)


def at(mount: str, domain: str) -> str:
    return f"{mount}/domains/{quote(domain, safe='')}"
