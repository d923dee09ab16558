"""SASL on a stream: the exchanges, however they are spelled, and the profile of RFC 6120 section 6.4.

RFC 6120 has <auth/>, <challenge/>, <response/>, <abort/>, <success/> and <failure/>; sasl2.py is the other profile.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

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


class Profile(ABC):
    """How SASL is spelled on a stream, and what follows when it has succeeded."""

    #: The element that begins an exchange.
    opening: ClassVar[str]
    #: Must nothing but the rest of an exchange come while it goes on? Then anything else ends the stream.
    is_strict: ClassVar[bool]

    @abstractmethod
    def open(self, element: Stanza) -> tuple[sasl.Mechanism, bytes | None]:
        """The mechanism that an opening element chooses, and its initial response if any. Raises SaslFailure."""

    @abstractmethod
    def decode(self, text: str) -> bytes:
        """The content of <response/>. Raises SaslFailure."""

    @abstractmethod
    def challenge(self, data: bytes) -> bytes:
        """<challenge/>"""

    @abstractmethod
    def failure(self, problem: sasl.SaslFailure) -> bytes:
        """<failure/>"""

    @abstractmethod
    async def succeed(self, success: sasl.Success) -> None:
        """Writes <success/>, and does what belongs to it. Raises SaslFailure, StreamError."""


class Authentication:
    """The exchanges on one stream of one domain, until one succeeds or there were too many, over all profiles."""

    def __init__(
        self,
        stream: C2SStream,
        context: C2SContext,
        domain: str,
        host_type: HostType,
        channel_bindings: Mapping[str, bytes],
    ) -> None:
        self._stream = stream
        self._context = context
        self.domain = domain
        #: Those that this listener lets in.
        self.accounts = accounts_of(host_type)
        if context.config.allowed_auth_methods is not None:
            self.accounts = self.accounts.only(context.config.allowed_auth_methods)
        self.channel_bindings = channel_bindings
        self._mechanism: sasl.Mechanism | None = None
        #: Whose exchange is going on.
        self._profile: Profile | None = None
        self._failures = 0
        config = host_type.config
        assert config is not None
        mode = context.tls_mode
        #: Names of the mechanisms that this stream may choose from.
        self.offered = sasl.offered_mechanisms(
            self.accounts.mechanisms(),
            config.auth.sasl_mechanisms,
            # In clear only where the administrator wants no TLS at all; a stream that could have it must use it first.
            plain_allowed=mode is None or bool(getattr(stream.authenticator, "encrypted", False)),
            channel_bindings=channel_bindings,
        )

    def mechanism(self, name: str) -> sasl.Mechanism:
        """A fresh exchange. Raises SaslFailure for a mechanism that is not offered."""
        return sasl.create(
            name,
            domain=self.domain,
            accounts=self.accounts,
            channel_bindings=self.channel_bindings,
            offered=self.offered,
            random=self._context.random,
        )

    def receive(self, profile: Profile, nonza: Stanza) -> None:
        """An element of the profile's namespace."""
        going_on = self._profile
        if going_on is not None and (
            going_on is not profile or (profile.is_strict and nonza.name not in ("response", "abort"))
        ):
            self._stream.fail(StreamError("policy-violation", "An exchange is going on already"))
        elif nonza.name == "abort":
            self._fail(profile, sasl.SaslFailure("aborted"))
        elif nonza.name in (profile.opening, "response"):
            self._stream.stream.suspend()
            self._stream.pause()
            self._context.spawn("authentication_failed", self._step(profile, nonza))
        else:
            self._stream.fail(StreamError("unsupported-stanza-type"))

    async def _step(self, profile: Profile, nonza: Stanza) -> None:
        try:
            outcome = await self._advance(profile, nonza)
            if self._stream.ended:
                return
            if isinstance(outcome, sasl.Challenge):
                self._stream.write(profile.challenge(outcome.data))
            else:
                await profile.succeed(outcome)
        except sasl.SaslFailure as failure:
            self._fail(profile, failure)
        except StreamError as error:
            self._stream.fail(error)
            return
        except Exception:
            self._stream.fail(StreamError("internal-server-error"))
            raise
        self._stream.unpause()
        self._stream.resume()

    async def _advance(self, profile: Profile, nonza: Stanza) -> sasl.Challenge | sasl.Success:
        if nonza.name == profile.opening:
            if self._mechanism is not None:
                raise sasl.SaslFailure("malformed-request", "an exchange is going on already")
            self._mechanism, data = profile.open(nonza)
            self._profile = profile
            return await self._mechanism.step(data)
        if self._mechanism is None:
            raise sasl.SaslFailure("malformed-request", "no exchange is going on")
        return await self._mechanism.step(profile.decode(nonza.character_data()))

    def _fail(self, profile: Profile, failure: sasl.SaslFailure) -> None:
        self._mechanism = self._profile = None
        self._failures += 1
        self._stream.write(profile.failure(failure))
        log.info("sasl_failure", domain=self.domain, condition=failure.condition)
        if self._failures >= self._context.config.auth_attempts:
            self._stream.fail(StreamError("policy-violation", "Too many failed attempts"))


class Rfc6120Profile(Profile):
    """The profile of RFC 6120: after success the stream begins anew."""

    opening = "auth"
    is_strict = False

    def __init__(self, stream: C2SStream, authentication: Authentication, succeeded: Callable[[str], None]) -> None:
        """`succeeded(username)` is called after <success/> has been sent."""
        self._stream = stream
        self._authentication = authentication
        self._succeeded = succeeded

    def features(self) -> bytes:
        """The stream features that offer the mechanisms (RFC 6120 6.4.1, XEP-0440)."""
        offered = self._authentication.offered
        if not offered:
            return b""
        names = "".join(f"<mechanism>{name}</mechanism>" for name in offered)
        parts = f"<mechanisms xmlns='{NS_SASL}'>{names}</mechanisms>"
        binding = sasl.channel_binding_feature(offered, self._authentication.channel_bindings)
        return (parts + (binding.toXml() if binding is not None else "")).encode()

    def open(self, element: Stanza) -> tuple[sasl.Mechanism, bytes | None]:
        mechanism = self._authentication.mechanism(element.attributes.get("mechanism", ""))
        return mechanism, sasl.decode_initial(element.character_data())

    def decode(self, text: str) -> bytes:
        return sasl.decode_response(text)

    def challenge(self, data: bytes) -> bytes:
        return self._element("challenge", sasl.encode(data))

    def failure(self, problem: sasl.SaslFailure) -> bytes:
        text = f"<text xml:lang='en'>{escape.text(problem.text)}</text>" if problem.text else ""
        return f"<failure xmlns='{NS_SASL}'><{problem.condition}/>{text}</failure>".encode()

    async def succeed(self, success: sasl.Success) -> None:
        self._stream.write(self._element("success", "" if success.data is None else sasl.encode(success.data)))
        self._succeeded(success.username)

    @staticmethod
    def _element(name: str, content: str) -> bytes:
        if not content:
            return f"<{name} xmlns='{NS_SASL}'/>".encode()
        return f"<{name} xmlns='{NS_SASL}'>{content}</{name}>".encode()
