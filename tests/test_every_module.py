"""What holds for every module that is installed: it is what its entry point says, its specification and its options are
documented, its tables are declared, and nothing is left of a domain or an account that was removed.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from random import Random
from typing import Any, cast, get_args

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.config.model import Option, Section, is_section, options_of
from dynxmpp.config.modules import DEFAULT_MODULES, IqDisc
from dynxmpp.core.interfaces import AccountRemover, Stored
from dynxmpp.db.migrations import Migration, migrate
from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.store import DomainStore
from dynxmpp.module import JID, Module
from dynxmpp.module_loader import discover, stop_modules
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from tests.config.test_documentation import default_text, type_text
from tests.fixtures.dialogue import Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase

MODULES = discover()
PROJECT = Path(__file__).parents[1]
XEPS = PROJECT / "docs" / "xeps.md"
PAGE = PROJECT / "docs" / "modules.md"


def cells(line: str) -> list[str]:
    """The cells of a line of a table, without the marks of code."""
    return [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """The rows of the tables of a page, by the heading that they stand below."""
    rows: dict[str, list[list[str]]] = {}
    heading = ""
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ").replace("`", "")
        elif line.startswith("|"):
            rows.setdefault(heading, []).append(cells(line))
    return rows


class Declarations(TestCase):
    def test_the_name_is_that_of_the_entry_point(self) -> None:
        self.assertEqual({name: name for name in MODULES}, {name: cls.name for name, cls in MODULES.items()})

    def test_all_default_modules_are_installed(self) -> None:
        self.assertEqual(set(), set(DEFAULT_MODULES) - set(MODULES))

    def test_each_class_says_what_it_is(self) -> None:
        for name, cls in MODULES.items():
            with self.subTest(module=name):
                self.assertRegex(name, r"^mod_[a-z0-9_]+$")
                self.assertTrue(cls.__doc__)
                self.assertTrue(issubclass(cls.config_model, Section))

    def test_migrations_are_numbered_from_one(self) -> None:
        for name, cls in MODULES.items():
            with self.subTest(module=name):
                steps = [(step.component, step.version) for step in cls.migrations]
                self.assertEqual([(name, number + 1) for number in range(len(steps))], steps)


class Specifications(TestCase):
    def setUp(self) -> None:
        self.rows = tables_of(XEPS)

    def test_a_row_for_each_module(self) -> None:
        """Number, version, module and file, each as the class has it; and no row for what is not there."""
        declared = {
            (f"XEP-{cls.xep.number:04}", cls.xep.version, name, file_of(cls))
            for name, cls in MODULES.items()
            if cls.xep is not None
        }
        documented = {(row[0], row[2], row[3], row[4]) for row in self.rows["Extensions"][2:]}
        self.assertEqual(declared, documented)

    def test_modules_without_a_xep_are_explained(self) -> None:
        text = XEPS.read_text().partition("Modules that implement no extension:")[2].partition("\n\n")[0]
        without = {name for name, cls in MODULES.items() if cls.xep is None}
        self.assertEqual(without, set(re.findall(r"`(mod_\w+)`", text)))

    def test_what_other_files_implement(self) -> None:
        rows = self.rows["In parts of others"][2:]
        self.assertTrue(rows)
        for number, _, version, file, _ in rows:
            with self.subTest(xep=number):
                docstring = (PROJECT / "dynxmpp" / file).read_text().split('"""')[1]
                self.assertRegex(docstring, rf"{number}\b[^.]*\bversion {re.escape(version)}")

    def test_files_say_the_same_version(self) -> None:
        for name, cls in MODULES.items():
            if cls.xep is not None:
                with self.subTest(module=name):
                    docstring = (PROJECT / "dynxmpp" / file_of(cls)).read_text().split('"""')[1]
                    self.assertIn(f"XEP-{cls.xep.number:04}", docstring)
                    self.assertRegex(docstring, rf"\b{re.escape(cls.xep.version)}\b")

    def test_files_of_rfcs_exist(self) -> None:
        for row in self.rows["RFCs"][2:]:
            for place in re.findall(r"[a-z0-9_/]+(?:/|\.py)", row[2]):
                self.assertTrue((PROJECT / "dynxmpp" / place).exists(), place)


def file_of(cls: type[Module]) -> str:
    """Where a module of ours is, within the package."""
    path = cls.__module__.removeprefix("dynxmpp.").replace(".", "/")
    return f"{path}/__init__.py" if (PROJECT / "dynxmpp" / path).is_dir() else f"{path}.py"


class Options(TestCase):
    """docs/modules.md has each option of each module, with its type and default."""

    def setUp(self) -> None:
        self.rows = tables_of(PAGE)

    def sections(
        self, name: str, model: type[Section], opening: str = "[{}]", taken_over: Collection[str] = ()
    ) -> Iterable[tuple[str, list[Option]]]:
        """The headings that a module needs, and the options below each: its own section, and those within.

        What a section takes over from the one around it is said there.
        """
        options = [option for option in options_of(model).values() if option.name not in taken_over]
        yield (name if opening == "[{}]" and not name.count(".") else opening.format(f"modules.{name}")), options
        for option in options:
            inherited = options_of(model) if option.traits.get("inherits") else ()
            for part in (option.type, *get_args(option.type)):
                if is_section(part) and part is not IqDisc:
                    brackets = "[[{}]]" if part is not option.type and Ellipsis in get_args(option.type) else "[{}]"
                    yield from self.sections(f"{name}.{option.name}", part, brackets, inherited)

    def test_every_option(self) -> None:
        for name, cls in MODULES.items():
            for heading, options in self.sections(name, cls.config_model):
                with self.subTest(heading=heading):
                    documented = {row[0]: (row[1], row[2]) for row in self.rows.get(heading, [])[2:]}
                    # Where only words can say the default, there have to be some.
                    words = {key: default for key, (_, default) in documented.items() if default}
                    expected = {
                        option.name: (type_text(option.type), default_text(option) or words.get(option.name))
                        for option in options
                    }
                    self.assertEqual(
                        {key: tuple(cells(f"|{type_}|{default}|")) for key, (type_, default) in expected.items()},
                        documented,
                    )

    def test_every_module_has_a_heading_and_a_row(self) -> None:
        headings = re.findall(r"^### `(mod_\w+)`$", PAGE.read_text(), re.MULTILINE)
        self.assertEqual(sorted(MODULES), sorted(headings))
        listed = {row[0].split("`")[1]: row[1] for row in self.rows["Which modules a host type has"][2:]}
        self.assertEqual({name: "yes" if name in DEFAULT_MODULES else "no" for name in MODULES}, listed)

    def test_what_is_not_used_is_marked(self) -> None:
        for name, cls in MODULES.items():
            for heading, options in self.sections(name, cls.config_model):
                unused_ones = {option.name for option in options if option.traits.get("unused", False)}
                for row in self.rows.get(heading, [])[2:]:
                    with self.subTest(heading=heading, key=row[0]):
                        unused = row[0] in unused_ones
                        self.assertEqual(unused, row[3].startswith("*unused*"))
                        self.assertTrue(row[3])


class Tables(DatabaseTestCase):
    async def present(self) -> set[str]:
        rows = await self.db.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return {name for (name,) in rows} - {"schema_migrations"}

    async def test_every_table_of_a_module_is_declared(self) -> None:
        for name, cls in MODULES.items():
            with self.subTest(module=name):
                before = await self.present()
                await migrate(self.db, cls.migrations)
                declared = {*(stored.table for stored in cls.stored), *cls.removed_here}
                self.assertEqual(declared, await self.present() - before)

    async def test_primary_keys_begin_with_the_tenant(self) -> None:
        await migrate(self.db, [step for cls in MODULES.values() for step in cls.migrations])
        for name, cls in MODULES.items():
            for stored in cls.stored:
                with self.subTest(module=name, table=stored.table):
                    self.assertEqual("server", stored.domain)
                    self.assertIn(stored.user, (None, "username"))
                    key = await self.primary_key(stored.table)
                    tenant = ["server"] if stored.user is None else ["server", "username"]
                    self.assertEqual(tenant, key[: len(tenant)])

    async def primary_key(self, table: str) -> list[str]:
        rows = await self.db.query(
            """
            SELECT a.attname
            FROM pg_index AS i, unnest(i.indkey) WITH ORDINALITY AS k (number, position), pg_attribute AS a
            WHERE i.indrelid = %s::regclass AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.number
            ORDER BY k.position
            """,
            (table,),
        )
        return [name for (name,) in rows]


STEPS: tuple[Migration, ...] = (
    *RdbmsAuth.migrations,
    *DomainStore.migrations,
    *(step for cls in MODULES.values() for step in cls.migrations),
)
#: All tables with data of tenants.
PLACES: tuple[Stored, ...] = (
    *RdbmsAuth.stored,
    Stored("domain_settings", domain="domain"),
    *(stored for cls in MODULES.values() for stored in cls.stored),
)

#: What a module is told where without anything it would keep nothing.
CONFIGS: dict[str, Section] = {
    "mod_mam_meta": MamConfig(pm=PmArchive(user_prefs_store="rdbms"), muc=MucArchive(host="muclight.@HOST@"))
}

#: What a client does so that each module has something of its account.
REQUESTS = (
    "<query xmlns='jabber:iq:roster'><item jid='benvolio@{domain}' name='B'><group>x</group></item></query>",
    "<vCard xmlns='vcard-temp'><FN>{account}</FN></vCard>",
    "<query xmlns='jabber:iq:private'><note xmlns='urn:example:note'>{account}</note></query>",
    "<block xmlns='urn:xmpp:blocking'><item jid='tybalt@{domain}'/></block>",
    "<prefs xmlns='urn:xmpp:mam:2' default='always'><never><jid>tybalt@{domain}</jid></never><always/></prefs>",
)

#: The same of rooms and their service: a room with a friend, one where the account is alone.
ROOM_REQUESTS = (
    (
        "{name}@muclight.{domain}",
        "<query xmlns='urn:xmpp:muclight:0#create'><occupants><user affiliation='member'>{friend}@{domain}</user>"
        "</occupants></query>",
    ),
    ("{name}-alone@muclight.{domain}", "<query xmlns='urn:xmpp:muclight:0#create'/>"),
    (
        "muclight.{domain}",
        "<query xmlns='urn:xmpp:muclight:0#blocking'><user action='deny'>tybalt@{domain}</user></query>",
    ),
)
#: What the account's rooms are, and who is in them: others' business too.
ROOM_TABLES = {"muc_light_rooms", "muc_light_occupants"}

Row = tuple[str, tuple[Any, ...]]


class LateWrites:
    """The database as modules have it; after `hold()`, statements wait until the remover has emptied the tables."""

    def __init__(self, database: Any) -> None:
        self.query = database.query
        self.transaction = database.transaction
        self.call_soon = database.call_soon
        self._execute = database.execute
        self._gate: Deferred[None] | None = None

    def hold(self) -> None:
        self._gate = Deferred()

    async def execute(self, sql: str, params: Any = ()) -> int:
        gate = self._gate
        if gate is not None:
            passed: Deferred[None] = Deferred()
            gate.chainDeferred(passed)
            await passed
        count: int = await self._execute(sql, params)
        return count

    async def remove_domain(self, domain: str) -> None:
        """The first that the remover asks to forget something: the tables are empty now, and what was held comes."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.callback(None)

    async def remove_account(self, account: JID) -> None:
        """Nothing is held for it."""


@attrs.frozen
class Rows:
    """What is in all tables, with the owner of each row as far as its table is one of tenants."""

    by_owner: Counter[tuple[str | None, str | None, Row]]

    def without(self, domain: str, user: str | None = None) -> Counter[Row]:
        """Those that do not belong to a domain, or to an account."""
        return self._those(lambda owner: owner[0] != domain or (user is not None and owner[1] != user))

    def of(self, domain: str, user: str | None = None) -> Counter[Row]:
        return self._those(lambda owner: owner[0] == domain and user in (None, owner[1]))

    def apart_from_rooms(self) -> "Rows":
        """Without rooms, and without their archives, which have the address of a room for a user."""
        kept = {
            (d, u, row): n
            for (d, u, row), n in self.by_owner.items()
            if not (row[0] in ROOM_TABLES or "@" in (u or ""))
        }
        return Rows(Counter(kept))

    def _those(self, wanted: Any) -> Counter[Row]:
        rows = Counter[Row]()
        for (domain, user, row), count in self.by_owner.items():
            if wanted((domain, user)):
                rows[row] += count
        return rows

    def naming(self, text: str) -> set[str]:
        """The tables that have a row with `text` anywhere in it."""
        return {table for _, _, (table, values) in self.by_owner if any(text in str(value) for value in values)}


class Removal(DatabaseTestCase):
    """All modules on one host type, with accounts in the database, and something of everybody in every table."""

    migrations = STEPS

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        auth = RdbmsAuth(self.db, secret=b"secret", random=Random(1), hashes=("sha1",), iterations=1)
        accounts = Accounts([auth], secret=b"secret", iterations=1)
        self.database = LateWrites(self.db)
        self.host = Host(
            [(cls, CONFIGS[name]) if name in CONFIGS else cls for name, cls in MODULES.items()],
            database=self.database,
            accounts=cast(Any, accounts),
            clock=cast(Any, reactor),
        )
        self.host_type = self.host.host_types[0]
        modules: list[Any] = list(self.host_type)
        self.store = DomainStore(self.db, clock=cast(Any, reactor))
        self.remover = DomainRemover(
            self.store,
            settings_database=self.db,
            auth_places=[Place(self.db, stored) for stored in RdbmsAuth.stored],
            places=[Place(self.db, stored) for module in modules for stored in module.stored],
            forgetful=[self.database, *modules],
        )
        self.host_type.provide(AccountRemover, self.remover)
        await self.host.start()
        self.addCleanup(stop_modules, self.host.host_types)
        self.register: Any = self.host_type.modules["mod_register"]
        self.registered = 0
        for domain in ("montague.example", "capulet.example"):
            await self.store.insert(domain, "basic")
            for name in ("first", "second"):
                await self.create(domain, name)
            await self.live("first", "second", domain)
            await self.live("second", "first", domain)
        await self.written()

    async def create(self, domain: str, name: str) -> None:
        self.registered += 1
        query = domish.Element(("jabber:iq:register", "query"))
        query.addElement("username", content=name)
        query.addElement("password", content="secret")
        await self.register.register(domain, query, f"192.0.2.{self.registered}")

    async def live(self, name: str, friend: str, domain: str) -> TestSession:
        """An account's day: it comes back, does what can be done, and stays, with a message waiting for it."""
        account = f"{name}@{domain}"
        self.session(f"{account}/old").leaves()
        session = self.session(f"{account}/home")
        session.sends("<presence><priority>-1</priority></presence>")
        for number, request in enumerate(REQUESTS):
            xml = request.format(account=account, domain=domain)
            reply = await session.asks(f"<iq type='set' id='{number}'>{xml}</iq>")
            self.assertEqual("result", reply["type"], reply.toXml())
        for number, (to, request) in enumerate(ROOM_REQUESTS):
            address, xml = (text.format(name=name, friend=friend, domain=domain) for text in (to, request))
            reply = await session.asks(f"<iq type='set' id='r{number}' to='{address}'>{xml}</iq>")
            self.assertEqual("result", reply["type"], reply.toXml())
        tokens: Any = self.host_type.modules["mod_fast_auth_token"]
        await tokens.issue(session.jid, "d4565fa7-4d72-4749-b3d3-740edbf87770", "HT-SHA-256-NONE", b"credential")
        session.sends(f"<presence type='subscribe' to='{friend}@{domain}'/>")
        session.sends(f"<message type='chat' to='{friend}@{domain}'><body>from {account}</body></message>")
        await self.written()
        await self.searches(session)
        return session

    async def searches(self, session: TestSession) -> None:
        """Has the words of an archive indexed, as a search does with messages that are old enough."""
        archive: Any = self.host_type.modules["mod_mam_meta"]
        number = await archive.owners.get(session.jid.domain, 0, session.jid.local)
        await self.db.execute(
            "INSERT INTO mam_search SELECT archive, id, array_to_tsvector(ARRAY[%s]) FROM mam_message"
            " WHERE archive = %s ON CONFLICT DO NOTHING",
            (session.jid.domain, number),
        )

    def session(self, jid: str) -> TestSession:
        return self.host.session(jid, account=False)

    async def written(self) -> None:
        """Until what modules write in batches is in the database."""
        await self.host.settle()
        for module in self.host_type:
            writer = getattr(module, "_writer", None) or getattr(module, "store", None)
            if writer is not None:
                await writer.flush()

    async def rows(self) -> Rows:
        columns: dict[str, list[str]] = {}
        for table, column in await self.db.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ):
            columns.setdefault(table, []).append(column)
        archives: dict[str | None, tuple[str | None, str | None]] = {
            str(number): (server, name)
            for number, server, name in await self.db.query("SELECT id, server, name FROM mam_archive")
        }
        found = Counter[tuple[str | None, str | None, Row]]()
        for table, names in columns.items():
            texts = ", ".join(f"{name}::text" for name in names)
            for values in await self.db.query(f"SELECT {texts} FROM {table}"):
                row = dict(zip(names, (unhexed(value) for value in values), strict=True))
                # By the names of the columns, so that a table that nobody has declared is seen too.
                domain, user = archives.get(row.get("archive"), (row.get("server"), row.get("username")))
                if table == "domain_settings":
                    domain = row["domain"]
                elif table == "mam_archive":
                    user = row["name"]
                found[domain, user, (table, tuple(row.values()))] += 1
        return Rows(found)

    async def test_everybody_has_something_in_every_table(self) -> None:
        """Else the tests below would show nothing: a new module has to be given something to keep."""
        rows = await self.rows()
        tables = [(stored.table, stored.user is not None) for stored in PLACES]
        tables += [(table, True) for cls in MODULES.values() for table in cls.removed_here]
        for table, by_user in tables:
            for domain in ("montague.example", "capulet.example"):
                for user in ("first", "second"):
                    with self.subTest(table=table, domain=domain, user=user):
                        owned = rows.of(domain, user if by_user else None)
                        self.assertIn(table, {name for name, _ in owned})
                with self.subTest(table=table, domain=domain):
                    self.assertIn(table, rows.naming(domain))

    async def remove_domain(self, domain: str) -> None:
        """As the server does it: not served any more, sessions end, rows go; some of them are written too late."""
        self.database.hold()
        sender, receiver = self.host.sessions.of_domain(domain)
        text = f"<message type='chat' to='{receiver.jid.bare}'><body>last words</body></message>"
        cast(TestSession, sender).sends(text)
        await self.store.begin_delete(domain, "basic")
        self.host.domains.delete(domain)
        for session in self.host.sessions.of_domain(domain):
            self.host.sessions.remove(session)
            self.host_type.session_ended(session)
        await self.remover.remove_domain(domain)
        await self.written()

    async def test_nothing_is_left_of_a_domain(self) -> None:
        before = await self.rows()
        await self.remove_domain("montague.example")
        after = await self.rows()
        self.assertEqual(Counter(), after.of("montague.example"))
        # The log of changes names it until the entries are old enough, so that other nodes hear of the removal.
        self.assertEqual({"domain_events"}, after.naming("montague.example"))
        change = await self.store.insert("verona.example", "basic")
        await self.store.truncate_log(change.event_id or 0)
        self.assertEqual(set(), (await self.rows()).naming("montague.example"))
        self.assertEqual(
            without_log(before.without("montague.example")), without_log(after.without("montague.example"))
        )

    async def test_a_domain_of_the_same_name_begins_empty(self) -> None:
        await self.remove_domain("montague.example")
        await self.store.insert("montague.example", "basic")
        self.host.domains.insert("montague.example", "basic")
        await self.create("montague.example", "first")
        session = self.session("first@montague.example/home")
        session.sends("<presence/>")
        roster = await session.asks("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
        blocked = await session.asks("<iq type='get' id='2'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
        card = await session.asks("<iq type='get' id='3'><vCard xmlns='vcard-temp'/></iq>")
        service = "to='muclight.montague.example'"
        rooms = await session.asks(
            f"<iq type='get' id='4' {service}><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
        )
        denied = await session.asks(
            f"<iq type='get' id='5' {service}><query xmlns='urn:xmpp:muclight:0#blocking'/></iq>"
        )
        await self.written()
        self.assertEqual([], list(rooms.query.elements()))
        self.assertEqual([], list(denied.query.elements()))
        self.assertEqual([], list(roster.query.elements()))
        self.assertEqual([], list(blocked.blocklist.elements()))
        self.assertEqual("error", card["type"])
        self.assertEqual([], [e.toXml() for e in session.received if e.name == "message"])

    async def rooms(self) -> dict[str, tuple[str, dict[str, int]]]:
        """The version of each room, and its members with their affiliations (1 is an owner)."""
        found: dict[str, tuple[str, dict[str, int]]] = {}
        for room, version, member, affiliation in await self.db.query(
            "SELECT name || '@' || service, version, username || '@' || o.server, affiliation"
            " FROM muc_light_rooms AS r LEFT JOIN muc_light_occupants AS o ON o.room = r.id"
        ):
            found.setdefault(room, (version, {}))[1][member] = affiliation
        return found

    async def check_rooms(
        self, before: dict[str, tuple[str, dict[str, int]]], name: str, friend: str, domain: str
    ) -> None:
        """An account has left the rooms of the time before; others are as they were."""
        after = await self.rooms()
        service = f"muclight.{domain}"
        expected = {room: members for room, (_, members) in before.items()}
        del expected[f"{name}-alone@{service}"]
        for room in (f"{name}@{service}", f"{friend}@{service}"):
            self.assertIn(f"{name}@{domain}", before[room][1])
            self.assertNotEqual(before[room][0], after[room][0], "a new version")
            expected[room] = {f"{friend}@{domain}": 1}
        self.assertEqual(expected, {room: members for room, (_, members) in after.items()})
        others = [room for room in after if not room.endswith(service)]
        self.assertEqual([before[room] for room in others], [after[room] for room in others])
        archives = await self.db.query("SELECT name FROM mam_archive WHERE name LIKE '%@%'")
        self.assertEqual(set(after), {room for (room,) in archives})

    async def test_nothing_is_left_of_an_account(self) -> None:
        before, rooms = await self.rows(), await self.rooms()
        (session,) = self.host.sessions.of("first@montague.example")
        request = "<iq type='set' id='gone'><query xmlns='jabber:iq:register'><remove/></query></iq>"
        reply = await cast(TestSession, session).asks(request)
        self.assertEqual("result", reply["type"], reply.toXml())
        await self.written()
        after = await self.rows()
        self.assertEqual([], self.host.sessions.of("first@montague.example"))
        self.assertEqual(Counter(), after.of("montague.example", "first"))
        self.check_others(before, after, "montague.example", "first")
        await self.check_rooms(rooms, "first", "second", "montague.example")

    def check_others(self, before: Rows, after: Rows, domain: str, name: str) -> None:
        """What is not an account's own, nor its rooms', is as it was."""
        before, after = before.apart_from_rooms(), after.apart_from_rooms()
        self.assertEqual(before.without(domain, name), after.without(domain, name))

    async def test_the_remover_alone_leaves_the_account_to_its_method(self) -> None:
        before, rooms = await self.rows(), await self.rooms()
        await self.remover.remove_account(JID.parse("second@capulet.example"))
        after = await self.rows()
        self.assertEqual({"users"}, {table for table, _ in after.of("capulet.example", "second")})
        self.check_others(before, after, "capulet.example", "second")
        await self.check_rooms(rooms, "second", "first", "capulet.example")


def unhexed(value: str | None) -> str | None:
    """A bytea's text as the text that it holds."""
    if value is None or not value.startswith("\\x"):
        return value
    return bytes.fromhex(value[2:]).decode(errors="replace")


def without_log(rows: Counter[Row]) -> Counter[Row]:
    return Counter({row: count for row, count in rows.items() if row[0] != "domain_events"})
