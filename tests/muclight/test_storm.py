"""Two hundred clients change the same ten rooms at once, and the server is killed in the midst of it.

Afterwards the notices that each client has got are compared with what was committed (storm_ledger.py), one by one and
in their order: nothing else was told, nothing was left out, and nothing is half done. Only what was under way when the
server was killed may not have been told.
"""

import random
import re
import sys
from collections.abc import Awaitable, Callable, Iterator

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_INFO
from dynxmpp.protocol.disco_info import NS_DISCO_ITEMS
from dynxmpp.wire.stanza import Stanza
from tests.chaos.connection import Gone
from tests.fixtures.postgres import drop_database, fresh_database, shared_server
from tests.fixtures.server import ServerProcess, free_port, temporary_folder
from tests.interop.databases import until
from tests.muclight import storm_ledger
from tests.muclight.storm_client import DOMAIN, SERVICE, Notice, StormClient, room_jid
from tests.muclight.storm_ledger import Commit, Ledger

CLIENTS = 200
ROOMS = [f"room{number}" for number in range(10)]
#: Members that a room has at first, besides who makes it.
MEMBERS = 15
#: Answers to all clients together before the server is killed, at least and at most, and after that.
BEFORE = (500, 1500)
AFTER = 2000
#: What may be answered to a request that comes too late, or that was never right.
REFUSALS = {"result", "item-not-found", "not-allowed", "bad-request", "conflict"}

CONFIG = """
[general]
loglevel = "info"
hosts = ["{domain}"]
default_server_domain = "{domain}"
default_modules = ["mod_disco", "mod_ping", "mod_presence", "mod_roster"]
[auth]
methods = ["dummy"]
[auth.dummy]
base_time = 0
variance = 0
[outgoing_pools.rdbms.default]
workers = 5
[outgoing_pools.rdbms.default.connection]
driver = "pgsql"
host = "{settings.host}"
port = {settings.port}
database = "{settings.database}"
username = "{settings.username}"
password = "unused"
[[listen.c2s]]
port = {port}
ip_address = "127.0.0.1"
max_unauthenticated = 10000
[modules.mod_muc_light]
all_can_configure = true
all_can_invite = true
[modules.mod_mam_meta]
muc = {{host = "muclight.@HOST@"}}
"""

_ARCHIVES = """
SELECT a.name, m.stanza FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive WHERE a.kind = 1 ORDER BY m.id
"""


class Storm(TestCase):
    timeout = 100

    async def setUp(self) -> None:  # type: ignore[override]
        self.seed = random.SystemRandom().randrange(1_000_000)
        sys.stdout.write(f"seed {self.seed}\n")  # shown when the test fails
        self.random = random.Random(self.seed)
        self.settings = await fresh_database()
        self.addCleanup(drop_database, self.settings)
        port = free_port()
        config = temporary_folder(self) / "dynxmpp.toml"
        config.write_text(CONFIG.format(domain=DOMAIN, settings=self.settings, port=port))
        self.server = ServerProcess(config)
        self.addCleanup(self.server.clean_up)
        names = [f"user{number}" for number in range(CLIENTS)]
        self.clients = [StormClient(name, port, self.random, names, ROOMS) for name in names]
        self.addCleanup(self.all_leave)
        self.faults: list[str] = []
        self.answers = 0

    def all_leave(self) -> None:
        for client in self.clients:
            client.leave()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return shared_server().admin(sql, database=self.settings.database)

    async def test_storm(self) -> None:
        await self.server.start()
        self.rows(storm_ledger.INSTALL)
        await self.all_come()
        await self.make_rooms()
        await self.rage(self.random.randint(*BEFORE), self.server.kill)
        await gatherResults([Deferred.fromCoroutine(client.gone()) for client in self.clients])
        await until(self.nobody_is_connected, "the database to be done with what was sent to it")
        self.check_log()
        first = storm_ledger.read(self.rows)
        end = max(commit.number for commit in first.commits)
        self.check_requests(first, 0, is_killed=True)
        self.check_notices(first, 0, is_killed=True)

        await self.server.start()
        await self.all_come()
        await self.check_answers(first)
        await self.rage(AFTER)
        await self.all_ping()
        last = storm_ledger.read(self.rows)
        self.faults += storm_ledger.invariants(last)
        self.faults += storm_ledger.tables(self.rows, last)
        self.check_requests(last, end, is_killed=False)
        self.check_notices(last, end, is_killed=False)
        await self.check_answers(last)
        self.assertEqual(0, await self.server.stop())
        self.check_log()
        self.check_archives(last, end)
        self.assert_no_faults()
        self.assert_it_was_a_storm(last, end)

    # -- what happens

    async def all_come(self) -> None:
        await gatherResults([Deferred.fromCoroutine(client.come()) for client in self.clients])

    async def all_ping(self) -> None:
        await gatherResults([Deferred.fromCoroutine(client.ping()) for client in self.clients])

    async def make_rooms(self) -> None:
        for number, room in enumerate(ROOMS):
            members = self.random.sample([client.name for client in self.clients], MEMBERS)
            self.assertEqual("result", await self.clients[number].creates(room, members))
        await self.all_ping()

    async def rage(self, answers: int, kill: Callable[[], Awaitable[None]] | None = None) -> None:
        """All ask for changes, one at a time each, until there have been so many answers; the server is killed then."""
        self.answers, enough = 0, Deferred[None]()

        def count() -> None:
            self.answers += 1
            if self.answers == answers:
                enough.callback(None)

        async def goes_on(client: StormClient) -> None:
            client.on_answer = count
            try:
                while not enough.called or kill is not None:
                    await client.does_something()
            except Exception as problem:
                if kill is None or not isinstance(problem, Gone):
                    if not enough.called:
                        enough.errback(problem)
                    raise

        running = [Deferred.fromCoroutine(goes_on(client)) for client in self.clients]
        await enough
        if kill is not None:
            await kill()
        await gatherResults(running)

    async def nobody_is_connected(self) -> bool | None:
        sql = "SELECT FROM pg_stat_activity WHERE datname = %s"
        return None if shared_server().admin(sql, (self.settings.database,)) else True

    # -- what is compared

    def check_log(self) -> None:
        process = self.server.process
        assert process is not None
        self.faults += [line for line in process.lines if '"traceback"' in line or '"level": "error"' in line]
        self.faults += process.errors

    def check_requests(self, ledger: Ledger, after: int, *, is_killed: bool) -> None:
        """Each result is a change that was committed, and each change was asked for; what is refused is not told."""
        told = {notice.id for client in self.clients for notices in client.notices.values() for notice in notices}
        asked = [request for client in self.clients for request in client.requests.values()]
        self.faults += [fault for client in self.clients for fault in client.faults]
        for request in asked:
            if request.answer is not None and request.answer not in REFUSALS:
                self.faults.append(f"answered with {request.answer}: {request}")
            if request.answer not in (None, "result") and request.id in told:
                self.faults.append(f"refused, and members were told: {request}")
        if not told <= {request.id for request in asked}:
            self.faults.append("members were told what nobody has asked for")
        for room in ROOMS:
            done = sum(request.room == room and request.answer == "result" for request in asked)
            open_ = sum(request.room == room and request.answer is None for request in asked)
            if open_ and not is_killed:
                self.faults.append(f"{room}: {open_} requests without an answer")
            committed = len(ledger.of(room, after=after))
            if not done <= committed <= done + open_:
                self.faults.append(f"{room}: {done} results, {open_} without an answer, {committed} commits")

    def check_notices(self, ledger: Ledger, after: int, *, is_killed: bool) -> None:
        """Each client was told what it had to be told, each change once and in the order of the versions.

        When the server is killed the last ones may be missing.
        """
        for room in ROOMS:
            commits = ledger.of(room, after=after)
            for client in self.clients:
                due = [commit for commit in commits if client.name in {**commit.before, **commit.after}]
                told = client.notices.get(room, [])
                if len(told) > len(due) or (len(told) < len(due) and not is_killed):
                    self.faults.append(f"{client.name} was told {len(told)} of {len(due)} changes of {room}")
                for notice, commit in zip(told, due, strict=False):
                    self.faults += _differences(client.name, notice, commit)

    async def check_answers(self, ledger: Ledger) -> None:
        """What the server says of rooms, asked by each of their members, is what is in the database."""
        state = ledger.state()
        for client in self.clients:
            mine = {room_jid(name): commit for name, commit in state.items() if client.name in commit.after}
            reply = await client.asks("get", SERVICE, f"<query xmlns='{NS_DISCO_ITEMS}'/>")
            items = [item for item in next(iter(reply.child_elements())).elements() if item.name == "item"]
            if {item["jid"]: item["version"] for item in items} != {jid: c.version for jid, c in mine.items()}:
                self.faults.append(f"{client.name} is said to be in {[item.toXml() for item in items]}, not in {mine}")
            for jid, commit in mine.items():
                reply = await client.asks("get", jid, f"<query xmlns='{NS_INFO}'/>")
                if _info(reply) != (commit.version, dict(commit.config), dict(commit.after)):
                    self.faults.append(f"{client.name} is told {reply.to_bytes().decode()}, not {commit}")

    def check_archives(self, ledger: Ledger, end: int) -> None:
        """The archive of a room has all that has happened to it, in order. The crash may have taken what came last."""
        kept: dict[str, list[str]] = {}
        for name, stanza in self.rows(_ARCHIVES):
            version = re.search("<version>(.*)</version>", str(stanza))
            # That of the creation is without a version.
            kept.setdefault(str(name).partition("@")[0], []).append(version[1] if version else "")
        for room, last in ledger.state().items():
            commits = [commit for commit in ledger.of(room) if commit.room == last.room]
            versions = [commit.version if commit.previous else "" for commit in commits]
            before = sum(commit.number <= end for commit in commits)
            found = kept.pop(room, [])
            lost = len(versions) - len(found)
            if lost and (lost < 0 or lost > before):
                self.faults.append(f"{lost} of {versions} missing in the archive of {room}")
            elif found != versions[: before - lost] + versions[before:]:
                self.faults.append(f"the archive of {room} has {found}, and it was {versions}")
        going = {str(name) for (name,) in self.rows("SELECT name FROM muc_light_rooms WHERE version = ''")}
        if any(ledger.of(room, after=end) for room in going):
            self.faults.append(f"what is left of rooms is not only left by the crash: {sorted(going)}")
        if not set(kept) <= going:
            self.faults.append(f"archives of rooms that do not exist: {sorted(kept)}")

    def assert_no_faults(self) -> None:
        what = "\n".join(self.faults[:10])
        self.assertFalse(self.faults, f"seed {self.seed}, {len(self.faults)} faults:\n{what}")

    def assert_it_was_a_storm(self, ledger: Ledger, end: int) -> None:
        """Enough has happened for the rest to say something."""
        for after, until_ in ((0, end), (end, None)):
            commits = [commit for room in ROOMS for commit in ledger.of(room, after=after, until=until_)]
            self.assertGreater(len(commits), 100)
            self.assertTrue([commit for commit in commits if commit.configured and commit.previous])
            self.assertTrue([commit for commit in commits if "none" in commit.changes.values() and commit.version])
        self.assertTrue([commit for commit in ledger.commits if not commit.version], "rooms that were left by all")


def _differences(user: str, notice: Notice, commit: Commit) -> Iterator[str]:
    """What a notice says otherwise than is due to a user after a commit."""
    what = f"{user} was told {notice} after {commit}"
    if user not in commit.after:
        expected = (NS_AFFILIATIONS, "", "", {user: "none"})
    elif user not in commit.before:
        expected = (NS_AFFILIATIONS, "", commit.version, {user: commit.after[user]})
    elif commit.changes:
        expected = (NS_AFFILIATIONS, commit.previous, commit.version, dict(commit.changes))
    else:
        expected = (NS_CONFIGURATION, commit.previous, commit.version, dict(notice.fields))
        if not set(commit.configured.items()) <= set(notice.fields.items()) <= set(commit.config.items()):
            yield what
    if (notice.kind, notice.previous, notice.version, dict(notice.fields)) != expected:
        yield what


def _info(reply: Stanza) -> tuple[str, dict[str, str], dict[str, str]]:
    """Version, fields and members of the answer to a question for all of a room."""
    query = next(iter(reply.child_elements()))
    if reply.attributes["type"] == "error":
        return "", {}, {}
    version, configuration, occupants = query.elements()
    fields = {field.name: str(field) for field in configuration.elements()}
    members = {str(user).partition("@")[0]: user["affiliation"] for user in occupants.elements()}
    return str(version), fields, members
