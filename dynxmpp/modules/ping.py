"""XEP-0199 XMPP Ping, version 2.0.1: answers pings, and if told to pings clients that are silent (section 4.1)."""

from collections.abc import Iterable
from typing import Any, Literal

from twisted.logger import Logger

from dynxmpp.config.model import positive
from dynxmpp.config.modules import IqDisc
from dynxmpp.module import (
    IQ,
    Direction,
    Filter,
    Module,
    ModuleContext,
    Phase,
    RoutingContext,
    Section,
    Session,
    Stanza,
    StreamError,
    Target,
    Xep,
    iq_get,
    option,
    qualified,
    section,
)

NS_PING = "urn:xmpp:ping"
PING_KEY = qualified(NS_PING, "ping")


@section
class PingConfig(Section):
    """[modules.mod_ping]. Times are seconds.

    With `send_pings` a client that was silent for `ping_interval` is pinged; if nothing at all comes of it within
    `ping_req_timeout`, `timeout_action` says what becomes of its stream.
    """

    send_pings: bool = option(default=False)
    ping_interval: int = option(default=60, check=positive)
    timeout_action: Literal["none", "kill"] = option(default="none")
    ping_req_timeout: int = option(default=32, check=positive)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class _Watch:
    """When a session was last heard of, and the call that looks after it. One timer a session, moved only when due."""

    __slots__ = ("heard_at", "is_pinged", "timer")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        #: Has it been silent since it was pinged?
        self.is_pinged = False
        self.timer: Any = None


class Ping(Module):
    """Any stanza counts as a sign of life, an error to the ping as much as a result."""

    name = "mod_ping"
    xep = Xep(199, "2.0.1")
    config_model = PingConfig
    features = (NS_PING,)
    account_features = (NS_PING,)
    log = Logger()

    def __init__(self, context: ModuleContext, config: PingConfig) -> None:
        super().__init__(context, config)
        self._watched: dict[Session, _Watch] = {}
        self._sent = 0

    @iq_get(NS_PING, "ping", at=Target.DOMAIN | Target.ACCOUNT)
    def on_ping(self, iq: IQ) -> None:
        return None

    async def stop(self) -> None:
        while self._watched:
            self.session_ended(next(iter(self._watched)))

    # -- silent clients

    def filters(self) -> Iterable[Filter]:
        if self.config.send_pings:
            # POLICY: a stanza that is refused later on was a sign of life all the same.
            yield Filter(Direction.OUTGOING, Phase.POLICY, self._hear, ("message", "presence", "iq"))

    def _hear(self, stanza: Stanza, context: RoutingContext) -> Stanza:
        watch = self._watched.get(context.origin) if context.origin is not None else None
        if watch is not None:
            watch.heard_at = self.clock.seconds()
            watch.is_pinged = False
        return stanza

    def session_bound(self, session: Session) -> None:
        if self.config.send_pings:
            watch = self._watched[session] = _Watch(self.clock.seconds())
            self._look_again(session, watch, self.config.ping_interval)

    def session_resumed(self, session: Session) -> None:
        watch = self._watched.get(session)
        if watch is not None:
            watch.heard_at, watch.is_pinged = self.clock.seconds(), False
            if not watch.timer.active():  # its connection was ended, for silence
                self._look_again(session, watch, self.config.ping_interval)

    def session_ended(self, session: Session) -> None:
        watch = self._watched.pop(session, None)
        if watch is not None and watch.timer.active():
            watch.timer.cancel()

    def _look_again(self, session: Session, watch: _Watch, delay_s: float) -> None:
        watch.timer = self.clock.callLater(delay_s, self._look, session, watch)

    def _look(self, session: Session, watch: _Watch) -> None:
        """Pings a session that is silent, ends it when it stays so, else comes back when it may be."""
        config = self.config
        if not session.is_connected:  # its client is expected back, or its time will run out
            watch.is_pinged = False
            self._look_again(session, watch, config.ping_interval)
            return
        silent_s = self.clock.seconds() - watch.heard_at
        if watch.is_pinged:
            watch.is_pinged = False
            self.log.info("ping_unanswered", jid=session.jid.full, action=config.timeout_action)
            if config.timeout_action == "kill":
                session.end(StreamError("connection-timeout"))
                return
            self._look_again(session, watch, config.ping_interval)
        elif silent_s < config.ping_interval:
            self._look_again(session, watch, config.ping_interval - silent_s)
        else:
            watch.is_pinged = True
            self._look_again(session, watch, config.ping_req_timeout)
            self._send_ping(session)

    def _send_ping(self, session: Session) -> None:
        self._sent += 1
        attributes = {
            "type": "get",
            "id": f"ping-{self._sent}",
            "from": session.jid.domain,
            "to": session.jid.full,
        }
        ping = Stanza("iq", attributes, f"<ping xmlns='{NS_PING}'/>".encode(), (PING_KEY,))
        session.deliver(ping, ping.to_bytes())
