"""[listen]: the ports, and who is spoken to on them."""

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from dynxmpp.config.auth import available_method
from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Moved,
    Section,
    Structure,
    at_most,
    each,
    file_exists,
    ip_address,
    non_empty,
    non_negative,
    one_of,
    only,
    option,
    port,
    positive,
    section,
    unique,
)
from dynxmpp.config.pools import TLS_VERSIONS, VerifyMode, available_tls_version, verify_mode_of
from dynxmpp.config.report import quoted

#: The largest stanza that can be allowed, in bytes.
MAX_STANZA_SIZE: Final = 10 * 1024 * 1024

_NOT_AVAILABLE: Final = "not available in this server"


# -- TLS --------------------------------------------------------------------------------------------------------------


@section(moved={"verify_peer": Moved("verify_mode", verify_mode_of)})
class Tls(Section):
    """[listen.http.tls]; `certfile` is a PEM file and may hold the key as well."""

    certfile: Path | None = option(default=None, check=file_exists)
    keyfile: Path | None = option(default=None, check=file_exists)
    password: str | None = option(default=None, secret=True)
    cacertfile: Path | None = option(default=None, check=file_exists)
    dhfile: Path | None = option(default=None, check=file_exists)
    ciphers: str | None = option(default=None, check=non_empty)
    versions: tuple[str, ...] = option(default=TLS_VERSIONS, check=(non_empty, each(available_tls_version), unique))
    verify_mode: VerifyMode = option(default="peer")
    disconnect_on_failure: bool = option(default=True)
    crl_files: tuple[Path, ...] = option(default=(), check=each(file_exists))
    keep_secrets: bool = option(default=False, unused=True)
    early_data: bool = option(default=False, unused=True)
    session_tickets: Literal["stateless"] | None = option(default=None)

    def contradictions(self) -> Iterator[Mistake]:
        if self.certfile is None and not self._has_other_certificates():
            yield Mistake("is missing: TLS needs a certificate", at=("certfile",))
        if self.keyfile is not None and self.certfile is None:
            yield Mistake("is missing: keyfile is the key to it", at=("certfile",))

    def _has_other_certificates(self) -> bool:
        return False


@section
class C2STls(Tls):
    """[listen.c2s.tls]"""

    mode: Literal["tls", "starttls", "starttls_required"] = option(default="starttls")
    certificates_dir: Path | None = option(default=None)
    self_signed: bool = option(default=False)
    module: Literal["fast_tls", "just_tls"] = option(default="just_tls", unused=True)
    protocol_options: tuple[Literal["no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1"], ...] = option(
        default=(), unused=True
    )
    server_name_indication: bool = option(default=True, unused=True)

    def contradictions(self) -> Iterator[Mistake]:
        yield from super().contradictions()
        if self.certificates_dir is None:
            if self.self_signed:
                yield Mistake("is missing: self_signed puts its certificate there", at=("certificates_dir",))
        elif not self.self_signed and not os.path.isdir(self.certificates_dir):
            yield Mistake(f"there is no folder {quoted(str(self.certificates_dir), 500)}", at=("certificates_dir",))

    def _has_other_certificates(self) -> bool:
        return self.certificates_dir is not None or self.self_signed


# -- all listeners ----------------------------------------------------------------------------------------------------


def _all_addresses(listener: "Listener") -> str:
    return "::" if listener.ip_version == 6 else "0.0.0.0"


@section
class Listener(Section):
    """What every listener has."""

    port: int = option(check=port)
    ip_version: Literal[4, 6] | None = option(default=None)
    ip_address: str = option(default=attrs.Factory(_all_addresses, takes_self=True), check=ip_address)
    proto: Literal["tcp"] = option(default="tcp", unused=True)
    hibernate_after: IntOrInfinity = option(default=0, check=non_negative, unused=True)
    max_connections: IntOrInfinity = option(default=float("inf"), check=positive)
    reuse_port: bool = option(default=False)
    backlog: int = option(default=1024, check=non_negative)
    num_acceptors: int = option(default=100, check=positive, unused=True)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        return ipaddress.ip_address(self.ip_address).is_loopback

    def contradictions(self) -> Iterator[Mistake]:
        if self.ip_version not in (None, ipaddress.ip_address(self.ip_address).version):
            yield Mistake(f"{self.ip_address} is no address of that version", at=("ip_version",))


# -- clients ----------------------------------------------------------------------------------------------------------


@section(refused={"zlib": "stream compression is not available in this server"})
class C2SListener(Listener):
    """[[listen.c2s]]: clients. Sizes are bytes, times milliseconds."""

    tls: C2STls | None = option(default=None)
    access: str = option(default="all", check=non_empty)
    shaper: str | None = option(default=None, check=non_empty)
    allowed_auth_methods: tuple[str, ...] | None = option(default=None, check=(each(available_method), unique))
    backwards_compatible_session: bool = option(default=True)
    max_stanza_size: int = option(
        default=262144, synonyms={"infinity": MAX_STANZA_SIZE}, check=(positive, at_most(MAX_STANZA_SIZE))
    )
    max_depth: int = option(default=64, check=positive)
    max_attributes: int = option(default=64, check=positive)
    max_unauthenticated: int = option(default=100, check=positive)
    auth_attempts: int = option(default=3, check=positive)
    max_send_queue: int = option(default=1048576, check=positive)
    state_timeout: IntOrInfinity = option(default=30000, check=non_negative, aliases=("c2s_state_timeout",))
    proxy_protocol: bool = option(
        default=False, check=only(False, "the PROXY protocol is not available in this server")
    )
    xml_socket: bool = option(default=False, check=only(False, "not available in this server"), unused=True)
    max_fsm_queue: int | None = option(default=None, check=positive, unused=True)


# -- HTTP -------------------------------------------------------------------------------------------------------------


def absolute(path: str) -> str:
    """A check: the path of a URL, from its root."""
    if not path.startswith("/"):
        raise Mistake('must begin with "/"')
    return path


@section
class HttpHandler(Section):
    """[[listen.http.handlers.NAME]]: what answers below one path of one host; host "_" means any."""

    host: str = option(check=non_empty)
    path: str = option(check=absolute)


@section
class ApiHandler(HttpHandler):
    """A handler that may ask for a name and a password."""

    username: str | None = option(default=None, check=non_empty)
    password: str | None = option(default=None, check=non_empty, secret=True)

    def contradictions(self) -> Iterator[Mistake]:
        if (self.username is None) != (self.password is None):
            missing = "username" if self.username is None else "password"
            yield Mistake("is missing: both username and password are required, or neither", at=(missing,))


@section
class DomainHandler(ApiHandler):
    """[[listen.http.handlers.mongoose_domain_handler]]: domains, in the dialect of 5.0."""


@section
class AdminApiHandler(ApiHandler):
    """[[listen.http.handlers.mongoose_admin_api]]: domains, accounts, sessions, rooms; the dialect of 6.0 to 6.5."""

    handlers: tuple[str, ...] = option(
        default=("domain", "users", "sessions", "muc_light"),
        check=(
            non_empty,
            each(
                one_of(
                    "domain",
                    "users",
                    "sessions",
                    "muc_light",
                    unavailable=(
                        "contacts",
                        "messages",
                        "stanzas",
                        "muc",
                        "inbox",
                        "metrics",
                    ),
                    kind="handler",
                )
            ),
            unique,
        ),
    )


@section
class MetricsHandler(HttpHandler):
    """[[listen.http.handlers.mongoose_prometheus_handler]]: numbers for Prometheus."""


_OTHER_HANDLERS: Final = (
    "mongoose_api_admin",
    "mongoose_api",
    "mongoose_api_client",
    "mongoose_client_api",
    "mongoose_client_api_contacts",
    "mongoose_client_api_messages",
    "mongoose_client_api_rooms",
    "mongoose_client_api_rooms_config",
    "mongoose_client_api_rooms_messages",
    "mongoose_client_api_rooms_users",
    "mongoose_client_api_sse",
    "mongoose_graphql_handler",
    "mongoose_bosh_handler",
    "mongoose_websocket_handler",
    "mod_bosh",
    "mod_websockets",
    "lasse_handler",
    "cowboy_static",
    "cowboy_swagger_redirect_handler",
    "cowboy_swagger_json_handler",
)


@section(refused=dict.fromkeys(_OTHER_HANDLERS, _NOT_AVAILABLE))
class HttpHandlers(Section):
    """[listen.http.handlers]"""

    mongoose_domain_handler: tuple[DomainHandler, ...] = option(default=())
    mongoose_admin_api: tuple[AdminApiHandler, ...] = option(default=())
    mongoose_prometheus_handler: tuple[MetricsHandler, ...] = option(default=())


def _handlers_in_order(value: Any, structure: Structure) -> tuple[HttpHandler, ...]:
    """The handlers of all kinds in the order of the file: the first one that fits a request answers it."""
    handlers = structure(value, HttpHandlers)
    return tuple(handler for kind in value for handler in getattr(handlers, kind))


@section
class HttpTransport(Section):
    """[listen.http.transport]"""

    num_acceptors: int = option(default=100, check=positive, unused=True)
    max_connections: IntOrInfinity = option(default=1024, check=non_negative)


@section
class HttpProtocol(Section):
    """[listen.http.protocol]"""

    compress: bool = option(default=False, unused=True)


@section
class HttpListener(Listener):
    """[[listen.http]]"""

    tls: Tls | None = option(default=None)
    transport: HttpTransport = option(factory=HttpTransport)
    protocol: HttpProtocol = option(factory=HttpProtocol)
    handlers: tuple[HttpHandler, ...] = option(default=(), read=_handlers_in_order)


@section(refused=dict.fromkeys(("s2s", "service", "component"), _NOT_AVAILABLE))
class Listen(Section):
    """[listen]"""

    c2s: tuple[C2SListener, ...] = option(default=())
    http: tuple[HttpListener, ...] = option(default=())

    def contradictions(self) -> Iterator[Mistake]:
        taken: dict[tuple[str, int], str] = {}
        for kind, listeners in (("c2s", self.c2s), ("http", self.http)):
            for index, listener in enumerate(listeners):
                place = (listener.ip_address, listener.port)
                if listener.port and place in taken:
                    what = f"listens on {listener.ip_address} port {listener.port} like {taken[place]}"
                    yield Mistake(what, at=(kind, index))
                taken.setdefault(place, f"listen.{kind}[{index}]")
