"""The export of an account's personal data: of every module that is installed, values of all kinds, and errors."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import treq
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed

from dynxmpp.core.host_type import HostType
from dynxmpp.domains.personal_data import PAGE_ROWS
from dynxmpp.jid import JID
from dynxmpp.module import Migration, Module, PersonalTable, Stored
from dynxmpp.module_loader import stop_modules
from dynxmpp.rest.dialect import FIVE
from dynxmpp.rest.personal_data import lines_of
from dynxmpp.rest.site import AdminSite, Mount
from dynxmpp.rest.users import UsersApi
from tests import test_every_module as every
from tests.fixtures.dialogue import Host
from tests.fixtures.postgres import DatabaseTestCase

FIRST = JID.parse("first@montague.example")
Line = tuple[str, str, dict[str, Any]]


async def export(account: JID, host_types: Iterable[HostType]) -> list[Line]:
    """The lines, and that they are what they must be."""
    content = b"".join([chunk async for chunk in lines_of(account, host_types)])
    return parse(content)


def parse(content: bytes) -> list[Line]:
    assert not content or content.endswith(b"\n")
    objects = [json.loads(line) for line in content.splitlines()]
    assert all(set(entry) == {"module", "table", "row"} for entry in objects)
    return [(entry["module"], entry["table"], entry["row"]) for entry in objects]


def _but_affiliation(line: Line) -> Line:
    """A room that loses its owner gets a new one: that is of nobody else."""
    module, table, row = line
    return module, table, {column: value for column, value in row.items() if column != "affiliation"}


class EveryModule(every.Removal):
    """All modules on one host type; `first` and `second` of two domains have something in each."""

    async def export_first(self) -> list[Line]:
        return await export(FIRST, self.host.host_types)

    async def count(self, stored: Stored, account: JID) -> int:
        condition = f'"{stored.domain}" = %s AND "{stored.user}" = %s'
        sql = f'SELECT count(*) FROM "{stored.table}" WHERE {condition}'
        return int((await self.db.query(sql, (account.domain, account.local)))[0][0])

    async def test_rows_of_declared_tables_come_with_all_their_columns(self) -> None:
        lines = await self.export_first()
        for name, cls in every.MODULES.items():
            if cls.personal_data is not Module.personal_data:
                continue
            for stored in cls.stored:
                rows = [row for module, table, row in lines if (module, table) == (name, stored.table)]
                if stored.user is None:
                    self.assertEqual([], rows)
                    continue
                with self.subTest(module=name, table=stored.table):
                    hidden = {stored.domain, stored.user, *cls.secret_columns}
                    columns = [
                        column
                        for (column,) in await self.db.query(
                            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (stored.table,)
                        )
                        if column not in hidden
                    ]
                    expected = [set(columns)] * await self.count(stored, FIRST)
                    self.assertEqual(expected, [set(row) for row in rows])

    async def test_each_module_that_keeps_something_hands_it_out(self) -> None:
        exported = {module for module, _, _ in await self.export_first()}
        owned = {table for table, _ in (await self.rows()).of(FIRST.domain, FIRST.local)}
        keeping = {
            name
            for name, cls in every.MODULES.items()
            if owned & {*cls.removed_here, *(stored.table for stored in cls.stored)}
        }
        self.assertLess({"mod_mam_meta", "mod_roster", "mod_vcard"}, keeping)
        self.assertEqual(keeping, exported)

    async def test_nothing_of_anybody_else(self) -> None:
        for other in ("second@montague.example", "first@capulet.example"):
            account = JID.parse(other)
            before = Counter(map(repr, map(_but_affiliation, await self.export_first())))
            await self.remover.remove_account(account)
            after = Counter(map(repr, map(_but_affiliation, await self.export_first())))
            self.assertEqual(before, after, other)
        await self.remover.remove_account(FIRST)
        self.assertEqual([], await self.export_first())

    async def test_nothing_that_lets_anybody_log_in(self) -> None:
        secrets = await self.db.query(
            "SELECT convert_from(token, 'UTF8') FROM fast_token"
            " UNION SELECT convert_from(credential, 'UTF8') FROM fast_token"
            " UNION SELECT password FROM users UNION SELECT pass_details FROM users"
        )
        text = json.dumps(await self.export_first(), ensure_ascii=False)
        self.assertIn("d4565fa7-4d72-4749-b3d3-740edbf87770", text)  # the client that has a token
        told = {secret for (secret,) in secrets if secret}
        self.assertGreater(len(told), 4)
        self.assertEqual(set(), {secret for secret in told if secret in text})

    async def test_two_host_types_with_one_database(self) -> None:
        other = await Host(
            [(cls, every.CONFIGS[name]) if name in every.CONFIGS else cls for name, cls in every.MODULES.items()],
            database=self.database,
            domains=(),
            accounts=self.host.accounts,
        ).start()
        self.addCleanup(stop_modules, other.host_types)
        lines = await self.export_first()
        self.assertEqual(lines, await export(FIRST, [*self.host.host_types, *other.host_types]))

    # -- by HTTP

    def listen(self) -> None:
        async def remove(account: JID) -> None: ...

        table: Any = self.host.domains
        users = UsersApi(table, self.host.sessions, remove_account=remove, host_types=self.host.host_types)
        mount = Mount(FIVE, host="_", path="/api", apis=[users], username="admin", password="secret")
        site: Any = AdminSite([mount], clock=reactor)
        listening: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.url = f"http://127.0.0.1:{listening.getHost().port}/api/users"

    async def get(self, path: str, password: str = "secret") -> tuple[int, bytes]:
        pool = HTTPConnectionPool(reactor, persistent=False)
        response = await treq.get(f"{self.url}/{path}", agent=Agent(reactor, pool=pool), auth=("admin", password))
        return response.code, await response.content()

    async def test_by_http(self) -> None:
        self.listen()
        status, content = await self.get("MONTAGUE.example/First/personal-data")
        self.assertEqual((200, await self.export_first()), (status, parse(content)))

    async def test_by_the_console_command(self) -> None:
        self.listen()
        out, errors, status = await getProcessOutputAndValue(
            str(Path(sys.executable).parent / "dynxmpp"),
            ["account", "data", FIRST.bare, "--url", self.url.removesuffix("/users"), "--user", "admin:secret"],
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            reactor=reactor,
        )
        self.assertEqual((0, b"", await self.export_first()), (status, errors, parse(out)))

    async def test_refusals(self) -> None:
        self.listen()
        for path, status, what in (
            ("montague.example/nobody", 404, "user not found"),
            ("verona.example/first", 404, "domain not found"),
            ("montague.example/a%20b", 400, "invalid user name"),
        ):
            answer = (status, json.dumps({"what": what}).encode())
            self.assertEqual(answer, await self.get(f"{path}/personal-data"), path)
        status, content = await self.get("montague.example/first/personal-data", "wrong")
        self.assertEqual((403, b'{"what": "basic auth provided, invalid password"}'), (status, content))

    async def test_a_database_that_is_away(self) -> None:
        self.listen()
        await self.db.stop(grace_s=0)
        self.assertEqual((500, b'{"what": "database error"}'), await self.get("montague.example/first/personal-data"))

    async def test_a_database_that_goes_away_in_the_middle(self) -> None:
        self.listen()
        query = self.database.query
        pages = 0

        async def fails(sql: str, params: Sequence[object] = ()) -> Any:
            nonlocal pages
            pages += FIRST.local in params
            if pages == 5:
                raise ZeroDivisionError
            return await query(sql, params)

        self.database.query = fails
        with self.assertRaises(ResponseFailed):
            await self.get("montague.example/first/personal-data")
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_an_account_that_is_removed_in_the_middle(self) -> None:
        whole = await self.export_first()
        chunks = lines_of(FIRST, self.host.host_types)
        first = await anext(chunks)
        await self.remover.remove_account(FIRST)
        rest = b"".join([chunk async for chunk in chunks])
        self.assertEqual([], parse(rest))
        self.assertEqual(whole[: len(parse(first))], parse(first))


for _name in [name for name in dir(every.Removal) if name.startswith("test_")]:
    setattr(EveryModule, _name, None)  # they are run where they stand


VALUES = """
CREATE TABLE "odd ""name"" 100%" (
    server text, "user %" text, "a ""column"" 100%" text, flag boolean, whole bigint, exact numeric, real float8,
    moment timestamptz, local timestamp, day date, hour time, id uuid, document jsonb, list text[], text bytea,
    bytes bytea, nothing text, PRIMARY KEY (server, "user %")
);
INSERT INTO "odd ""name"" 100%" VALUES (
    'montague.example', 'first', 'ä"', true, 1, 1.50, 'infinity', '2020-01-01 12:00:00.25+02', '2020-01-01 12:00',
    '2020-01-01', '12:00', 'd4565fa7-4d72-4749-b3d3-740edbf87770', '{"a": [1, null]}', '{x,NULL}', 'grün'::bytea,
    '\\xff00', NULL
);
CREATE TABLE many (
    number bigint, at timestamptz, server text, id uuid, name text, username text, data bytea,
    PRIMARY KEY (server, username, name, at, id, number)
);
INSERT INTO many
SELECT n, to_timestamp(n %% 3 + 0.000001), server, md5((n %% 50)::text)::uuid, 'n''' || n %% 2, username, '\\x00'
FROM generate_series(1, {rows}) AS n, (VALUES ('montague.example'), ('x')) AS a (server),
    (VALUES ('first'), ('second')) AS b (username);
CREATE TABLE unkeyed (server text, username text, note text);
INSERT INTO unkeyed VALUES ('montague.example', 'first', 'same'), ('montague.example', 'first', 'same');
CREATE TABLE of_domains (server text PRIMARY KEY, note text);
INSERT INTO of_domains VALUES ('montague.example', 'not of an account');
"""
MANY = 2 * PAGE_ROWS + 1


class Odd(Module):
    """Tables of all kinds, which the author of a module may think of."""

    name = "mod_odd"
    stored = (
        Stored('odd "name" 100%', domain="server", user="user %"),
        Stored("many", domain="server", user="username"),
        Stored("unkeyed", domain="server", user="username"),
        Stored("of_domains", domain="server"),
    )
    migrations = (Migration("mod_odd", 1, "odd", VALUES.replace("{rows}", str(MANY)).replace("%%", "%")),)


class More(Module):
    """One that adds to what is declared, and has secrets of its own."""

    name = "mod_more"
    stored = (Stored("many", domain="server", user="username"),)
    secret_columns: ClassVar[frozenset[str]] = frozenset({"id", "name", "at", "data"})

    async def personal_data(self, account: JID) -> Sequence[PersonalTable]:
        async def pages() -> Any:
            yield [(account.full, b"text")]
            yield []
            yield [(account.full, b"more")]

        return [*await super().personal_data(account), PersonalTable("own", ("jid", "kind"), pages())]


class Declared(DatabaseTestCase):
    migrations = Odd.migrations

    async def export(self, *modules: type[Module]) -> list[Line]:
        host = await Host(modules, database=self.db).start()
        return await export(FIRST, host.host_types)

    async def test_values_of_all_types(self) -> None:
        lines = await self.export(Odd)
        ((_, _, row),) = [line for line in lines if line[1] == 'odd "name" 100%']
        self.assertEqual(
            {
                'a "column" 100%': 'ä"',
                "flag": True,
                "whole": 1,
                "exact": "1.50",
                "real": "inf",
                "moment": "2020-01-01T10:00:00.250000Z",
                "local": "2020-01-01T12:00:00",
                "day": "2020-01-01",
                "hour": "12:00:00",
                "id": "d4565fa7-4d72-4749-b3d3-740edbf87770",
                "document": {"a": [1, None]},
                "list": ["x", None],
                "text": "grün",
                "bytes": {"base64": "/wA="},
                "nothing": None,
            },
            row,
        )

    async def test_pages_by_a_key_of_many_types(self) -> None:
        rows = [row for _, table, row in await self.export(Odd) if table == "many"]
        self.assertEqual(sorted(range(1, MANY + 1)), sorted(row["number"] for row in rows))
        self.assertEqual(rows, sorted(rows, key=lambda row: (row["name"], row["at"], row["id"], row["number"])))
        self.assertEqual({("number", "at", "id", "name", "data")}, {tuple(row) for row in rows})

    async def test_a_table_without_a_key_is_read_at_once(self) -> None:
        rows = [row for _, table, row in await self.export(Odd) if table == "unkeyed"]
        self.assertEqual([{"note": "same"}] * 2, rows)

    async def test_tables_of_domains_only_are_not_personal(self) -> None:
        self.assertEqual([], [line for line in await self.export(Odd) if line[1] == "of_domains"])

    async def test_a_module_that_says_more(self) -> None:
        lines = await self.export(More)
        declared = [row for module, table, row in lines if (module, table) == ("mod_more", "many")]
        self.assertEqual({("number",)}, {tuple(row) for row in declared})
        self.assertEqual(MANY, len(declared))  # the columns that are not handed out lead through the pages still
        own = [row for _, table, row in lines if table == "own"]
        self.assertEqual([{"jid": FIRST.full, "kind": kind} for kind in ("text", "more")], own)
