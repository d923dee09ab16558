"""The load of look-ups: clients that page through their archives, each asking again as soon as it has been answered.

Each begins at the first page and goes on with `after` the last message it has got, as a client does that catches up;
at the end it begins anew.

Usage: lookup_client.py PORT CLIENTS SECONDS PAGE DOMAIN, prints one JSON object.
"""

import asyncio
import json
import re
import resource
import sys
import time

from chat_client import Client

FIN = b"</iq>"
LAST = re.compile(rb"<last>([0-9A-V]+)</last>").search


class Reader(Client):
    """One account that reads its archive."""

    def __init__(self, jid: str, page: int) -> None:
        super().__init__(jid, jid, 1)
        self.page = page
        self.lookups = 0
        self.messages = 0
        self.times: list[float] = []

    def query(self, after: str) -> bytes:
        position = f"<after>{after}</after>" if after else ""
        return (
            "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>"
            f"<max>{self.page}</max>{position}</set></query></iq>"
        ).encode()

    async def read(self) -> None:
        after = ""
        while True:
            begun = time.monotonic()
            self.writer.write(self.query(after))
            answer = await self.until(FIN)
            self.times.append(time.monotonic() - begun)
            self.lookups += 1
            self.messages += answer.count(b"<forwarded")
            last = LAST(answer)
            if b"type='error'" in answer:
                raise SystemExit(f"{self.jid}: {answer!r}")
            after = "" if b"complete='true'" in answer or last is None else last[1].decode()


async def run(port: int, clients: int, seconds: float, page: int, domain: str) -> None:
    readers = [Reader(f"user{number}@{domain}/a", page) for number in range(clients)]
    for reader in readers:
        await reader.xmpp_login(port)
    tasks = [asyncio.create_task(reader.read()) for reader in readers]
    await asyncio.sleep(1)  # warm
    print("started", flush=True)
    begun = time.monotonic()
    lookups, messages = sum(r.lookups for r in readers), sum(r.messages for r in readers)
    for reader in readers:
        reader.times.clear()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    times = sorted(t for reader in readers for t in reader.times)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "lookups": sum(r.lookups for r in readers) - lookups,
                "messages": sum(r.messages for r in readers) - messages,
                "seconds": took,
                "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100],
                "client_cpu": usage.ru_utime + usage.ru_stime,
            }
        ),
        flush=True,
    )
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(run(int(arguments[0]), int(arguments[1]), float(arguments[2]), int(arguments[3]), arguments[4]))
