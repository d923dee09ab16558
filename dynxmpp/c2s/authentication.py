"""SASL on a stream, the profile of RFC 6120 section 6.4: <auth/>, <challenge/>, <response/>, <abort/>, <success/>."""

from collections.abc import Callable, Mapping

from twisted.logger import Logger

from dynxmpp.c2s import sasl
from dynxmpp.c2s.context import C2SContext, accounts_of
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.core.host_type import HostType
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_SASL
from dynxmpp.wire.stanza import Stanza

log = Logger()


class Authentication:
    """The exchanges on one stream of one domain, until one succeeds or there were too many."""

    def __init__(
        self,
        stream: C2SStream,
        context: C2SContext,
        domain: str,
        host_type: HostType,
        channel_bindings: Mapping[str, bytes],
        succeeded: Callable[[str], None],
    ) -> None:
        """`succeeded(username)` is called after <success/> has been sent."""
        self._stream = stream
        self._context = context
        self._domain = domain
        self._accounts = accounts_of(host_type)
        if context.config.allowed_auth_methods is not None:
            self._accounts = self._accounts.only(context.config.allowed_auth_methods)
        self._channel_bindings = channel_bindings
        self._succeeded = succeeded
        self._mechanism: sasl.Mechanism | None = None
        self._failures = 0
        config = host_type.config
        assert config is not None
        mode = context.tls_mode
        #: Names of the mechanisms that this stream may choose from.
        self.offered = sasl.offered_mechanisms(
            self._accounts.mechanisms(),
            config.auth.sasl_mechanisms,
            # In clear only where the administrator wants no TLS at all; a stream that could have it must use it first.
            plain_allowed=mode is None or bool(getattr(stream.authenticator, "encrypted", False)),
            channel_bindings=channel_bindings,
        )

    def features(self) -> bytes:
        """The stream features that offer the mechanisms (RFC 6120 6.4.1, XEP-0440)."""
        if not self.offered:
            return b""
        names = "".join(f"<mechanism>{name}</mechanism>" for name in self.offered)
        parts = f"<mechanisms xmlns='{NS_SASL}'>{names}</mechanisms>"
        binding = sasl.channel_binding_feature(self.offered, self._channel_bindings)
        return (parts + (binding.toXml() if binding is not None else "")).encode()

    def receive(self, nonza: Stanza) -> None:
        """An element of the SASL namespace."""
        if nonza.name == "abort":
            self._fail(sasl.SaslFailure("aborted"))
        elif nonza.name in ("auth", "response"):
            self._stream.stream.suspend()
            self._stream.pause()
            self._context.spawn("authentication_failed", self._step(nonza))
        else:
            self._stream.fail(StreamError("unsupported-stanza-type"))

    async def _step(self, nonza: Stanza) -> None:
        try:
            outcome = await self._advance(nonza)
        except sasl.SaslFailure as failure:
            self._fail(failure)
            self._release()
            return
        except Exception:
            self._stream.fail(StreamError("internal-server-error"))
            raise
        if self._stream.ended:
            return
        if isinstance(outcome, sasl.Challenge):
            self._stream.write(self._element("challenge", sasl.encode(outcome.data)))
            self._release()
            return
        data = "" if outcome.data is None else sasl.encode(outcome.data)
        self._stream.write(self._element("success", data))
        self._succeeded(outcome.username)
        self._stream.unpause()

    def _release(self) -> None:
        self._stream.unpause()
        self._stream.resume()

    async def _advance(self, nonza: Stanza) -> sasl.Challenge | sasl.Success:
        text = nonza.character_data()
        if nonza.name == "auth":
            if self._mechanism is not None:
                raise sasl.SaslFailure("malformed-request", "an exchange is going on already")
            self._mechanism = sasl.create(
                nonza.attributes.get("mechanism", ""),
                domain=self._domain,
                accounts=self._accounts,
                channel_bindings=self._channel_bindings,
                offered=self.offered,
                random=self._context.random,
            )
            return await self._mechanism.step(sasl.decode_initial(text))
        if self._mechanism is None:
            raise sasl.SaslFailure("malformed-request", "no exchange is going on")
        return await self._mechanism.step(sasl.decode_response(text))

    def _fail(self, failure: sasl.SaslFailure) -> None:
        self._mechanism = None
        self._failures += 1
        text = f"<text xml:lang='en'>{escape.text(failure.text)}</text>" if failure.text else ""
        self._stream.write(f"<failure xmlns='{NS_SASL}'><{failure.condition}/>{text}</failure>".encode())
        log.info("sasl_failure", domain=self._domain, condition=failure.condition)
        if self._failures >= self._context.config.auth_attempts:
            self._stream.fail(StreamError("policy-violation", "Too many failed attempts"))

    @staticmethod
    def _element(name: str, content: str) -> bytes:
        if not content:
            return f"<{name} xmlns='{NS_SASL}'/>".encode()
        return f"<{name} xmlns='{NS_SASL}'>{content}</{name}>".encode()
