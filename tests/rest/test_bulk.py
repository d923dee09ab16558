"""Many domains with one request: what becomes of each line."""

import json
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from dynxmpp.db.notify import Notifications
from dynxmpp.domains.store import CHANNEL, DomainStatus
from tests.domains.node import Node
from tests.rest.bulk import DOMAINS, BulkTestCase, body_of, domain
from tests.rest.server import at


def created(name: str) -> dict[str, str]:
    return {"domain": name, "result": "created"}


def exists(name: str) -> dict[str, str]:
    return {"domain": name, "result": "exists"}


def wrong(name: str | None, why: str) -> dict[str, str | None]:
    return {"domain": name, "result": "error", "error": why}


class LinesTests(BulkTestCase):
    async def stored(self) -> list[tuple[str, str, DomainStatus]]:
        return [(row.domain, row.host_type, row.status) for row in await self.node.store.browse(limit=100_000)]

    async def events(self) -> list[str]:
        return [
            row[0] for row in await self.db.query("SELECT domain FROM domain_events WHERE domain <> '' ORDER BY id")
        ]

    async def test_domains_are_there_when_their_lines_are(self) -> None:
        names = [f"d{number}.example" for number in range(1200)]
        answer = await self.post(domain(name, ("basic", "advanced")[n % 2]) for n, name in enumerate(names))
        self.assertEqual([created(name) for name in names], answer)
        table: Any = self.node.table
        for number, name in enumerate(names):
            self.assertEqual(("basic", "advanced")[number % 2], table.get(name).host_type.name)
        self.assertEqual(
            sorted((name, ("basic", "advanced")[n % 2], DomainStatus.ENABLED) for n, name in enumerate(names)),
            await self.stored(),
        )
        self.assertEqual(sorted(names), sorted(await self.events()))

    async def test_both_names_of_the_type_and_parameters(self) -> None:
        for number, media_type in enumerate(
            ("application/x-ndjson", "Application/JSONL; charset=utf-8", "application/jsonl")
        ):
            name = f"d{number}.example"
            self.assertEqual([created(name)], await self.post([domain(name)], media_type=media_type))
        for media_type in ("application/json", "text/csv", ""):
            status, _, content = await self.exchange(body_of([domain("x.example")]), DOMAINS, media_type)
            self.assertEqual((415, b""), (status, content))
        self.assertEqual(3, len(await self.stored()))

    async def test_no_lines(self) -> None:
        for body in (b"", b"\n", b"\r\n \n\t\n\n"):
            self.assertEqual([], await self.post_raw(body))

    async def test_ends_of_lines(self) -> None:
        body = (
            b'\n\n{"domain": "a.example", "host_type": "basic"}\r\n  \n {"domain": "b.example", "host_type":"basic"} '
        )
        self.assertEqual([created("a.example"), created("b.example")], await self.post_raw(body))

    async def test_a_wrong_line_harms_no_other(self) -> None:
        long = "x." * 130 + "example"
        cases: list[tuple[Any, str | None, str]] = [
            (b"nonsense", None, "failed to parse JSON"),
            (b"{", None, "failed to parse JSON"),
            (b"[]", None, "failed to parse JSON"),
            (b"null", None, "failed to parse JSON"),
            (b"\xff\xfe", None, "failed to parse JSON"),
            (b"\0", None, "failed to parse JSON"),
            (b"[" * 4000, None, "failed to parse JSON"),
            (b'{"domain": "x.example", "domain": "y.example", "host_type": "basic"}', None, "failed to parse JSON"),
            (b'{"domain": "\\ud800.example", "host_type": "basic"}', None, "failed to parse JSON"),
            (b'{"domain": "x.example"} {"host_type": "basic"}', None, "failed to parse JSON"),
            ({}, None, "'domain' field is missing"),
            ({"host_type": "basic"}, None, "'domain' field is missing"),
            ({"domain": 1, "host_type": "basic"}, None, "'domain' field is missing"),
            ({"domain": "x.example"}, "x.example", "'host_type' field is missing"),
            ({"domain": "x.example", "host_type": None}, "x.example", "'host_type' field is missing"),
            (domain(""), "", "invalid domain name"),
            (domain("a b"), "a b", "invalid domain name"),
            (domain("a..b"), "a..b", "invalid domain name"),
            (domain("a@b"), "a@b", "invalid domain name"),
            (domain("a/b"), "a/b", "invalid domain name"),
            (domain("a\0b"), "a\0b", "invalid domain name"),
            (domain("\u0001.example"), "\u0001.example", "invalid domain name"),
            (domain("x" * 64 + ".example"), "x" * 64 + ".example", "invalid domain name"),
            (domain(long), long, "invalid domain name"),
            (domain("[::1"), "[::1", "invalid domain name"),
            (domain("X.example", "gold"), "x.example", "unknown host type"),
            (domain("x.example", ""), "x.example", "unknown host type"),
            (domain("x.example", "a\0"), "x.example", "unknown host type"),
            (domain("x.example", "static.example"), "x.example", "unknown host type"),
            (domain("STATIC.example"), "static.example", "domain is static"),
            (domain("static.example", "gold"), "static.example", "domain is static"),
        ]
        entries: list[Any] = []
        expected: list[Any] = []
        for number, (line, name, why) in enumerate(cases):
            entries += [line, domain(f"d{number}.example")]
            expected += [wrong(name, why), created(f"d{number}.example")]
        self.assertEqual(expected, await self.post(entries))
        self.assertEqual(len(cases), len(await self.stored()))

    async def test_the_other_dialect(self) -> None:
        entries = [b"{", {}, domain("a..b"), domain("x.example", "gold"), domain("static.example"), domain("x.example")]
        self.assertEqual(
            [
                wrong(None, "Invalid request body"),
                wrong(None, "'domain' field is missing"),
                wrong("a..b", "Invalid domain name"),
                wrong("x.example", "Unknown host type"),
                wrong("static.example", "Domain is static"),
                created("x.example"),
            ],
            await self.post(entries, "/six/domains"),
        )
        answer = await self.post([domain("x.example"), domain("x.example", "advanced"), b"x" * 5000], "/six/domains")
        self.assertEqual(
            [exists("x.example"), wrong("x.example", "Domain already exists"), wrong(None, "Line is too long")], answer
        )

    async def test_long_lines(self) -> None:
        def padded(name: str, length: int) -> bytes:
            line = json.dumps(domain(name)).encode()
            return line + b" " * (length - len(line))

        # in the middle and at the end, in one piece and in many
        body = body_of([padded("a.example", 4096), padded("b.example", 4097), domain("c.example"), b"x" * 500_000])
        too_long = wrong(None, "line is too long")
        self.assertEqual(
            [created("a.example"), too_long, created("c.example"), too_long, created("d.example"), too_long],
            await self.post_raw(body + body_of([domain("d.example")]) + b"y" * 200_000),
        )

    async def test_what_is_there_already(self) -> None:
        for name in ("same.example", "other.example", "off.example", "going.example"):
            await self.node.service.insert(name, "advanced" if name == "other.example" else "basic")
        await self.node.service.set_enabled("off.example", False)
        await self.node.store.begin_delete("going.example", "basic")
        before = await self.events()
        names = ("same.example", "other.example", "off.example", "going.example")
        self.assertEqual(
            [
                exists("same.example"),
                wrong("other.example", "duplicate"),
                exists("off.example"),
                wrong("going.example", "duplicate"),
            ],
            await self.post(domain(name) for name in names),
        )
        self.assertEqual(before, await self.events())
        row = await self.node.store.get("off.example")
        self.assertIs(DomainStatus.DISABLED, row and row.status)
        self.assertNotIn("off.example", self.node.table)

    async def test_the_same_name_twice(self) -> None:
        self.assertEqual(
            [
                created("bücher.example"),
                exists("bücher.example"),
                exists("bücher.example"),
                wrong("bücher.example", "duplicate"),
                created("a.example"),
            ],
            await self.post(
                [
                    domain("xn--bcher-kva.example"),
                    domain("bücher.example"),
                    domain("BÜCHER.example"),
                    domain("bücher.example", "advanced"),
                    domain("a.example"),
                ]
            ),
        )
        self.assertEqual(["a.example", "bücher.example"], sorted(await self.events()))
        # over two batches, the other way round
        fillers = [domain(f"f{number}.example") for number in range(499)]
        answer = await self.post([domain("straße.example"), *fillers, domain("STRASSE.example", "advanced")])
        self.assertEqual(created("strasse.example"), answer[0])
        self.assertEqual(wrong("strasse.example", "duplicate"), answer[-1])

    async def test_addresses_are_names_too(self) -> None:
        names = ["192.0.2.1", "[2001:DB8::1]", "localhost", "example.", "_x.example"]
        shown = ["192.0.2.1", "[2001:db8::1]", "localhost", "example", "_x.example"]
        answers = []
        for name in names:  # as the single request has it
            single = await self.ask("PUT", at("/api", name), {"host_type": "basic"})
            answers.append(single.status)
            if single.status == 204:
                await self.ask("DELETE", at("/api", name), {"host_type": "basic"})
        for name, kept, status, answer in zip(
            names, shown, answers, await self.post(domain(name) for name in names), strict=True
        ):
            self.assertEqual(created(kept) if status == 204 else wrong(name, "invalid domain name"), answer)
        self.assertEqual(204, answers[0])

    async def test_names_that_stand_for_something_else(self) -> None:
        table: Any = self.node.table
        table.register_subdomain("basic", None, "muclight.@HOST@")
        names = ["example.org", "muclight.example.org", "basic", "advanced"]
        self.assertEqual([created(name) for name in names], await self.post(domain(name) for name in names))
        for name in names:
            self.assertEqual("basic", table.get(name).host_type.name)

    async def test_the_service_is_off(self) -> None:
        await self.node.service.stop()
        for lines in ([domain("x.example")], [b"nonsense"]):
            status, _, content = await self.exchange(body_of(lines), DOMAINS, "application/jsonl")
            self.assertEqual((403, {"what": "service disabled"}), (status, json.loads(content)))

    async def test_credentials(self) -> None:
        status, _, content = await self.exchange(
            body_of([domain("x.example")]), "/api-auth/domains", "application/jsonl"
        )
        self.assertEqual((403, {"what": "basic auth is required"}), (status, json.loads(content)))
        self.assertEqual([], await self.stored())

    async def test_one_bad_line_among_many(self) -> None:
        entries: list[Any] = [domain(f"d{number}.example") for number in range(20_000)]
        entries[12_345] = b'{"domain": "d12345.example", "host_type": "basic"'
        answer = await self.post(entries)
        self.assertEqual(20_000, len(answer))
        self.assertEqual(wrong(None, "failed to parse JSON"), answer.pop(12_345))
        self.assertTrue(all(line["result"] == "created" for line in answer))
        self.assertEqual(19_999, len(self.node.table) - 1)
        self.assertEqual(19_999, len(set(await self.events())))
        again = await self.post(entries)
        self.assertEqual({"exists": 19_999, "error": 1}, _counted(again))
        self.assertEqual(19_999, len(await self.events()))

    async def test_two_requests_with_the_same_names(self) -> None:
        """Batches of the same names in opposite orders, so that their transactions meet."""
        names = [f"d{number}.example" for number in range(2000)]
        others = [name for begin in range(0, 2000, 500) for name in reversed(names[begin : begin + 500])]
        requests = [self.post(domain(name) for name in order) for order in (names, others)]
        first, second = await gatherResults([Deferred.fromCoroutine(request) for request in requests])
        outcomes = {result["domain"]: result["result"] for result in second}
        for result in first:
            self.assertEqual({"created", "exists"}, {result["result"], outcomes[result["domain"]]})
        self.assertEqual(sorted(names), sorted(await self.events()))

    async def test_batches_that_wait_for_the_same_name(self) -> None:
        """Their names are taken in one order, so that they wait for each other in one direction only."""
        names = [f"d{number:03}.example" for number in range(500)]
        connection = psycopg2.connect(host=self.settings.host, dbname=self.settings.database, user="dynxmpp")
        self.addCleanup(connection.close)
        connection.cursor().execute(f"INSERT INTO domain_settings (domain, host_type) VALUES ('{names[250]}', 'basic')")
        requests = [self.post(domain(name) for name in order) for order in (names, names[::-1])]
        work = gatherResults([Deferred.fromCoroutine(request) for request in requests])
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while (await self.db.query(waiting))[0][0] < 2:
            pass
        connection.rollback()
        first, second = await work  # after a deadlock one would try again, which takes time, and the clock stands still
        outcomes = {result["domain"]: result["result"] for result in second}
        for result in first:
            self.assertEqual({"created", "exists"}, {result["result"], outcomes[result["domain"]]})


class OtherNodeTests(BulkTestCase):
    async def test_another_node_sees_all(self) -> None:
        there = await Node(self.db, clock=self.clock).start()
        self.addCleanup(there.service.stop)
        await self.post(domain(f"d{number}.example", ("basic", "advanced")[number % 2]) for number in range(3000))
        self.assertEqual({}, there.served())
        there.synchroniser.check_soon()
        await there.polled()
        self.assertEqual(
            {f"d{number}.example": ("basic", "advanced")[number % 2] for number in range(3000)}, there.served()
        )
        self.assertEqual(there.synchroniser._position, self.node.synchroniser._position)

    async def test_a_batch_is_announced_once(self) -> None:
        heard: list[str] = []
        last: Deferred[None] = Deferred()
        notifications = Notifications(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(notifications.stop)

        def hear(payload: str) -> None:
            heard.append(payload)
            if len(heard) == 3:
                last.callback(None)

        notifications.subscribe(CHANNEL, hear, on_reconnect=lambda: None)
        await notifications.start()
        await self.post(domain(f"d{number}.example") for number in range(1000))
        await self.post(domain(f"d{number}.example") for number in range(1000))  # nothing new
        await self.post([domain("last.example")])
        await last
        ids = [row[0] for row in await self.db.query("SELECT id FROM domain_events WHERE domain <> '' ORDER BY id")]
        self.assertEqual([str(ids[499]), str(ids[999]), str(ids[1000])], heard)

    async def test_what_another_node_did_and_this_one_has_not_heard_of(self) -> None:
        there = await Node(self.db, clock=self.clock).start()
        self.addCleanup(there.service.stop)
        await there.service.insert("new.example", "basic")
        self.assertNotIn("new.example", self.node.table)
        self.assertEqual(
            [exists("new.example"), created("x.example")],
            await self.post([domain("new.example"), domain("x.example")]),
        )
        self.assertIn("new.example", self.node.table)


def _counted(results: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        counts[result["result"]] = counts.get(result["result"], 0) + 1
    return counts
