"""A domain with everything leaves, arrives under another name, and comes back."""

from typing import Any

from dynxmpp.jid import JID
from dynxmpp.wire.parse import parse_stanza
from tests.fixtures.dialogue import canonical
from tests.portability.support import PortabilityCase, accounts_in
from tests.test_every_module import MODULES

#: What is of an account and does not travel: tokens to log in with.
STAYS = {"fast_token"}

#: Rows of an account in a form in which they can be compared; columns that are addresses of stanzas come last.
TABLES = {
    "users": "SELECT username, password, pass_details FROM users WHERE server = %s ORDER BY 1",
    "rosters": "SELECT username, contact, name, groups, subscription, ask, listed, request FROM rosters"
    " WHERE server = %s ORDER BY 1, 2",
    "vcard": "SELECT username, vcard FROM vcard WHERE server = %s ORDER BY 1",
    "private_storage": "SELECT username, namespace, name, data FROM private_storage WHERE server = %s ORDER BY 1, 2, 3",
    "blocklist": "SELECT username, jid FROM blocklist WHERE server = %s ORDER BY 1, 2",
    "last_activity": "SELECT username, logged_out, status FROM last_activity WHERE server = %s ORDER BY 1",
    "offline_message": "SELECT username, sent_at, stanza FROM offline_message WHERE server = %s ORDER BY 1, id, uid",
    "muc_light_blocking": "SELECT username, kind, who FROM muc_light_blocking WHERE server = %s ORDER BY 1, 2, 3",
    "mam_message": "SELECT a.name, m.id, remote, resource, outgoing, groupchat, source, origin_id, stanza"
    " FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive"
    " WHERE a.server = %s AND a.kind = 0 ORDER BY 1, 2",
    "mam_preference": "SELECT a.name, remote, behaviour"
    " FROM mam_preference AS p JOIN mam_archive AS a ON a.id = p.archive"
    " WHERE a.server = %s AND a.kind = 0 ORDER BY 1, 2",
}


class RoundTrip(PortabilityCase):
    async def stored(self, domain: str) -> dict[str, list[tuple[Any, ...]]]:
        """What is in the tables of a domain, under the name montague.example."""
        return {
            table: [tuple(self.value(value, domain) for value in row) for row in await self.query(sql, domain)]
            for table, sql in TABLES.items()
        }

    def value(self, value: Any, domain: str) -> Any:
        text = bytes(value).decode() if isinstance(value, (bytes, memoryview)) else value
        if not isinstance(text, str):
            return value
        renamed = text.replace(f"@{domain}", "@montague.example")
        if renamed.startswith(("<message", "<presence")):
            return canonical(parse_stanza(renamed.encode()))
        return renamed

    async def remove(self, domain: str) -> None:
        for name in await self.usernames(domain):
            for session in self.host.sessions.of(f"{name}@{domain}"):
                self.host.sessions.remove(session)
                self.host_type.session_ended(session)
            await self.written()
            await self.accounts.remove(domain, name)
            await self.remover.remove_account(JID.of(name, domain))

    async def test_there_and_back(self) -> None:
        # The sessions of `live` are over before, so that nothing is written of them meanwhile.
        for session in list(self.host.sessions.of_domain("montague.example")):
            self.host.sessions.remove(session)
            self.host_type.session_ended(session)
        await self.written()
        before = await self.stored("montague.example")
        for table, rows in before.items():
            self.assertTrue(rows, table)
        leaving = await self.export("montague.example")

        report = await self.take(leaving, "verona.example", "montague.example")
        self.assertEqual([], report.problems)
        self.assertEqual({}, dict(report.unknown))
        self.assertEqual({"created": 2}, dict(report.accounts))
        self.assertEqual(before, await self.stored("verona.example"))

        await self.remove("montague.example")
        self.assertEqual({table: [] for table in TABLES}, await self.stored("montague.example"))
        returning = await self.export("verona.example")
        await self.take(returning, "montague.example", "verona.example")
        self.assertEqual(before, await self.stored("montague.example"))
        again = await self.export("montague.example")
        self.assertEqual(accounts_in(leaving, "montague.example"), accounts_in(again, "montague.example"))

    async def test_every_table_with_accounts_takes_part(self) -> None:
        """A new module that keeps something of accounts has to say how it travels."""
        tables = {stored.table for cls in MODULES.values() for stored in cls.stored if stored.user is not None}
        travelling = set(TABLES) | {"roster_versions"}
        self.assertEqual(set(), tables - travelling - STAYS)

    async def test_a_second_time_nothing_changes(self) -> None:
        leaving = await self.export("montague.example")
        await self.take(leaving, "verona.example", "montague.example")
        once = await self.stored("verona.example")
        report = await self.take(leaving, "verona.example", "montague.example")
        self.assertEqual({"existing": 2}, dict(report.accounts))
        self.assertEqual([], report.problems)
        self.assertEqual(once, await self.stored("verona.example"))

    async def test_into_the_domain_that_it_is_from(self) -> None:
        before = await self.stored("montague.example")
        await self.take(await self.export("montague.example"), "montague.example")
        self.assertEqual(before, await self.stored("montague.example"))

    async def test_those_who_have_arrived_log_in(self) -> None:
        await self.take(await self.export("montague.example"), "verona.example", "montague.example")
        self.assertTrue(await self.accounts.check_password("verona.example", "first", "secret"))
        self.assertFalse(await self.accounts.check_password("verona.example", "first", "other"))
        record = await self.accounts.scram_record("verona.example", "first", "sha1")
        self.assertEqual(await self.accounts.scram_record("montague.example", "first", "sha1"), record)
