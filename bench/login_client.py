"""The load of logins: clients that connect, authenticate with SCRAM-SHA-1, bind, send presence, and begin anew.

All accounts have one password and one salt, so that the client derives its key once: what is measured is the server.

Usage: login_client.py PORT CLIENTS SECONDS ACCOUNTS DOMAIN, prints one JSON object.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import resource
import sys
import time

from chat_client import Client

PASSWORD = b"secret"
CHALLENGE = re.compile(rb"<challenge [^>]*>([^<]*)<").search
NS_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


class Login(Client):
    """One client after the other."""

    keys: tuple[bytes, bytes] | None = None

    def derived(self, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
        """(client key, stored key)"""
        if Login.keys is None:
            salted = hashlib.pbkdf2_hmac("sha1", PASSWORD, salt, iterations)
            key = hmac.digest(salted, b"Client Key", "sha1")
            Login.keys = key, hashlib.sha1(key).digest()
        return Login.keys

    async def log_in(self, port: int) -> None:
        await self.connect(port)
        await self.begin()
        local = self.jid.partition("@")[0]
        first = f"n={local},r=nonce"
        data = base64.b64encode(f"n,,{first}".encode()).decode()
        self.writer.write(f"<auth xmlns='{NS_SASL}' mechanism='SCRAM-SHA-1'>{data}</auth>".encode())
        match = CHALLENGE(await self.until(b"</challenge>"))
        assert match is not None
        challenge = base64.b64decode(match[1]).decode()
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        key, stored = self.derived(base64.b64decode(fields["s"]), int(fields["i"]))
        final = f"c=biws,r={fields['r']}"
        signature = hmac.digest(stored, f"{first},{challenge},{final}".encode(), "sha1")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        data = base64.b64encode(f"{final},p={proof}".encode()).decode()
        self.writer.write(f"<response xmlns='{NS_SASL}'>{data}</response>".encode())
        await self.until(b"</success>")
        await self.begin()
        self.bind()
        self.writer.write(b"<presence/>")
        await self.until(b"<presence ")
        self.writer.write(b"</stream:stream>")
        await self.reader.read()
        self.writer.close()


async def run(port: int, clients: int, seconds: float, accounts: int, domain: str) -> None:
    done = 0

    async def forever(number: int) -> None:
        nonlocal done
        while True:
            await Login(f"user{number % accounts}@{domain}/x", "", 1).log_in(port)
            done += 1
            number += clients

    tasks = [asyncio.create_task(forever(number)) for number in range(clients)]
    await asyncio.sleep(1)  # warm
    print("started", flush=True)
    begun, before = time.monotonic(), done
    await asyncio.sleep(seconds)
    took, logins = time.monotonic() - begun, done - before
    failed = [task.exception() for task in tasks if task.done()]
    if failed:
        raise SystemExit(f"{len(failed)} clients failed: {failed[0]!r}")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"logins": logins, "seconds": took, "client_cpu": usage.ru_utime + usage.ru_stime}), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(run(int(arguments[0]), int(arguments[1]), float(arguments[2]), int(arguments[3]), arguments[4]))
