"""What domains use and may use, over HTTP: one, all, static, disabled ones; limits of single domains."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import treq

from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.config.limits import LIMITS, Limits
from dynxmpp.config.listen import AdminApiHandler, DomainHandler
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import DomainLimits
from dynxmpp.core.router import Router
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.domain_use import MIGRATIONS, DomainUseParts
from dynxmpp.domains.store import DomainStore
from dynxmpp.module import ModuleContext
from dynxmpp.module_loader import build_modules
from dynxmpp.modules.private import Private, PrivateConfig
from dynxmpp.rest import usage
from dynxmpp.rest.mounts import Administration
from dynxmpp.rest.site import Attachment, Mount
from dynxmpp.wire.stanza import Stanza
from tests.domains.node import Node
from tests.rest.server import NOTES, RestTestCase

DEFAULTS = Limits(sessions=2, accounts=3)
#: The second of September 2026, at noon.
NOW_S = 1_788_350_400


class CountingDatabase:
    """A real one; remembers the statements."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.statements: list[str] = []

    async def query(self, sql: str, params: Any = ()) -> Any:
        self.statements.append(sql)
        return await self.database.query(sql, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class UseCase(RestTestCase):
    migrations = (*DomainStore.migrations, *RdbmsAuth.migrations, *MIGRATIONS, *Private.migrations, NOTES)

    def make_node(self) -> Node:
        self.clock.advance(NOW_S)
        self.database = CountingDatabase(self.db)
        node = super().make_node()
        table: Any = node.table
        self.router = Router(table, self.sessions, SlowLane())
        clock: Any = self.clock
        self.use = DomainUseParts(
            self.router,
            database=self.database,
            has_dynamic=True,
            announcements=None,
            clock=clock,
            spawn=lambda event, work: None,
        )
        self.host_types: dict[str, HostType] = {}
        for (name, _), served in table._served.items():
            host_type = self.host_types[name] = served.host_type
            host: Any = SimpleNamespace(limits=DEFAULTS)
            host_type.provide(DomainLimits, self.use.limits_of(host))
        context = ModuleContext(
            host_type=self.host_types["basic"],
            router=self.router,
            sessions=self.sessions,
            domains=table,
            database=self.database,
            clock=clock,
            spawn=lambda event, work: None,
        )
        build_modules(context, {"mod_private": PrivateConfig()}, {"mod_private": Private})
        return node

    def places(self) -> Sequence[Mount | Attachment]:
        table: Any = self.node.table
        host: Any = SimpleNamespace(auth=SimpleNamespace(methods=("rdbms",)))
        names = dict.fromkeys(self.host_types, self.database)
        use = self.use.for_administration(names, dict.fromkeys(names, host))
        administration = Administration(
            self.node.service,
            table,
            self.sessions,
            self.node.remover.remove_account,
            tuple(self.host_types.values()),
            use=use,
        )
        return administration.mounts(
            [DomainHandler(host="_", path="/api"), AdminApiHandler(host="_", path="/six", handlers=("domain",))]
        )

    async def domain(self, name: str, *accounts: str) -> None:
        await self.node.service.insert(name, "basic")
        for account in accounts:
            await self.accounts.create(name, account, "secret")

    def say(self, jid: str, count: int, content: bytes = b"<a/>") -> None:
        session: Any = self.session(jid)
        host_type = self.router.domains.get(session.jid.domain)
        assert host_type is not None
        for _ in range(count):
            self.router.from_session(
                Stanza("message", {"to": "x@b.example", "type": "error"}, content, ("a",)), session, host_type.host_type
            )

    async def usage(self, domain: str, mount: str = "/api") -> Any:
        answer = await self.ask("GET", f"{mount}/domains/{domain}/usage")
        self.assertEqual(200, answer.status, answer.body)
        return answer.body

    async def all(self, mount: str = "/api") -> dict[str, Any]:
        response = await treq.get(f"http://127.0.0.1:{self.port}{mount}/usage", agent=self.requests, timeout=20)
        self.assertEqual(["application/jsonl"], response.headers.getRawHeaders("Content-Type"))
        lines = [json.loads(line) for line in (await response.content()).splitlines()]
        found = {line["domain"]: line for line in lines}
        self.assertEqual(len(lines), len(found))
        return found


class OneDomain(UseCase):
    async def test_all_that_is_known(self) -> None:
        await self.domain("a.example", "ann", "bob")
        await self.domain("b.example", "cat")
        self.say("ann@a.example/1", 3)
        self.say("cat@b.example/1", 1)
        await self.db.execute("INSERT INTO private_storage VALUES ('a.example', 'ann', 'n', 'x', 'abcdef')")
        for mount in ("/api", "/six"):
            found = await self.usage("a.example", mount)
            self.assertGreater(found["stored"]["bytes"], 5)
            self.assertLess(found["stored"]["bytes"], 60)
            found["stored"].pop("bytes")
            found["stored"]["modules"]["mod_private"].pop("bytes")
            self.assertEqual(
                {
                    "domain": "a.example",
                    "host_type": "basic",
                    "accounts": 2,
                    "sessions": 1,
                    "day": {"date": "2026-09-02", "messages": 3, "bytes": 12},
                    "month": {"month": "2026-09", "messages": 3, "bytes": 12},
                    "rooms": None,
                    "stored": {"age_s": 0, "rows": 1, "modules": {"mod_private": {"rows": 1}}},
                    "reached": [],
                },
                found,
            )

    async def test_says_how_old_the_measure_is(self) -> None:
        await self.domain("a.example")
        await self.usage("a.example")
        await self.db.execute("INSERT INTO private_storage VALUES ('a.example', 'ann', 'n', 'x', 'abcdef')")
        self.clock.advance(599)
        found = await self.usage("a.example")
        self.assertEqual((599, 0), (found["stored"]["age_s"], found["stored"]["rows"]))
        self.clock.advance(1)
        found = await self.usage("a.example")
        self.assertEqual((0, 1), (found["stored"]["age_s"], found["stored"]["rows"]))

    async def test_limits_that_are_reached(self) -> None:
        await self.domain("a.example", "ann", "bob", "cat")
        self.say("ann@a.example/1", 0)
        self.assertEqual(["accounts"], (await self.usage("a.example"))["reached"])
        self.say("ann@a.example/2", 0)
        self.assertEqual(["accounts", "sessions"], (await self.usage("a.example"))["reached"])
        await self.ask("PATCH", "/api/domains/a.example/limits", {"accounts": "infinity", "stored_bytes": 0})
        self.assertEqual(["sessions", "stored_bytes"], (await self.usage("a.example"))["reached"])

    async def test_static_and_disabled_domains_have_theirs(self) -> None:
        self.say("ann@static.example/1", 2)
        self.assertEqual(2, (await self.usage("static.example"))["day"]["messages"])
        await self.domain("a.example", "ann")
        self.say("ann@a.example/1", 4)
        await self.node.service.set_enabled("a.example", False)
        self.use.domain_gone("a.example")
        found = await self.usage("a.example")
        self.assertEqual((1, 0, 4), (found["accounts"], found["sessions"], found["day"]["messages"]))

    async def test_no_such_domain(self) -> None:
        for path in ("usage", "limits"):
            self.assertEqual(404, (await self.ask("GET", f"/api/domains/c.example/{path}")).status)
            self.assertEqual(404, (await self.ask("GET", f"/six/domains/c.example/{path}")).status)
        self.assertEqual(404, (await self.ask("PATCH", "/api/domains/c.example/limits", {"rooms": 1})).status)


class AllDomains(UseCase):
    async def test_a_line_for_each(self) -> None:
        await self.domain("a.example", "ann", "bob")
        await self.domain("b.example")
        await self.domain("disabled.example", "dan")
        self.say("ann@a.example/1", 3)
        self.say("bob@a.example/1", 1)
        self.say("sue@static.example/1", 1)
        self.say("dan@disabled.example/1", 2)
        await self.node.service.set_enabled("disabled.example", False)
        assert self.use.recorder is not None
        await self.use.recorder.flush()
        self.say("bob@a.example/2", 1)
        for mount in ("/api", "/six"):
            found = await self.all(mount)
            self.assertEqual(
                {
                    "a.example": (2, 3, 5, 20, 5),
                    "b.example": (0, 0, 0, 0, 0),
                    "disabled.example": (1, 0, 2, 8, 2),
                    "static.example": (0, 1, 1, 4, 1),
                },
                {
                    domain: (
                        line["accounts"],
                        line["sessions"],
                        line["day"]["messages"],
                        line["month"]["bytes"],
                        line["month"]["messages"],
                    )
                    for domain, line in found.items()
                },
            )

    async def test_asks_by_page_and_not_by_domain(self) -> None:
        self.patch(usage, "PAGE", 10)
        names = [f"d{number:02}.example" for number in range(30)]
        for name in names:
            await self.domain(name, "ann")
        await self.db.execute(
            "INSERT INTO domain_usage SELECT domain, '2026-09-01', 7, 70, '2026-09-01', 7, 70 FROM domain_settings"
        )
        self.database.statements.clear()
        found = await self.all()
        self.assertEqual({*names, "static.example"}, set(found))
        self.assertEqual(
            {(1, 7, 0)},
            {
                (found[name]["accounts"], found[name]["month"]["messages"], found[name]["day"]["messages"])
                for name in names
            },
        )
        # A page each of ten domains, the empty one behind them, and the static ones.
        self.assertLessEqual(len(self.database.statements), 3 * 5)


class LimitsOfADomain(UseCase):
    path = "/api/domains/a.example/limits"

    async def change(self, body: Any, path: str | None = None) -> Any:
        answer = await self.ask("PATCH", path or self.path, body)
        self.assertEqual(200, answer.status, answer.body)
        return answer.body

    async def test_are_shown_set_and_taken_back(self) -> None:
        await self.domain("a.example")
        nothing = {**dict.fromkeys(LIMITS, "infinity"), "sessions": 2, "accounts": 3}
        self.assertEqual({"limits": nothing, "own": {}}, (await self.ask("GET", self.path)).body)
        changed = await self.change({"sessions": 7, "accounts": "infinity"})
        self.assertEqual({"sessions": 7, "accounts": "infinity"}, changed["own"])
        self.assertEqual({**nothing, "sessions": 7, "accounts": "infinity"}, changed["limits"])
        self.assertEqual(changed, (await self.ask("GET", "/six/domains/a.example/limits")).body)
        self.assertEqual(changed, await self.change({}))
        limits: Any = self.host_types["basic"].require(DomainLimits)
        self.assertEqual(7, limits.limit("a.example", "sessions"))
        self.assertEqual({"accounts": "infinity"}, (await self.change({"sessions": None, "rooms": None}))["own"])

    async def test_are_described(self) -> None:
        for mount in ("/api", "/six"):
            paths = (await self.ask("GET", f"{mount}/openapi.json")).body["paths"]
            self.assertLessEqual({"get", "patch"}, {*paths["/domains/{domain}/limits"]})
            self.assertIn("get", paths["/domains/{domain}/usage"])
            self.assertIn("get", paths["/usage"])

    async def test_static_domains_have_them_too(self) -> None:
        self.assertEqual({"rooms": 1}, (await self.change({"rooms": 1}, "/api/domains/static.example/limits"))["own"])

    async def test_mistakes_are_told_of_in_words(self) -> None:
        await self.domain("a.example")
        for body, text in (
            ({"sessions": "many"}, 'sessions: must be an integer or "infinity", not "many"'),
            ({"sessions": -1}, "sessions: must not be negative, but is -1"),
            ({"sessions": 1.5}, 'sessions: must be an integer or "infinity", not a float'),
            ({"sessions": True}, 'sessions: must be an integer or "infinity", not a boolean'),
            ({"messages_per_second": 0}, "messages_per_second: must be greater than zero, not 0"),
            ({"session": 1}, "session: unexpected key (did you mean sessions?)"),
            ({"session": None}, "session: unexpected key (did you mean sessions?)"),
        ):
            with self.subTest(body=body):
                self.assertEqual((400, {"what": text}), (await self.ask("PATCH", self.path, body)).outcome)
                answer = await self.ask("PATCH", "/six/domains/a.example/limits", body)
                self.assertEqual((400, text), answer.outcome)
        self.assertEqual(400, (await self.ask("PATCH", self.path, raw=b"[]")).status)
        self.assertEqual({}, (await self.ask("GET", self.path)).body["own"])

    async def test_accounts_of_a_domain_that_is_full(self) -> None:
        await self.domain("a.example")
        await self.change({"accounts": 1})
        limits: Any = self.host_types["basic"].require(DomainLimits)
        self.accounts._methods[0]._limit_of = lambda domain: limits.limit(domain, "accounts")  # type: ignore[attr-defined]
        for name, status in (("ann", 201), ("bob", 403)):
            answer = await self.ask("POST", "/api/users/a.example", {"username": name, "password": "x"})
            self.assertEqual(status, answer.status)
        self.assertEqual({"what": "too many users in the domain"}, answer.body)
