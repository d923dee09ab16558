"""A slixmpp client for tests/interop/test_reliability.py: resumes its session (XEP-0198), reads its archive, and so on.

Further commands: see `command()`. A command that is refused is answered with the event `refused`.
Usage: slixmpp_reliable.py JID PASSWORD PORT starttls|tls|plain [quiet]; `quiet`: no presence is sent by itself.
"""

import asyncio
import socket
import struct
import sys
import xml.etree.ElementTree as ET
from typing import Any

from slixmpp import JID
from slixmpp.exceptions import IqError

from tests.interop.slixmpp_client import Client, main, tell

NS_MAM = "urn:xmpp:mam:2"
STANZA_ID = "{urn:xmpp:sid:0}stanza-id"
RETRACTED = "{urn:xmpp:message-retract:1}retracted"
DELAY = "{urn:xmpp:delay}delay"

#: How far a client may be ahead of what it has heard from the other one.
WINDOW = 10
#: SO_LINGER that makes close() reset the connection, and throw away what is in its buffers.
RESET = struct.pack("ii", 1, 0)


class ReliableClient(Client):
    """Comes back whenever its connection is gone, and goes on with the same session."""

    plugin_names = (
        *Client.plugin_names,
        "xep_0059",
        "xep_0184",
        "xep_0198",
        "xep_0280",
        "xep_0313",
        "xep_0333",
        "xep_0334",
        "xep_0352",
        "xep_0359",
        "xep_0424",
    )

    def __init__(self, jid: str, password: str, mode: str) -> None:
        self.is_quiet = "quiet" in sys.argv[5:]
        #: Nothing passes, in either direction, and nobody knows yet.
        self.hole = False
        self.online = False
        self.heard = 0
        #: One of these is another than before.
        self.changed = asyncio.Event()
        self.talking: asyncio.Task[None] | None = None
        super().__init__(jid, password, mode)
        self.add_event_handler("sm_enabled", lambda e: tell("managed", id=e["id"]))
        self.add_event_handler("sm_failed", lambda _: tell("resume_failed"))
        self.add_event_handler("session_resumed", self.on_resumed)
        self.add_event_handler("disconnected", self.on_disconnected)
        self.add_event_handler("presence", self.on_presence)
        self.add_event_handler("carbon_sent", lambda m: self.tell_carbon("sent", m))
        self.add_event_handler("carbon_received", lambda m: self.tell_carbon("received", m))
        self.add_event_handler("receipt_received", lambda m: tell("receipt", sender=str(m["from"]), id=m["receipt"]))
        self.add_event_handler(
            "marker_displayed", lambda m: tell("displayed", sender=str(m["from"]), id=m["displayed"]["id"])
        )
        self.add_event_handler(
            "message_retract", lambda m: tell("retract", sender=str(m["from"]), id=m["retract"]["id"])
        )

    # -- the connection

    async def started(self, event: Any) -> None:
        if self.is_quiet:
            await self.ping()
            tell("started", jid=self.boundjid.full)
        else:
            await super().started(event)
        self.come_online()

    async def ping(self) -> None:
        """Everything that the server had for this client before has come."""
        await self.plugin["xep_0199"].ping(JID(self.boundjid.domain))

    def on_resumed(self, _: Any) -> None:
        tell("resumed")
        self.come_online()

    def come_online(self) -> None:
        self.online = True
        self.changed.set()

    def on_disconnected(self, _: Any) -> None:
        self.online = False
        self.connect("127.0.0.1", int(sys.argv[3]))

    def connection_made(self, *arguments: Any, **options: Any) -> None:
        self.hole = False
        super().connection_made(*arguments, **options)

    def data_received(self, data: bytes | str) -> None:
        if not self.hole:
            super().data_received(data)

    def send_raw(self, data: str | bytes) -> None:
        if not self.hole:
            super().send_raw(data)

    def drop(self) -> None:
        """Resets the connection; what is in buffers of either side is lost."""
        self.online = False
        transport: Any = self.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()

    # -- a conversation

    async def talk(self, to: str, count: int, drops: dict[int, int]) -> None:
        """Says `count` numbered messages. `drops`: after which of them the connection goes dead -> how many more are
        said into the void before it is reset."""
        last_words = -1
        for number in range(count):
            while not (self.online and (self.hole or number - self.heard < WINDOW)):
                self.changed.clear()
                await self.changed.wait()
            self.send_message(mto=JID(to), mbody=f"{self.boundjid.user} {number}", mtype="chat")
            # What waits in this queue when the connection goes, or is put into it before the session is resumed,
            # slixmpp loses or sends in another order. What has left it is kept until it is acknowledged.
            await self.waiting_queue.join()
            if number in drops:
                self.hole = True
                last_words = number + drops[number]
            if number == last_words:
                self.drop()
        tell("said_all")

    # -- what comes

    def on_message(self, message: Any) -> None:
        self.heard += 1
        self.changed.set()
        tell("message", **described(message))

    def on_presence(self, presence: Any) -> None:
        tell("presence", sender=str(presence["from"]), type=presence["type"], status=presence["status"])

    def tell_carbon(self, direction: str, message: Any) -> None:
        tell("carbon", direction=direction, **described(message[f"carbon_{direction}"]))

    # -- what is asked

    async def command(self, command: dict[str, Any]) -> None:
        try:
            await self.reliable_command(command)
        except IqError as refused:
            tell("refused", condition=refused.condition, type=refused.etype)

    async def reliable_command(self, command: dict[str, Any]) -> None:
        archive = self.plugin["xep_0313"]
        match command["do"]:
            case "talk":
                drops = dict(command["drops"])
                self.talking = asyncio.create_task(self.talk(command["to"], command["count"], drops))
            case "message":
                message = self.make_message(mto=command["to"], mbody=command["body"], mtype="chat")
                for name in command.get("enable", ()):
                    message.enable(name)
                message["request_receipt"] = bool(command.get("receipt"))
                message.send()
                tell("sent", id=message["id"])
            case "marker":
                self.plugin["xep_0333"].send_marker(command["to"], command["id"], "displayed", mtype="chat")
            case "retract":
                self.plugin["xep_0424"].send_retraction(command["to"], command["id"])
            case "presence":
                self.send_presence(pstatus=command.get("status"))
                await self.ping()
                tell("present")
            case "carbons":
                await self.plugin["xep_0280"].enable()
                tell("carbons")
            case "inactive":
                self.plugin["xep_0352"].send_inactive()
            case "active":
                self.plugin["xep_0352"].send_active()
            case "ping":
                await self.ping()
                tell("pong")
            case "disco":
                info = await self.plugin["xep_0030"].get_info(jid=command["jid"], cached=False)
                tell("disco", features=sorted(info["disco_info"]["features"]))
            case "archive":
                found = archive.iterate(
                    rsm={"max": command["max"]}, reverse=command.get("reverse", False), total=command.get("total")
                )
                tell("archive", messages=[archived(message) async for message in found])
            case "page":
                await self.page(command)
            case "form":
                form = await archive.get_fields()
                tell("form", fields=sorted(form.get_fields()))
            case "metadata":
                data = (await archive.get_archive_metadata())["mam_metadata"]
                tell("metadata", start=data["start"]["id"], end=data["end"]["id"])
            case "prefs":
                await self.prefs()
            case _:
                await super().command(command)

    async def page(self, command: dict[str, Any]) -> None:
        names = ("start", "end", "with_jid", "jid", "rsm")
        answer = await self.plugin["xep_0313"].retrieve(**{name: command[name] for name in names if name in command})
        rsm = answer["mam_fin"]["rsm"]
        tell(
            "page",
            messages=[archived(message) for message in answer["mam"]["results"]],
            complete=answer["mam_fin"]["complete"] == "true",
            first=rsm["first"],
            last=rsm["last"],
            index=rsm["first_index"],
            count=rsm["count"],
        )

    async def prefs(self) -> None:
        """slixmpp has nothing for these."""
        iq = self.make_iq_get()
        iq.append(ET.Element(f"{{{NS_MAM}}}prefs"))
        answer = (await iq.send()).xml[0]
        lists = {name: [jid.text for jid in answer.find(f"{{{NS_MAM}}}{name}")] for name in ("always", "never")}
        tell("prefs", default=answer.get("default"), **lists)


def described(message: Any) -> dict[str, Any]:
    """A message in the words of events."""
    return {
        "sender": str(message["from"]),
        "to": str(message["to"]),
        "body": message["body"],
        "type": message["type"],
        "id": message["id"],
        "delayed": message.xml.find(DELAY) is not None,
        "stanza_ids": {found.get("by"): found.get("id") for found in message.xml.iterfind(STANZA_ID)},
    }


def archived(message: Any) -> dict[str, Any]:
    """A result of a query in the words of events."""
    result = message["mam_result"]
    forwarded = result["forwarded"]
    return {
        **described(forwarded["stanza"]),
        "archive_id": result["id"],
        "stamp": forwarded.xml.find(DELAY).get("stamp"),
        "retracted": forwarded["stanza"].xml.find(RETRACTED) is not None,
    }


if __name__ == "__main__":
    asyncio.run(main(ReliableClient))
