"""The console command against a running server: what it does, what it prints, its exit status."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.lines import LineProcess
from tests.fixtures.server import free_port
from tests.interop.slix import logs_in
from tests.interop.test_first_minute import ShippedServer

DYNXMPP = str(Path(sys.executable).parent / "dynxmpp")


class Command(ShippedServer):
    async def run_cli(self, *arguments: str, stdin: str = "", url: str | None = None) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)."""
        process = LineProcess(
            [DYNXMPP, *arguments],
            cwd=str(self.folder),
            env={"DYNXMPP_URL": url or self.api, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
        if stdin:
            process.write_line(stdin)
        status = await process.when_ended()
        return status, "\n".join(process.lines), "\n".join(process.errors)

    async def gives(self, *arguments: str, **options: Any) -> Any:
        """The JSON of a command that succeeds."""
        status, out, errors = await self.run_cli(*arguments, "--json", **options)
        self.assertEqual((0, ""), (status, errors), arguments)
        return json.loads(out)

    async def test_a_domains_life(self) -> None:
        self.assertEqual((0, "example.org: added", ""), await self.run_cli("domain", "add", "EXAMPLE.org", "basic"))
        shown = await self.gives("domain", "show", "example.org")
        self.assertEqual([{"domain": "example.org", "host_type": "basic", "enabled": True}], shown)
        await self.gives("domain", "disable", "example.org")
        self.assertEqual((0, "example.org\tbasic\tno", ""), await self.run_cli("domain", "list"))
        await self.gives("domain", "enable", "example.org")
        self.assertEqual([], await self.gives("domain", "list", "--host-type", "advanced"))
        self.assertEqual(1, len(await self.gives("domain", "list", "--prefix", "exam", "--limit", "5")))
        await self.gives("domain", "remove", "example.org", "basic", "--yes")
        self.assertEqual([], await self.gives("domain", "list"))

    async def test_accounts_and_sessions(self) -> None:
        await self.gives("domain", "add", "example.org", "basic")
        await self.gives("account", "register", "alice@example.org", "--password", "first")
        await self.gives("account", "register", "bob@example.org", "--password-stdin", stdin="bob's")
        self.assertEqual(
            (0, "alice@example.org\nbob@example.org", ""), await self.run_cli("account", "list", "example.org")
        )
        await self.gives("account", "passwd", "alice@example.org", "--password", "alice's")
        alice = await logs_in(self, "alice@example.org/phone", "alice's", self.starttls)
        await logs_in(self, "bob@example.org/laptop", "bob's", self.starttls)
        sessions = await self.gives("session", "list", "example.org")
        self.assertEqual(["alice@example.org/phone", "bob@example.org/laptop"], sorted(row["jid"] for row in sessions))
        await self.gives("session", "end", "alice@example.org/phone")
        await alice.event("stream_error")
        await self.gives("account", "unregister", "bob@example.org", "--yes")
        self.assertEqual(
            ["alice@example.org"], [row["jid"] for row in await self.gives("account", "list", "example.org")]
        )

    async def test_exit_statuses(self) -> None:
        await self.gives("domain", "add", "example.org", "basic")
        for arguments, status, reason in [
            (("domain", "add", "example.org", "advanced"), 4, "duplicate"),
            (("domain", "add", "example.net", "gold"), 1, "unknown host type"),
            (("domain", "add", "localhost", "basic"), 1, "domain is static"),
            (("domain", "show", "nowhere.example"), 3, "domain not found"),
            (("domain", "remove", "example.org", "advanced", "--yes"), 1, "wrong host type"),
            (("account", "list", "nowhere.example"), 3, "domain not found"),
        ]:
            self.assertEqual((status, "", f"dynxmpp: {reason}"), await self.run_cli(*arguments), arguments)
            code, out, errors = await self.run_cli(*arguments, "--json")
            self.assertEqual((status, {"error": reason, "status": status}, ""), (code, json.loads(out), errors))
        for arguments in [
            ("domain", "add", "a..b", "basic"),
            ("account", "register", "example.org", "--password", "x"),
            ("account", "list", "@"),
            ("session", "end", "alice@example.org"),
            ("nonsense",),
            ("domain", "add"),
        ]:
            status, _, errors = await self.run_cli(*arguments)
            self.assertEqual(2, status, arguments)
            self.assertIn("Usage:", errors)
        status, out, errors = await self.run_cli("domain", "list", url=f"http://localhost:{free_port()}/api")
        self.assertEqual((5, ""), (status, out))
        self.assertEqual(1, len(errors.splitlines()))

    async def test_check(self) -> None:
        status, out, errors = await self.run_cli("check", str(self.server.config))
        self.assertEqual((0, f"{self.server.config}: valid", ""), (status, out, errors))
        bad = self.folder / "bad.toml"
        bad.write_text("[general]\nhost = ['x']\n[listne]\n")
        status, out, errors = await self.run_cli("check", str(bad))
        self.assertEqual((1, "", 3), (status, out, len(errors.splitlines())))
        status, out, _ = await self.run_cli("check", str(bad), "--json")
        self.assertEqual((1, False, 3), (status, json.loads(out)["valid"], len(json.loads(out)["problems"])))
