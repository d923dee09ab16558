"""slixmpp, a client that others wrote, against what the server promises of messages: resumption, archive, copies."""

import json
import random
from typing import Any

from tests.interop.databases import until
from tests.interop.slix import SlixClient
from tests.interop.two_domains import ALICE, BOB, CAROL, TwoDomains

SEED = 20
#: Of each of the two that talk.
MESSAGES = 200
DROPS = 5


class ReliableClient(SlixClient):
    program = "tests.interop.slixmpp_reliable"

    def told(self, name: str) -> list[dict[str, Any]]:
        """All events of this name up to now, read or not."""
        events = [json.loads(line) for line in self.process.lines]
        return [event for event in events if event["event"] == name]

    async def asks(self, what: str, answer: str | None = None, **fields: Any) -> dict[str, Any]:
        """Does something that is answered with one event."""
        self.does(what, **fields)
        return await self.event(answer or what)

    async def refused(self, what: str, **fields: Any) -> tuple[str, str]:
        """Does something that the server refuses: condition and type of its error."""
        event = await self.asks(what, "refused", **fields)
        return event["condition"], event["type"]

    async def heard(self, count: int) -> list[dict[str, Any]]:
        """The next messages."""
        return [await self.event("message") for _ in range(count)]

    async def quiet(self) -> None:
        """What was on its way to the client has come."""
        await self.asks("ping", "pong")


class ReliabilityTest(TwoDomains):
    async def logs_in(self, jid: str, resource: str, *options: str) -> ReliableClient:
        """A client whose stream is managed, and which has sent presence unless it is `quiet`."""
        client = ReliableClient(f"{jid}/{resource}", jid, self.starttls, "starttls", *options)
        self.addCleanup(client.clean_up)
        await client.event("started")
        await client.event("managed")
        return client


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["body"] for message in messages]


class Resumption(ReliabilityTest):
    async def test_a_conversation_over_a_bad_line(self) -> None:
        alice, bob = await self.logs_in(ALICE, "phone"), await self.logs_in(BOB, "phone")
        rng = random.Random(SEED)
        drops: dict[str, list[tuple[int, int]]] = {"alice": [], "bob": []}
        # Far enough from each other, so that none falls into the hole of another.
        for moment in rng.sample(range(5, MESSAGES - 10, 10), DROPS):
            drops[rng.choice(("alice", "bob"))].append((moment + rng.randrange(4), rng.randrange(5)))
        self.assertTrue(all(drops.values()), "a seed for which both fall off the line")
        bob.does("talk", to=f"{ALICE}/phone", count=MESSAGES, drops=drops["bob"])
        alice.does("talk", to=f"{BOB}/phone", count=MESSAGES, drops=drops["alice"])
        heard_by_alice, heard_by_bob = await alice.heard(MESSAGES), await bob.heard(MESSAGES)
        await alice.event("said_all")
        await bob.event("said_all")
        for client in (alice, bob, alice):
            await client.quiet()
        self.assertEqual([f"bob {number}" for number in range(MESSAGES)], bodies(heard_by_alice))
        self.assertEqual([f"alice {number}" for number in range(MESSAGES)], bodies(heard_by_bob))
        for client, name in ((alice, "alice"), (bob, "bob")):
            self.assertEqual(MESSAGES, len(client.told("message")), "and nothing after that")
            self.assertEqual([len(drops[name])] * 2, [len(client.told(e)) for e in ("disconnected", "resumed")])
            self.assertEqual([1, 0], [len(client.told(event)) for event in ("started", "resume_failed")])
        archive = await alice.asks("archive", max=50)
        said = [body for body in bodies(archive["messages"]) if body.startswith("alice")]
        self.assertEqual([f"alice {number}" for number in range(MESSAGES)], said)
        self.assertEqual(2 * MESSAGES, len(archive["messages"]))


class Copies(ReliabilityTest):
    """Several resources of one account: delivery, carbons, client state, receipts and markers."""

    async def with_carbons(self, *clients: ReliableClient) -> None:
        for client in clients:
            await client.asks("carbons")

    async def test_both_sides_are_copied_to_the_other_device(self) -> None:
        phone, laptop = await self.logs_in(ALICE, "phone"), await self.logs_in(ALICE, "laptop")
        bob = await self.logs_in(BOB, "phone")
        await self.with_carbons(phone, laptop)
        phone.does("message", to=f"{BOB}/phone", body="from the phone")
        sent = await laptop.event("carbon")
        expected = {"direction": "sent", "sender": f"{ALICE}/phone", "to": f"{BOB}/phone", "body": "from the phone"}
        self.assertEqual(expected, {key: sent[key] for key in expected})
        self.assertEqual([f"{ALICE}/phone"], [message["sender"] for message in await bob.heard(1)])

        bob.does("message", to=f"{ALICE}/phone", body="to the phone")
        [direct] = await phone.heard(1)
        received = await laptop.event("carbon")
        expected = {"direction": "received", "sender": f"{BOB}/phone", "to": f"{ALICE}/phone", "body": "to the phone"}
        self.assertEqual(expected, {key: received[key] for key in expected})
        self.assertEqual(direct["stanza_ids"], received["stanza_ids"])

        archive = await laptop.asks("archive", max=50)
        ids = [sent["stanza_ids"].get(ALICE), received["stanza_ids"].get(ALICE)]
        self.assertEqual(ids, [message["archive_id"] for message in archive["messages"]])
        for client in (phone, laptop):
            await client.quiet()
        self.assertEqual([0, 2], [len(client.told("carbon")) for client in (phone, laptop)])
        self.assertEqual([1, 0], [len(client.told("message")) for client in (phone, laptop)])

    async def test_what_its_sender_wants_private_is_not_copied(self) -> None:
        phone, laptop = await self.logs_in(ALICE, "phone"), await self.logs_in(ALICE, "laptop")
        bob, tablet = await self.logs_in(BOB, "phone"), await self.logs_in(BOB, "tablet")
        await self.with_carbons(phone, laptop, bob, tablet)
        said = [["carbon_private"], ["no-copy"], []]
        for number, names in enumerate(said):
            phone.does("message", to=f"{BOB}/phone", body=f"message {number}", enable=names)
        self.assertEqual(["message 0", "message 1", "message 2"], bodies(await bob.heard(3)))
        for client in (laptop, tablet):
            self.assertEqual("message 2", (await client.event("carbon"))["body"])
            await client.quiet()
            self.assertEqual(1, len(client.told("carbon")))

    async def test_all_devices_hear_and_answer(self) -> None:
        """To the bare JID: all devices get it, none a copy of it; their receipts and markers come back."""
        alice = await self.logs_in(ALICE, "phone")
        bob, tablet = await self.logs_in(BOB, "phone"), await self.logs_in(BOB, "tablet")
        await self.with_carbons(bob, tablet)
        sent = await alice.asks("message", "sent", to=BOB, body="hello", enable=["markable"], receipt=True)
        for client in (bob, tablet):
            [message] = await client.heard(1)
            self.assertEqual(("hello", sent["id"], BOB), (message["body"], message["id"], message["to"]))
        receipts = [await alice.event("receipt", id=sent["id"]) for _ in range(2)]
        self.assertEqual({f"{BOB}/phone", f"{BOB}/tablet"}, {receipt["sender"] for receipt in receipts})
        tablet.does("marker", to=f"{ALICE}/phone", id=sent["id"])
        self.assertEqual(f"{BOB}/tablet", (await alice.event("displayed", id=sent["id"]))["sender"])
        for client in (bob, tablet):
            await client.quiet()
            self.assertEqual(1, len(client.told("message")))
            self.assertEqual([], [copy for copy in client.told("carbon") if copy["body"] == "hello"])

    async def test_an_inactive_client_is_left_in_peace(self) -> None:
        alice = await self.logs_in(ALICE, "phone")
        bob, tablet = await self.logs_in(BOB, "phone"), await self.logs_in(BOB, "tablet")
        bob.does("subscribe", to=ALICE)
        await bob.event("presence", sender=f"{ALICE}/phone")
        await alice.event("presence", sender=f"{BOB}/phone")
        await tablet.event("presence", sender=f"{ALICE}/phone")

        async def says(*words: str) -> None:
            """Alice says how she is; her contact's other device has heard it."""
            for word in words:
                await alice.asks("presence", "present", status=word)
                await tablet.event("presence", sender=f"{ALICE}/phone", status=word)

        def held() -> list[str]:
            return [event["status"] for event in bob.told("presence") if event["status"]]

        bob.does("inactive")
        await bob.quiet()
        await says("reading", "writing")
        await bob.quiet()
        # The answer to this ping is no reason to hand out what is held back: a stanza that cannot wait is.
        self.assertLessEqual(set(held()), {"writing"})
        before = len(held())
        await says("in a meeting", "back")
        self.assertEqual(before, len(held()))
        alice.does("message", to=BOB, body="wake up")
        self.assertEqual(["wake up"], bodies(await bob.heard(1)))
        self.assertEqual("back", held()[-1], "the last word, before the message")
        self.assertNotIn("in a meeting", held())
        self.assertNotIn("reading", held())

        await says("away")
        bob.does("active")
        await bob.event("presence", status="away")


class Archive(ReliabilityTest):
    async def conversation(self) -> tuple[ReliableClient, list[str]]:
        """Somebody with an archive of 30 messages: to, from and with two others in turn."""
        alice, bob, carol = [await self.logs_in(jid, "phone") for jid in (ALICE, BOB, CAROL)]
        said = []
        for number in range(10):
            for speaker, listener, to in ((alice, bob, BOB), (bob, alice, ALICE), (carol, alice, ALICE)):
                said.append(f"message {number} of {speaker.told('started')[0]['jid']}")
                speaker.does("message", to=to, body=said[-1])
                await listener.heard(1)
        return alice, said

    async def test_paging(self) -> None:
        alice, said = await self.conversation()
        everything = (await alice.asks("archive", max=7))["messages"]
        self.assertEqual(said, bodies(everything))
        heard = {message["stanza_ids"][ALICE] for message in alice.told("message")}
        ids = [message["archive_id"] for message in everything]
        self.assertEqual(heard, {m["archive_id"] for m in everything if not m["sender"].startswith(ALICE)})
        self.assertEqual(sorted(ids, key=lambda id_: int(id_, 32)), ids)

        # slixmpp cannot ask for the last page but by its iterator, and ends that after one page.
        latest = (await alice.asks("archive", max=7, reverse=True, total=7))["messages"]
        self.assertEqual(said[:-8:-1], bodies(latest))
        backwards, first = bodies(latest), latest[-1]["archive_id"]
        for left in (23, 16, 9, 2):
            page = await alice.asks("page", rsm={"max": 7, "before": first})
            first = page["first"]
            self.assertEqual((str(max(0, left - 7)), "30"), (page["index"], page["count"]))
            self.assertEqual(left <= 7, page["complete"])
            backwards += reversed(bodies(page["messages"]))
        self.assertEqual(said[::-1], backwards)

    async def test_filters(self) -> None:
        alice, said = await self.conversation()
        for jid in (BOB, f"{CAROL}/phone"):
            page = await alice.asks("page", with_jid=jid, rsm={"max": 50})
            name = jid.partition("@")[0]
            theirs = [body for body in said if name in body or (jid == BOB and "alice" in body)]
            self.assertEqual(
                (theirs, True, str(len(theirs))), (bodies(page["messages"]), page["complete"], page["count"])
            )
        everything = (await alice.asks("archive", max=50))["messages"]
        page = await alice.asks("page", start=everything[11]["stamp"], end=everything[17]["stamp"], rsm={"max": 5})
        self.assertEqual((said[11:16], "7", False), (bodies(page["messages"]), page["count"], page["complete"]))
        page = await alice.asks("page", start=everything[29]["stamp"], with_jid=BOB)
        self.assertEqual(([], True, "0"), (page["messages"], page["complete"], page["count"]))

    async def test_what_there_is_beside_queries(self) -> None:
        alice, _ = await self.conversation()
        fields = set((await alice.asks("form"))["fields"])
        self.assertLessEqual({"FORM_TYPE", "with", "start", "end", "before-id", "after-id", "ids"}, fields)
        ids = [message["archive_id"] for message in (await alice.asks("archive", max=50))["messages"]]
        metadata = await alice.asks("metadata")
        self.assertEqual((ids[0], ids[-1]), (metadata["start"], metadata["end"]))
        self.assertEqual({"event": "prefs", "default": "always", "always": [], "never": []}, await alice.asks("prefs"))
        self.assertIn("urn:xmpp:mam:2", (await alice.asks("disco", jid="example.org"))["features"])
        self.assertIn("urn:xmpp:mam:2", (await alice.asks("disco", jid=ALICE))["features"])

    async def test_what_is_refused(self) -> None:
        alice, carol = await self.logs_in(ALICE, "phone"), await self.logs_in(CAROL, "phone")
        self.assertEqual(("not-allowed", "cancel"), await alice.refused("page", jid=BOB))
        self.assertEqual(("item-not-found", "cancel"), await alice.refused("page", rsm={"max": 5, "after": "1"}))
        self.assertEqual(("not-acceptable", "modify"), await alice.refused("page", rsm={"max": 5, "before": "W?"}))
        # Nothing is archived at this domain, and nobody is told otherwise.
        self.assertEqual(("feature-not-implemented", "cancel"), await carol.refused("page"))
        for jid in ("example.net", CAROL):
            features = (await carol.asks("disco", jid=jid))["features"]
            self.assertEqual([], [feature for feature in features if feature.startswith("urn:xmpp:mam:")])

    async def test_a_retracted_message(self) -> None:
        alice, bob = await self.logs_in(ALICE, "phone"), await self.logs_in(BOB, "phone")
        sent = await alice.asks("message", "sent", to=BOB, body="something stupid")
        alice.does("message", to=BOB, body="something clever")
        alice.does("retract", to=BOB, id=sent["id"])
        self.assertEqual(f"{ALICE}/phone", (await bob.event("retract", id=sent["id"]))["sender"])
        for client in (alice, bob):

            async def buried(client: ReliableClient = client) -> list[dict[str, Any]] | None:
                messages: list[dict[str, Any]] = (await client.asks("archive", max=50))["messages"]
                return messages if messages[0]["retracted"] else None

            messages = await until(buried, "a tombstone")
            self.assertEqual(3, len(messages))
            self.assertEqual(["", "something clever"], bodies(messages)[:2])
            self.assertEqual([True, False, False], [message["retracted"] for message in messages])

    async def until_kept(self, count: int) -> None:
        """Offline storage has so many messages."""

        async def kept() -> bool | None:
            return self.postgres.rows("SELECT count(*) FROM offline_message") == [(count,)] or None

        await until(kept, f"{count} messages in offline storage")

    async def test_offline_messages_that_were_read_in_the_archive(self) -> None:
        alice = await self.logs_in(ALICE, "phone")
        said = [f"message {number}" for number in range(5)]
        for body in said:
            alice.does("message", to=BOB, body=body)
        await alice.quiet()
        bob = await self.logs_in(BOB, "phone", "quiet")
        archive = await bob.asks("archive", max=3)
        self.assertEqual(said, bodies(archive["messages"]))
        await self.until_kept(5)
        await bob.asks("presence", "present")
        alice.does("message", to=BOB, body="good morning")
        self.assertEqual("good morning", (await bob.event("message", delayed=False))["body"])
        await self.until_kept(0)
        await bob.quiet()
        self.assertEqual(["good morning"], bodies(bob.told("message")))

    async def test_offline_messages_that_were_not(self) -> None:
        alice = await self.logs_in(ALICE, "phone")
        said = [f"message {number}" for number in range(5)]
        for body in said:
            alice.does("message", to=BOB, body=body)
        await alice.quiet()
        bob = await self.logs_in(BOB, "phone", "quiet")
        await bob.quiet()
        self.assertEqual([], bob.told("message"))
        bob.does("presence")
        messages = await bob.heard(5)
        self.assertEqual((said, [True] * 5), (bodies(messages), [message["delayed"] for message in messages]))
        await self.until_kept(0)
        archive = await bob.asks("archive", max=50)
        self.assertEqual(said, bodies(archive["messages"]), "and not archived again")
        self.assertEqual(
            [message["archive_id"] for message in archive["messages"]],
            [message["stanza_ids"].get(BOB) for message in messages],
        )
