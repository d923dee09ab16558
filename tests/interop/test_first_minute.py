"""The first screen of the README, done by real clients: the shipped configuration, two domains, a chat between them."""

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.fixtures.http import request
from tests.fixtures.server import PROJECT, ServerProcess, free_port, temporary_folder
from tests.interop.slix import logs_in


class ShippedServer(TestCase):
    """The server with etc/dynxmpp.toml, on free ports."""

    timeout = 60

    async def setUp(self) -> None:
        folder = temporary_folder(self)
        self.starttls, self.direct, self.http = free_port(), free_port(), free_port()
        text = (PROJECT / "etc" / "dynxmpp.toml").read_text()
        for shipped, free in (("5222", self.starttls), ("5223", self.direct), ("8088", self.http)):
            self.assertEqual(1, text.count(f"port = {shipped}"))
            text = text.replace(
                f"port = {shipped}",
                f'ip_address = "127.0.0.1"\nport = {free}' if shipped != "8088" else f"port = {free}",
            )
        (folder / "etc").mkdir()
        config = folder / "etc" / "dynxmpp.toml"
        config.write_text(text)
        self.folder: Path = folder
        self.server = ServerProcess(config)
        self.addCleanup(self.server.clean_up)
        await self.server.start()
        self.api = f"http://localhost:{self.http}/api"

    async def two_domains(self) -> None:
        for domain, host_type in (("example.org", "basic"), ("example.net", "advanced")):
            answer = await request("PUT", f"{self.api}/domains/{domain}", {"host_type": host_type})
            self.assertEqual((204, None), answer)
        for domain, username in (("example.org", "alice"), ("example.net", "bob")):
            status, _ = await request(
                "POST", f"{self.api}/users/{domain}", {"username": username, "password": f"{username}'s secret"}
            )
            self.assertEqual(201, status)


class FirstMinute(ShippedServer):
    async def test_a_chat_between_two_domains(self) -> None:
        await self.two_domains()
        alice = await logs_in(self, "alice@example.org/phone", "alice's secret", self.starttls)
        bob = await logs_in(self, "bob@example.net/laptop", "bob's secret", self.direct, "tls")

        alice.does("subscribe", to="bob@example.net")
        await alice.event("available", sender="bob@example.net/laptop")
        await bob.event("available", sender="alice@example.org/phone")

        alice.does("message", to="bob@example.net", body="Hello from the other company \N{WAVING HAND SIGN} <&>")
        heard = await bob.event("message")
        self.assertEqual("alice@example.org/phone", heard["sender"])
        self.assertEqual("Hello from the other company \N{WAVING HAND SIGN} <&>", heard["body"])
        bob.does("message", to=heard["sender"], body="and back")
        self.assertEqual("and back", (await alice.event("message"))["body"])

        bob.does("roster")
        self.assertEqual("both", (await bob.event("roster"))["items"]["alice@example.org"])
        bob.does("quit")
        await alice.event("unavailable", sender="bob@example.net/laptop")

    async def test_what_is_sent_to_nobody_waits(self) -> None:
        await self.two_domains()
        alice = await logs_in(self, "alice@example.org/phone", "alice's secret", self.starttls)
        for number in range(5):
            alice.does("message", to="bob@example.net", body=f"message {number}")
        alice.does("roster")
        await alice.event("roster")
        bob = await logs_in(self, "bob@example.net/laptop", "bob's secret", self.starttls)
        heard = [await bob.event("message") for _ in range(5)]
        self.assertEqual([f"message {number}" for number in range(5)], [m["body"] for m in heard])
        self.assertTrue(all(m["delayed"] for m in heard))

    async def test_a_wrong_password(self) -> None:
        await self.two_domains()
        from tests.interop.slix import SlixClient

        mallory = SlixClient("alice@example.org/x", "guess", self.starttls, "starttls")
        self.addCleanup(mallory.clean_up)
        await mallory.event("failed_auth")

    async def test_a_domain_that_goes_takes_its_sessions_along(self) -> None:
        await self.two_domains()
        alice = await logs_in(self, "alice@example.org/phone", "alice's secret", self.starttls)
        bob = await logs_in(self, "bob@example.net/laptop", "bob's secret", self.starttls)
        answer = await request("PATCH", f"{self.api}/domains/example.org", {"enabled": False})
        self.assertEqual(204, answer[0])
        self.assertEqual("host-gone", (await alice.event("stream_error"))["condition"])
        bob.does("roster")
        await bob.event("roster")

    async def test_sigterm_ends_in_order_and_data_stays(self) -> None:
        await self.two_domains()
        alice = await logs_in(self, "alice@example.org/phone", "alice's secret", self.starttls)
        self.assertEqual(0, await self.server.stop())
        self.assertEqual("system-shutdown", (await alice.event("stream_error"))["condition"])
        await self.server.start()
        await logs_in(self, "alice@example.org/phone", "alice's secret", self.starttls)
        self.assertEqual(
            (200, {"host_type": "advanced", "enabled": True}), await request("GET", f"{self.api}/domains/example.net")
        )

    async def test_sighup_reloads(self) -> None:
        config = self.server.config
        config.write_text(config.read_text().replace('loglevel = "info"', 'loglevel = "debug"'))
        self.server.reload()
        self.assertEqual("debug", (await self.server.event("reloaded"))["loglevel"])
        config.write_text("[general")
        self.server.reload()
        await self.server.event("reload_refused")
        self.assertEqual(404, (await request("GET", f"{self.api}/domains/example.org"))[0])
