"""`dynxmpp domain import` and `dynxmpp account import` with the API itself, in front of a real database."""

import csv
import json
import os
import pty
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.rest.server import RestTestCase

DYNXMPP = str(Path(sys.executable).parent / "dynxmpp")


class ImportTestCase(RestTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.file = Path.cwd() / self.mktemp()
        self.errors = self.file.with_suffix(".errors")
        self.environment = {
            "DYNXMPP_URL": f"http://localhost:{self.port}/api",
            "LC_ALL": "C.UTF-8",
            "PATH": os.defpath,
        }

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        command = [DYNXMPP, *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(command, env=self.environment, **options)
        self.addCleanup(process.kill)
        return process

    async def run_cli(self, *arguments: object, stdin: bytes | None = None) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        pipe = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.start(*arguments, stdin=pipe)
        out, errors = await deferToThread(process.communicate, stdin)
        return process.returncode, out.decode(), errors.decode()

    async def imports(self, content: bytes | str, *arguments: object, what: str = "domain") -> tuple[int, str, str]:
        self.file.write_bytes(content.encode() if isinstance(content, str) else content)
        return await self.run_cli(what, "import", self.file, *arguments)

    def served(self) -> dict[str, str]:
        table: Any = self.node.table
        return {name: table.get(name).host_type.name for name in table.dynamic_domains()}


class DomainTests(ImportTestCase):
    async def test_a_file(self) -> None:
        content = "example.org,basic\nEXAMPLE.net , advanced\r\n\n  \nbücher.example,basic"
        self.assertEqual((0, "3 created, 0 there already, 0 failed\n", ""), await self.imports(content))
        expected = {"example.org": "basic", "example.net": "advanced", "bücher.example": "basic"}
        self.assertEqual(expected, self.served())
        content += "\nxn--bcher-kva.example,basic\nnew.example,basic\n"
        self.assertEqual((0, "1 created, 4 there already, 0 failed\n", ""), await self.imports(content))
        status, out, _ = await self.imports(content, "--json")
        self.assertEqual((0, {"created": 0, "exists": 5, "failed": 0}), (status, json.loads(out)))

    async def test_names_of_columns(self) -> None:
        content = '\ufeffNote,"Host_Type",Domain\n"x, y",advanced,a.example\n,,b.example\n,basic,c.example,more\n'
        self.assertEqual(0, (await self.imports(content, "--host-type", "basic"))[0])
        self.assertEqual({"a.example": "advanced", "b.example": "basic", "c.example": "basic"}, self.served())

    async def test_standard_input_and_one_column(self) -> None:
        arguments = ("domain", "import", "-", "--host-type", "basic")
        outcome = await self.run_cli(*arguments, stdin=b"a.example\nb.example\n")
        self.assertEqual((0, "2 created, 0 there already, 0 failed\n", ""), outcome)
        self.assertEqual({"a.example": "basic", "b.example": "basic"}, self.served())
        self.assertEqual((0, "0 created, 0 there already, 0 failed\n", ""), await self.run_cli(*arguments, stdin=b""))

    #: What is wrong with a line, what is told of it, and what is written to a file: domain, host type, reason.
    BAD = (
        (b"a b.example,basic", "invalid domain name: a b.example", ["a b.example", "basic", "invalid domain name"]),
        (b",basic", "invalid domain name", ["", "basic", "invalid domain name"]),
        (b"x.example", "no host type: x.example", ["x.example", "", "no host type"]),
        (b"X.example,gold", "unknown host type: x.example", ["X.example", "gold", "unknown host type"]),
        (b"static.example,basic", "domain is static: static.example", ["static.example", "basic", "domain is static"]),
        (b"there.example,advanced", "duplicate: there.example", ["there.example", "advanced", "duplicate"]),
        (b"\xe9.example,basic", "not in UTF-8: \\udce9.example", ["\udce9.example", "basic", "not in UTF-8"]),
        (b"a\x1b[31m,basic", "invalid domain name: a\\x1b[31m", ["a\x1b[31m", "basic", "invalid domain name"]),
        (b"x" * 5000 + b",basic", "the line is too long", ["", "", "the line is too long"]),
        (b'"x.example,basic', "not comma-separated values: unexpected end of data", ['"x.example,basic', "", ...]),
    )

    async def test_lines_that_fail(self) -> None:
        await self.node.service.insert("there.example", "basic")
        content = b"".join(b"ok%d.example,basic\n%b\n" % (number, bad) for number, (bad, _, _) in enumerate(self.BAD))
        status, out, errors = await self.imports(content)
        self.assertEqual((1, f"{len(self.BAD)} created, 0 there already, {len(self.BAD)} failed\n"), (status, out))
        expected = {f"dynxmpp: line {2 * number + 2}: {told}" for number, (_, told, _) in enumerate(self.BAD)}
        self.assertEqual(expected, set(errors.splitlines()))
        self.assertEqual(
            {"there.example", *(f"ok{number}.example" for number in range(len(self.BAD)))}, {*self.served()}
        )

    async def test_lines_that_fail_in_a_file(self) -> None:
        await self.node.service.insert("there.example", "basic")
        content = b"\n".join(bad for bad, _, _ in self.BAD)
        outcome = await self.imports(content, "--errors", self.errors)
        self.assertEqual((1, f"0 created, 0 there already, {len(self.BAD)} failed\n", ""), outcome)
        self.assertEqual(0o600, stat.S_IMODE(self.errors.stat().st_mode))
        with self.errors.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            first, *rows = csv.reader(file)
        self.assertEqual(["domain", "host_type", "error"], first)
        for _, _, expected in self.BAD:
            found = [row for row in rows if row[:2] == expected[:2] and expected[2] in (row[2], ...)]
            self.assertEqual(1, len(found), (expected, rows))
        # it can be put right and imported
        self.errors.write_text(
            self.errors.read_text(errors="surrogateescape").splitlines()[0] + "\ny.example,basic,why\n"
        )
        outcome = await self.run_cli("domain", "import", self.errors)
        self.assertEqual((0, "1 created, 0 there already, 0 failed\n", ""), outcome)

    async def test_a_dry_run_sends_nothing(self) -> None:
        self.environment["DYNXMPP_URL"] = "http://localhost:9/api"
        content = "a.example,basic\nb.example,basic\na b,basic\nc.example,gold\n"
        status, out, errors = await self.imports(content, "--dry-run")
        self.assertEqual((1, "3 would be created or are there (2 basic, 1 gold), 1 wrong\n"), (status, out))
        self.assertEqual("dynxmpp: line 3: invalid domain name: a b\n", errors)
        status, out, _ = await self.imports("a.example,basic\n", "--dry-run", "--json")
        self.assertEqual(
            (0, {"dry_run": True, "valid": 1, "failed": 0, "host_types": {"basic": 1}}), (status, json.loads(out))
        )

    async def test_files_that_will_not_do(self) -> None:
        self.assertEqual(2, (await self.run_cli("domain", "import", self.file))[0])
        self.assertEqual(2, (await self.run_cli("domain", "import", "/"))[0])
        content = "a.example,basic\n"
        status, _, errors = await self.imports(content, "--errors", self.file)
        self.assertEqual((2, content), (status, self.file.read_text()), errors)
        missing = self.file / "x"
        status, _, errors = await self.imports(content, "--errors", missing)
        self.assertEqual((1, f"dynxmpp: {missing}: Not a directory\n"), (status, errors))
        self.assertEqual({}, self.served())

    async def test_refusals_of_the_whole(self) -> None:
        await self.node.service.stop()
        self.assertEqual(
            (1, "0 created, 0 there already, 0 failed\n", "dynxmpp: service disabled\n"),
            await self.imports("a.example,basic\n"),
        )
        status, out, _ = await self.imports("a.example,basic\n", "--json")
        self.assertEqual((1, {"error": "service disabled", "status": 1}), (status, json.loads(out)))
        self.environment["DYNXMPP_URL"] = "http://localhost:9/api"
        self.assertEqual(5, (await self.imports("a.example,basic\n"))[0])


class InterruptionTests(ImportTestCase):
    def batch(self, number: int) -> Deferred[None]:
        """Fires when that many batches have been inserted."""
        reached: Deferred[None] = Deferred()
        insert_many = self.node.service.insert_many
        count = 0

        async def counted(entries: Any) -> Any:
            nonlocal count
            try:
                return await insert_many(entries)
            finally:
                count += 1
                if count == number:
                    reached.callback(None)

        self.patch(self.node.service, "insert_many", counted)
        return reached

    def stopping(self) -> None:
        Deferred.fromCoroutine(self.db.stop())

    def lines(self, names: Iterable[int]) -> bytes:
        return b"".join(b"d%d.example,basic\n" % number for number in names)

    async def test_it_goes_on_where_it_was(self) -> None:
        reached = self.batch(2)
        process = self.start("domain", "import", "-", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(self.lines(range(1500)))
        process.stdin.flush()
        await reached
        process.send_signal(signal.SIGINT)
        out, errors = await deferToThread(process.communicate)
        self.assertEqual((130, b""), (process.returncode, errors))
        self.assertRegex(out, rb"\A\d+ created, 0 there already, 0 failed\n\Z")
        self.assertEqual(1000, len(self.served()))
        outcome = await self.imports(self.lines(range(1500)))
        self.assertEqual((0, "500 created, 1000 there already, 0 failed\n", ""), outcome)

    async def test_the_database_goes_away(self) -> None:
        self.batch(3).addCallback(lambda _: self.stopping())
        status, out, errors = await self.imports(self.lines(range(3000)), "--errors", self.errors)
        self.assertEqual((6, "1500 created, 0 there already, 500 failed\n"), (status, out))
        self.assertRegex(errors, r"\Adynxmpp: what http://.* answered broke off and is not complete: .*\n\Z")
        self.assertEqual(501, len(self.errors.read_text().splitlines()))
        self.assertEqual(1, len(self.flushLoggedErrors()))

    async def test_a_bar_on_a_terminal(self) -> None:
        self.file.write_bytes(b"a b,basic\n" + self.lines(range(2000)))
        self.environment["TERM"] = "xterm"
        master, slave = pty.openpty()
        process = self.start("domain", "import", self.file, stderr=slave)
        os.close(slave)
        shown = await deferToThread(_all_of, master)
        self.assertEqual(b"2000 created, 0 there already, 1 failed\n", process.communicate()[0])
        self.assertIn("2001 lines", shown)
        self.assertIn("dynxmpp: line 1: invalid domain name: a b\r\n", shown)


class AccountTests(ImportTestCase):
    max_users = 1000

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.node.service.insert("example.org", "basic")

    async def test_accounts(self) -> None:
        content = 'alice@example.org,secret\nBOB@EXAMPLE.org,"pass,w""rd "\nbob@static.example,sécret\n'
        outcome = await self.imports(content, what="account")
        self.assertEqual((0, "3 created, 0 there already, 0 failed\n", ""), outcome)
        for domain, name, password in (
            ("example.org", "alice", "secret"),
            ("example.org", "bob", 'pass,w"rd '),
            ("static.example", "bob", "sécret"),
        ):
            self.assertTrue(await self.accounts.check_password(domain, name, password))
        status, out, _ = await self.imports("password,jid\nother,alice@example.org\n", "--json", what="account")
        self.assertEqual((0, {"created": 0, "exists": 1, "failed": 0}), (status, json.loads(out)))
        self.assertTrue(await self.accounts.check_password("example.org", "alice", "secret"))

    async def test_lines_that_fail_show_no_passwords(self) -> None:
        content = (
            "hunter2,alice@example.org\nbob@example.org/x,hunter2\nexample.org,hunter2\nbob@example.org,\n"
            f"bob@example.org,hunter2{'x' * 1024}\nbob@nowhere.example,hunter2\n"
            '"bob@example.org,hunter2\nok@example.org,hunter2\n'
        )
        status, out, errors = await self.imports(content, what="account")
        self.assertEqual((1, "1 created, 0 there already, 7 failed\n"), (status, out))
        self.assertNotIn("hunter2", errors)
        self.assertEqual(
            [
                "dynxmpp: line 1: not of the form user@domain",
                "dynxmpp: line 2: not of the form user@domain",
                "dynxmpp: line 3: not of the form user@domain",
                "dynxmpp: line 4: invalid password",
                "dynxmpp: line 5: invalid password",
                "dynxmpp: line 6: domain not found: bob@nowhere.example",
                "dynxmpp: line 7: not comma-separated values: unexpected end of data",
            ],
            sorted(errors.splitlines()),
        )
        outcome = await self.imports(content, "--dry-run", "--errors", self.errors, what="account")
        self.assertEqual((1, "2 would be created or are there, 6 wrong\n", ""), outcome)
        self.assertEqual(0o600, stat.S_IMODE(self.errors.stat().st_mode))


def _all_of(master: int) -> str:
    """What is shown on a terminal until nobody writes there any more."""
    shown = b""
    try:
        while data := os.read(master, 65_536):
            shown += data
    except OSError:  # EIO: the other side is closed
        pass
    os.close(master)
    return shown.decode()
