"""A request as the site's resources see it, and how it is answered."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.web.server import Request

from dynxmpp.rest.operation import JSON
from dynxmpp.rest.upload import Upload

if TYPE_CHECKING:
    from dynxmpp.rest.site import AdminSite

__all__ = ["AdminRequest"]

#: Of a body that is too large this much more is read, to be answered with 413; then the connection is closed.
_PATIENCE: Final = 16


class AdminRequest(Request):
    """A request whose body is bounded while it comes in, or handed on as it comes where its operation wants that."""

    defaultContentType = None  # an empty answer has no type
    site: "AdminSite"
    #: The body of an operation that takes an upload, None for all others.
    upload: Upload | None = None

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)  # in memory: it is never larger than the bound
        self._received = 0

    def handleContentChunk(self, data: bytes) -> None:
        channel: Any = self.channel  # `self.site` is there once the whole request is
        if not self._received:
            self._begin_upload(channel)
        limit = channel.site.max_body_bytes
        self._received += len(data)
        if self.upload is not None:
            self.upload.received(data)
            return
        if self._received <= limit:
            super().handleContentChunk(data)
        elif self._received > _PATIENCE * limit:
            channel.loseConnection()

    def _begin_upload(self, channel: Any) -> None:
        """With the first of its body a request is answered already, if its operation takes an upload."""
        self.method, self.uri = channel._command, channel._path
        if channel.site.takes_upload(self):
            channel._savedTimeOut = channel.timeOut  # the upload takes it away, the end of the request gives it back
            self.upload = Upload(channel)
            super().requestReceived(channel._command, channel._path, channel._version)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.upload is None:
            super().requestReceived(command, path, version)
        else:
            self.upload.ended()

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        if self.upload is not None:
            self.upload.lost()

    def finish(self) -> None:
        if self.upload is None or self.upload.complete:
            super().finish()
        else:
            self.upload.discard(super().finish)

    @property
    def too_large(self) -> bool:
        return self.upload is None and self._received > self.site.max_body_bytes

    def header(self, name: bytes) -> str | None:
        """The last header of this name. Strangers may put any bytes there, so they are not taken for UTF-8."""
        values = self.requestHeaders.getRawHeaders(name)
        return values[-1].decode("latin-1") if values else None

    def body(self) -> bytes:
        content: Any = self.content
        data: bytes = content.read()
        return data

    def answer(self, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        """Writes the whole answer, if there is still somebody to read it."""
        if self.finished or self.is_gone:
            return
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        own = {} if body is None else {"Content-Type": JSON}
        if status != 204:
            own["Content-Length"] = str(len(data))
        if self.upload is not None and not self.upload.complete:
            own["Connection"] = "close"  # so that the client need not send the rest
            channel: Any = self.channel
            channel.persistent = False
        self.begin(status, {**own, **(headers or {})})
        self.write(data)
        self.finish()

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """What an answer begins with, sent with the first of its body."""
        self.setResponseCode(status)
        self.setHeader("Server", self.site.server_name)
        for name, value in headers.items():
            self.setHeader(name, value)

    @property
    def is_gone(self) -> bool:
        """Has the client closed the connection?"""
        gone: bool = self._disconnected
        return gone
