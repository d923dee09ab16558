"""In-band registration before authentication (XEP-0077 3.1), where the host type has a module for it."""

from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.c2s.stream import C2SStream
from dynxmpp.core import replies
from dynxmpp.core.interfaces import Registration
from dynxmpp.wire.errors import StreamError, stanza_error
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.stanza import Stanza, qualified

NS_REGISTER = "jabber:iq:register"
#: Requests of one stream.
MAX_REQUESTS = 10
_QUERY = (qualified(NS_REGISTER, "query"),)


class StreamRegistration:
    """What a stream that has not authenticated may ask of a Registration; one account a stream."""

    def __init__(self, stream: C2SStream, registration: Registration, domain: str, address: str) -> None:
        self._stream = stream
        self._registration = registration
        self._domain = domain
        self._address = address
        self._done = False
        self._requests = 0

    @staticmethod
    def is_request(stanza: Stanza) -> bool:
        return (
            stanza.name == "iq"
            and stanza.uri == NS_CLIENT
            and stanza.attributes.get("type") in ("get", "set")
            and stanza.child_keys == _QUERY
        )

    async def receive(self, request: Stanza) -> None:
        """Answers a request; an error goes out without it, because it has a password in it."""
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            # Each restarts the time in which a stream has to authenticate.
            self._stream.fail(StreamError("policy-violation", "Too many requests before authentication"))
            return
        try:
            payload = await self._answer(request)
        except Exception as problem:
            condition = stanza_error(problem)
            if condition is None:
                self._stream.fail(StreamError("internal-server-error"))
                raise
            empty = Stanza("iq", {"id": request.attributes.get("id", "")})
            self._stream.write(replies.error(empty, condition, self._domain, "").to_bytes())
        else:
            self._stream.write(payload.to_bytes())

    async def _answer(self, request: Stanza) -> Stanza:
        if "id" not in request.attributes:
            raise StanzaError("bad-request")
        if request.attributes["type"] == "get":
            return replies.result(request, self._registration.form(), self._domain, "")
        if self._done:
            raise StanzaError("not-acceptable", text="An account has been registered on this stream")
        query = request.child(NS_REGISTER, "query")
        assert query is not None
        await self._registration.register(self._domain, query, self._address)
        self._done = True
        return replies.result(request, None, self._domain, "")
