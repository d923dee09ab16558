"""XEP-0198 Stream Management, version 1.6.3: what a host type allows, and the sessions that wait to be resumed.

What happens on a stream is in c2s/stream_management.py and c2s/resumption.py.
"""

import secrets
from typing import Any, Literal

from dynxmpp.config.model import IntOrInfinity, positive
from dynxmpp.module import Module, ModuleContext, Section, Session, Xep, option, section

NS_SM = "urn:xmpp:sm:3"
FEATURE = f"<sm xmlns='{NS_SM}'/>".encode()
#: Random bytes of an id: whoever knows it and the account's password may take a session over.
_ID_BYTES = 18
#: Ids of sessions that are over and whose counter is still told (`stale_h`).
MAX_STALE = 50_000


def positive_unless_word(value: Any) -> Any:
    """A check: a number is greater than zero."""
    return value if isinstance(value, str) else positive(value)


@section
class StaleH(Section):
    """[modules.mod_stream_management.stale_h]: remembering `h` after a session is gone. Times are seconds."""

    enabled: bool = option(default=False)
    repeat_after: int = option(default=1800, check=positive, unused=True)
    geriatric: int = option(default=3600, check=positive)


@section
class StreamManagementConfig(Section):
    """[modules.mod_stream_management]. Times are seconds.

    `buffer_max` stanzas and `buffer_max_bytes` bytes are kept for a client that is away; of what a connected client has
    not acknowledged, ten times as many stanzas and four times as many bytes. Beyond, the session ends, and what was
    kept goes to the account's other resources or to offline storage.
    """

    backend: Literal["mnesia", "cets"] = option(default="mnesia", unused=True)
    buffer: bool = option(default=True)
    buffer_max: IntOrInfinity | Literal["no_buffer"] = option(default=100, check=positive_unless_word)
    buffer_max_bytes: IntOrInfinity = option(default=1_048_576, check=positive)
    ack: bool = option(default=True)
    ack_freq: int | Literal["never"] = option(default=1, check=positive_unless_word)
    resume_timeout: int = option(default=600, check=positive)
    stale_h: StaleH = option(factory=StaleH)


class StreamManagement(Module):
    """Offers stream management, and finds sessions by the id that their client was told."""

    name = "mod_stream_management"
    xep = Xep(198, "1.6.3")
    config_model = StreamManagementConfig
    stream_features = (FEATURE,)
    bind_features = (NS_SM,)

    def __init__(self, context: ModuleContext, config: StreamManagementConfig) -> None:
        super().__init__(context, config)
        self.options: StreamManagementConfig = config
        self._sessions: dict[str, Session] = {}
        #: id -> (bare JID, h, when it is to be forgotten), oldest first.
        self._stale: dict[str, tuple[str, int, float]] = {}
        self.host_type.provide(StreamManagement, self)

    @property
    def max_stanzas(self) -> float:
        """Stanzas that are kept for a client that is away; 0 when nothing is kept."""
        maximum = self.options.buffer_max
        return 0 if maximum == "no_buffer" or not self.options.buffer else maximum

    @property
    def ack_every(self) -> int:
        """After how many stanzas the client is asked for an acknowledgement; 0 for never."""
        frequency = self.options.ack_freq
        return 0 if frequency == "never" or not self.options.ack else frequency

    def remember(self, session: Session) -> str:
        """A new id under which `session` can be resumed."""
        id_ = secrets.token_urlsafe(_ID_BYTES)
        self._sessions[id_] = session
        return id_

    def find_session(self, id_: str, account: str) -> Session | None:
        """The session of this id, if it is one of the account's (bare JID)."""
        session = self._sessions.get(id_)
        return session if session is not None and session.jid.bare == account else None

    def forget(self, id_: str, handled: int) -> None:
        """The session is over, having handled so many stanzas."""
        session = self._sessions.pop(id_, None)
        stale = self.options.stale_h
        if session is None or not stale.enabled:
            return
        self._stale[id_] = (session.jid.bare, handled, self.clock.seconds() + stale.geriatric)
        now = self.clock.seconds()
        while self._stale:
            oldest = next(iter(self._stale))
            if len(self._stale) <= MAX_STALE and self._stale[oldest][2] > now:
                break
            del self._stale[oldest]

    def update_stale(self, id_: str, handled: int) -> None:
        """Something that a session had sent was committed after its end."""
        if id_ in self._stale:
            bare, _, until = self._stale[id_]
            self._stale[id_] = (bare, handled, until)

    def stale_h(self, id_: str, account: str) -> int | None:
        """How many stanzas a session that is over had handled, while that is remembered."""
        bare, handled, until = self._stale.get(id_, ("", 0, 0.0))
        return handled if bare == account and until > self.clock.seconds() else None
