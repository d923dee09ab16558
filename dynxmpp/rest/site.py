"""The HTTP side of the administration: which mount a request is for, credentials, limits, and errors as answers.

In this order: Host header and path (404), method (405), type of the body (415), what the client accepts (406), size of
the body (413), credentials, and then the handler. A mount is a handler section of the configuration: a dialect at a
path.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote, unquote_to_bytes

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET, Site
from werkzeug.exceptions import HTTPException
from zope.interface import implementer

from dynxmpp import __version__
from dynxmpp.rest.channel import AdminChannel
from dynxmpp.rest.dialect import Dialect, ErrorAnswer
from dynxmpp.rest.errors import (
    BodyTooLarge,
    InternalFault,
    NoCredentials,
    NotAcceptable,
    UnexpectedCredentials,
    UnsupportedMediaType,
    WrongCredentials,
)
from dynxmpp.rest.openapi import OpenApi
from dynxmpp.rest.operation import ALIASES, JSON, NO_UPLOAD, Call, Handler, Operation, Reply, operations_of
from dynxmpp.rest.request import AdminRequest
from dynxmpp.rest.streaming import send

__all__ = ["ANY_HOST", "MAX_BODY_BYTES", "AdminSite", "Attachment", "Mount"]

ANY_HOST: Final = "_"
MAX_BODY_BYTES: Final = 64 * 1024
_IDLE_TIMEOUT_S: Final = 60

log = Logger()


@dataclass(frozen=True)
class Credentials:
    """The name and the password that a mount asks for."""

    username: str
    password: str

    def fit(self, username: bytes, password: bytes) -> bool:
        same_name = hmac.compare_digest(self.username.encode(), username)
        return hmac.compare_digest(self.password.encode(), password) and same_name


class Mount:
    """A dialect at a path of a host ("_" for any): the operations of `apis`, and their description."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        host: str,
        path: str,
        apis: Iterable[object],
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.dialect = dialect
        self.host = host.lower()
        self.path = path.rstrip("/")
        self._credentials = None
        if username is not None and password is not None:
            self._credentials = Credentials(username, password)
        openapi = OpenApi(dialect, path=self.path, version=__version__, protected=self._credentials is not None)
        self.resources: dict[str, dict[str, tuple[Operation, Handler]]] = {}
        for api in (*apis, openapi):
            for operation, handler in operations_of(api):
                self.resources.setdefault(operation.path, {})[operation.method] = (operation, handler)
        openapi.describe(operation for methods in self.resources.values() for operation, _ in methods.values())
        self._klein = self._routes()

    def _routes(self) -> Klein:
        app = Klein()
        for path in self.resources:
            rule = path.replace("{", "<").replace("}", ">")

            def dispatch(request: AdminRequest, path: str = path, **variables: str) -> Any:
                return self._dispatch(request, path, variables)

            app.route(rule, endpoint=path)(dispatch)
        return app

    def find(self, segments: Sequence[str]) -> tuple[str, Mapping[str, Any]] | None:
        """The resource that a path (percent-encoded, without the mount's own) leads to, and its variables."""
        if not all(segments):
            return None  # werkzeug would take a path with an empty part for another spelling of one without
        try:
            return cast(
                "tuple[str, Mapping[str, Any]]",
                self._klein.url_map.bind("localhost").match("/" + "/".join(segments), method="GET"),
            )
        except HTTPException:
            return None

    def takes_upload(self, method: str, found: tuple[str, Mapping[str, Any]]) -> bool:
        """Does the operation read its body while it comes in?"""
        described = self.resources[found[0]].get(method)
        return described is not None and described[0].upload is not None

    def answer(self, request: AdminRequest, found: tuple[str, Mapping[str, Any]]) -> Deferred[None]:
        """Does what the request asks for and writes the answer.

        What was begun goes on when the client leaves, other than an answer that comes in chunks.
        """
        endpoint, variables = found
        return maybeDeferred(cast("Any", self._klein.execute_endpoint), endpoint, request, **variables)

    async def _dispatch(self, request: AdminRequest, path: str, variables: Mapping[str, str]) -> None:
        methods = self.resources[path]
        method = request.method.decode("ascii", "replace")
        allowed = [*methods, *(["OPTIONS"] if self.dialect.has_options else [])]
        if method not in allowed:
            request.answer(405, headers={"Allow": ", ".join(allowed)})
            return
        try:
            reply = await self._reply(request, method, methods, variables, allowed)
            first = None if reply.chunks is None else await anext(reply.chunks, None)
        except Exception as error:  # noqa: BLE001 - border: whatever a handler raises becomes an answer
            self._refuse(request, error, path)
            return
        if reply.chunks is None:
            request.answer(reply.status, reply.body, reply.headers)
        else:
            request.begin(reply.status, {"Content-Type": methods[method][0].media_type, **reply.headers})
            await send(request, first, reply.chunks)

    async def _reply(
        self,
        request: AdminRequest,
        method: str,
        methods: Mapping[str, tuple[Operation, Handler]],
        variables: Mapping[str, str],
        allowed: Sequence[str],
    ) -> Reply:
        described = methods.get(method)
        if described is not None:
            _check_types(request, described[0])
        if request.too_large:
            raise BodyTooLarge
        self._check_credentials(request.header(b"Authorization"))
        if described is None:
            return Reply(200, headers={"Allow": ", ".join(allowed)})
        _, _, query = request.uri.partition(b"?")
        return await described[1](Call(variables, query, request.body(), request.upload or NO_UPLOAD))

    def _check_credentials(self, header: str | None) -> None:
        if header is None:
            if self._credentials is not None:
                raise NoCredentials
            return
        scheme, _, value = header.strip().partition(" ")
        if scheme.lower() != "basic":
            if self._credentials is not None:
                raise NoCredentials
            if self.dialect.refuses_other_schemes:
                raise UnexpectedCredentials
            return
        if self._credentials is None:
            raise UnexpectedCredentials
        try:
            username, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError) as error:
            raise WrongCredentials from error
        if not self._credentials.fit(username, password):
            raise WrongCredentials

    def _refuse(self, request: AdminRequest, error: Exception, path: str) -> None:
        answer: ErrorAnswer = self.dialect.answer(type(error))
        if answer is self.dialect.errors[InternalFault]:
            log.failure("rest_handler_failed", failure=Failure(error), method=request.method.decode(), path=path)
        elif answer.status >= 500:
            log.error("rest_request_failed", reason=str(error), method=request.method.decode(), path=path)
        text = answer.text_for(error)
        headers = {}
        if answer.status == 401 and self.dialect.challenge is not None:
            headers["WWW-Authenticate"] = self.dialect.challenge
        request.answer(answer.status, None if text is None else self.dialect.error_body(text), headers)


@dataclass(frozen=True)
class Attachment:
    """Any other resource at a path of a host: metrics, an admin page."""

    host: str
    path: str
    resource: IResource


@implementer(IResource)
class _Root(Resource):
    """Finds the first mount that has what a request names."""

    isLeaf = True

    def __init__(self, places: Iterable[Mount | Attachment]) -> None:
        super().__init__()
        self._places = tuple(places)

    def render(self, request: Any) -> Any:
        for place, own, rest in self._named(request):
            if isinstance(place, Attachment):
                return _render_attached(place.resource, request, own)
            found = place.find(rest)
            if found is not None:
                place.answer(request, found).addErrback(_unanswered, request)
                return NOT_DONE_YET
        request.answer(404)
        return NOT_DONE_YET

    def takes_upload(self, request: AdminRequest) -> bool:
        """Is the request for an operation that reads its body while it comes in?"""
        for place, _, rest in self._named(request):
            if isinstance(place, Attachment):
                return False
            found = place.find(rest)
            if found is not None:
                return place.takes_upload(request.method.decode("ascii", "replace"), found)
        return False

    def _named(self, request: AdminRequest) -> Iterator[tuple[Mount | Attachment, int, list[str]]]:
        """The places that a request may be for, how many parts of its path name them, and the parts behind."""
        authority, path = target_of(request)
        host = host_of(authority)
        # Taken apart before it is decoded: %2F is a character of a name, a slash is none.
        segments = path.split(b"/")[1:]
        decoded = [unquote_to_bytes(segment) for segment in segments]
        for place in self._places:
            if place.host.lower() not in (ANY_HOST, host):
                continue
            own = [part.encode() for part in place.path.strip("/").split("/") if part]
            if decoded[: len(own)] == own:
                yield place, len(own), [quote(segment, safe="") for segment in decoded[len(own) :]]


def _render_attached(resource: IResource, request: Any, own: int) -> Any:
    request.prepath, request.postpath = request.postpath[:own], request.postpath[own:]
    return getChildForRequest(resource, request).render(request)


def _unanswered(failure: Failure, request: AdminRequest) -> None:
    """Only a mistake in this file leads here."""
    if not failure.check(CancelledError):
        log.failure("rest_dispatch_failed", failure=failure)
    request.answer(500)


class AdminSite(Site):
    """The factory of an HTTP listener. `places` are tried in their order; the first that fits a request answers it."""

    def __init__(
        self,
        places: Iterable[Mount | Attachment],
        *,
        clock: IReactorTime,
        max_body_bytes: int = MAX_BODY_BYTES,
        server_name: str = "dynxmpp",
    ) -> None:
        root = _Root(places)
        #: Is a request, of which method and target are known, for an operation that reads its body while it comes in?
        self.takes_upload = root.takes_upload
        super().__init__(root, reactor=clock, timeout=_IDLE_TIMEOUT_S, parsePOSTFormSubmission=False)
        self.protocol = cast("Any", AdminChannel)  # type: ignore[method-assign]
        self.requestFactory = AdminRequest
        self.displayTracebacks = False
        self.max_body_bytes = max_body_bytes
        self.server_name = server_name

    def log(self, request: object) -> None:
        """What administrators change is logged by those who change it; requests are not."""


def target_of(request: AdminRequest) -> tuple[str | None, bytes]:
    """Whom a request is for, and its path. A target that is a whole URL overrides Host (RFC 9112 3.2.2)."""
    target = request.uri.partition(b"?")[0]
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority, _, path = rest.partition(b"/")
        return authority.decode("latin-1"), b"/" + path
    return request.header(b"Host"), target


def host_of(header: str | None) -> str:
    """The name in a Host header, without the port, in lower case."""
    host = (header or "").strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _check_types(request: AdminRequest, operation: Operation) -> None:
    """Raises UnsupportedMediaType, NotAcceptable."""
    if operation.content_type is not None:
        given = (request.header(b"Content-Type") or "").partition(";")[0].strip().lower()
        if ALIASES.get(given, given) != operation.content_type:
            raise UnsupportedMediaType
    if operation.method == "GET" and not accepts_json(request.header(b"Accept"), operation.media_type):
        raise NotAcceptable


def accepts_json(header: str | None, media_type: str = JSON) -> bool:
    """Whether an Accept header (RFC 9110 12.5.1) leaves a type of application/; the most specific range decides."""
    if header is None or not header.strip():
        return True
    best: tuple[int, bool] = (-1, False)
    for entry in header.split(","):
        media, *parameters = [part.strip().lower() for part in entry.split(";")]
        rank = {"*/*": 0, "application/*": 1, media_type: 2}.get(media)
        if rank is not None:
            best = max(best, (rank, not any(_is_zero(parameter) for parameter in parameters)))
    return best[1]


def _is_zero(parameter: str) -> bool:
    """A quality value of nothing, such as `q=0.000`."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().replace(".", "", 1).strip("0") == "" and "0" in value
