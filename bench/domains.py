"""Many domains: the time of the initial load, what a domain costs in memory, and how fast they are created over HTTP.

    python -m bench.domains [NUMBER]

Uses a PostgreSQL of its own (the one of the tests). The aim: 100,000 domains in under two seconds, and under 300 bytes
a domain in the table, its name included; 4,000 domains a second created with one request of JSON lines.
"""

import gc
import json
import sys
import time
import tracemalloc
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.web.client import Agent, HTTPConnectionPool

from dynxmpp.db.pool import Database
from dynxmpp.domains.store import DomainStore
from dynxmpp.rest.bulk_domains import BulkDomainsApi
from dynxmpp.rest.dialect import FIVE
from dynxmpp.rest.domains import DomainsApi
from dynxmpp.rest.site import AdminSite, Mount
from tests.domains.node import Node
from tests.fixtures.postgres import drop_database, fresh_database


async def timed(what: str, work: Any) -> float:
    began = time.perf_counter()
    used = time.process_time()
    await work
    seconds = time.perf_counter() - began
    print(f"{what:<44} {seconds:8.3f} s, of it CPU here {time.process_time() - used:6.3f} s")
    return seconds


async def main(number: int) -> None:
    settings = await fresh_database(DomainStore.migrations)
    database = Database(settings, clock=reactor, reactor=reactor)
    await database.start()
    try:
        await database.transaction(lambda transaction: fill(transaction, number), statement_timeout_s=0)
        await timed(f"initial load of {number:,} domains", Node(database).start())
        node = Node(database)
        held, peak = await traced_memory(node)
        print(
            f"{'memory of the table':<44} {held / number:8.1f} bytes a domain, peak while loading {peak / number:.1f}"
        )
        await timed("full reload, nothing changed", reload_all(node))
        count = 1000
        seconds = await timed(f"{count:,} insertions, one after the other", insert(node, count))
        print(f"{'':<44} {1e3 * seconds / count:8.2f} ms each")
        await over_http(node)
        await node.service.stop()
    finally:
        await database.stop()
        drop_database(settings)


async def traced_memory(node: Node) -> tuple[int, int]:
    """Starts the node; the bytes that its domains keep allocated, and the most that were while they were loaded."""
    gc.collect()
    tracemalloc.start()
    try:
        await node.start()
        gc.collect()
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


async def fill(transaction: Any, number: int) -> None:
    await transaction.execute(
        "INSERT INTO domain_settings (domain, host_type)"
        " SELECT 'test-domain-' || n || '.example.org', 'basic' FROM generate_series(1, %s) n",
        (number,),
    )
    await transaction.execute("ANALYZE domain_settings")  # as autovacuum would have done


async def reload_all(node: Node) -> None:
    node.synchroniser._position = None
    await node.synchroniser.check()


async def insert(node: Node, count: int) -> None:
    for index in range(count):
        await node.service.insert(f"new-{index}.example.org", "basic")


async def over_http(node: Node) -> None:
    """Creates domains by requests; clients and server share this process."""
    apis = [DomainsApi(node.service), BulkDomainsApi(node.service, FIVE)]
    site: Any = AdminSite([Mount(FIVE, host="_", path="/api", apis=apis)], clock=reactor)
    listening: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    url = f"http://127.0.0.1:{listening.getHost().port}/api/domains"
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = 32
    agent = Agent(reactor, pool=pool)
    try:
        for clients in (1, 8, 32):
            count = 1600
            names = iter([f"put-{clients}-{index}.example.org" for index in range(count)])
            work = gatherResults([Deferred.fromCoroutine(put_all(agent, url, names)) for _ in range(clients)])
            seconds = await timed(f"{count:,} requests of {clients} clients", work)
            print(f"{'':<44} {count / seconds:8.0f} domains/s")
        count = 20_000
        lines = [{"domain": f"line-{index}.example.org", "host_type": "basic"} for index in range(count)]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        seconds = await timed(f"one request with {count:,} lines", post(agent, url, body))
        print(f"{'':<44} {count / seconds:8.0f} domains/s")
    finally:
        await pool.closeCachedConnections()
        await listening.stopListening()


async def put_all(agent: Agent, url: str, names: Any) -> None:
    for name in names:
        response = await treq.put(f"{url}/{name}", json={"host_type": "basic"}, agent=agent)
        assert response.code == 204
        await response.content()


async def post(agent: Agent, url: str, body: bytes) -> None:
    response = await treq.post(url, data=body, headers={"Content-Type": "application/jsonl"}, agent=agent)
    answer = await response.content()
    assert answer.count(b'"created"') == body.count(b"\n"), answer[-200:]


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
