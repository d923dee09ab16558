"""A slixmpp client as a child process: commands as JSON lines on stdin, events as JSON lines on stdout.

Commands: {"do": "message", "to", "body"}, {"do": "subscribe", "to"}, {"do": "roster"}, {"do": "quit"}.
Usage: slixmpp_client.py JID PASSWORD PORT starttls|tls|plain
"""

import asyncio
import json
import logging
import ssl
import sys
from typing import Any, ClassVar

import slixmpp


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201 - the lines are the interface


class Client(slixmpp.ClientXMPP):  # type: ignore[misc]
    plugin_names: ClassVar[tuple[str, ...]] = ("xep_0030", "xep_0092", "xep_0199", "xep_0115", "xep_0054", "xep_0191")

    def __init__(self, jid: str, password: str, mode: str) -> None:
        super().__init__(jid, password)
        self.ssl_context = ssl.create_default_context()
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.enable_direct_tls = mode == "tls"
        self.enable_starttls = mode == "starttls"
        self.enable_plaintext = mode == "plain"
        for name in self.plugin_names:
            self.register_plugin(name)
        self["feature_mechanisms"].unencrypted_plain = mode == "plain"
        self.auto_authorize = True
        self.auto_subscribe = True
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("presence_available", lambda p: tell("available", sender=str(p["from"])))
        self.add_event_handler("presence_unavailable", lambda p: tell("unavailable", sender=str(p["from"])))
        self.add_event_handler("failed_auth", lambda _: tell("failed_auth"))
        self.add_event_handler("stream_error", lambda e: tell("stream_error", condition=e["condition"]))
        self.add_event_handler("disconnected", lambda _: tell("disconnected"))

    def get_ssl_context(self) -> ssl.SSLContext:
        return self.ssl_context

    async def started(self, _: Any) -> None:
        await self.get_roster()
        self.send_presence()
        await self.plugin["xep_0199"].ping(self.boundjid.domain)
        tls = self.transport.get_extra_info("ssl_object")
        tell("started", jid=self.boundjid.full, tls=tls.version() if tls else None)

    def on_message(self, message: Any) -> None:
        tell(
            "message",
            sender=str(message["from"]),
            body=message["body"],
            type=message["type"],
            delayed=message.xml.find("{urn:xmpp:delay}delay") is not None,
        )

    async def command(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "message":
                self.send_message(mto=command["to"], mbody=command["body"], mtype="chat")
            case "subscribe":
                self.send_presence_subscription(pto=command["to"])
            case "roster":
                await self.get_roster()
                items = {jid: self.client_roster[jid]["subscription"] for jid in self.client_roster}
                tell("roster", items=items)
            case "features":
                info = await self.plugin["xep_0030"].get_info(jid=self.boundjid.domain)
                tell("features", features=sorted(info["disco_info"]["features"]))
            case "quit":
                await self.disconnect(wait=1)
                sys.exit(0)


async def main(client_class: type[Client] = Client) -> None:
    jid, password, port, mode = sys.argv[1:5]
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    client = client_class(jid, password, mode)
    client.connect("127.0.0.1", int(port))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await client.command(json.loads(line))


if __name__ == "__main__":
    asyncio.run(main())
