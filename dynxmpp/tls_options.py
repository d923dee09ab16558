"""TLS of a listener, as its section [tls] wants it."""

from typing import Any

from dynxmpp.config.general import General
from dynxmpp.config.listen import C2STls, Tls
from dynxmpp.tls import (
    ALPN_HTTP,
    ALPN_XMPP_CLIENT,
    CertificateFiles,
    ServerTLS,
    StoredCertificates,
    TLSOptions,
    VerifyMode,
    ensure_self_signed,
)


def build_tls(config: Tls, general: General, *, clock: Any, stored: StoredCertificates | None = None) -> ServerTLS:
    """Makes the self-signed certificate too, where one is wanted and there is none. Raises TLSConfigError, OSError.

    `stored`: certificates of domains that are in no file.
    """
    directory = None
    defaults = [] if config.certfile is None else [CertificateFiles(config.certfile, config.keyfile)]
    alpn: tuple[bytes, ...] = (ALPN_HTTP,)
    if isinstance(config, C2STls):
        directory = config.certificates_dir
        # XEP-0368 speaks of ALPN where TLS comes first; a client that has agreed on STARTTLS has nothing to choose.
        alpn = (ALPN_XMPP_CLIENT,) if config.mode == "tls" else ()
        if config.self_signed and directory is not None:
            names = list(dict.fromkeys([general.default_server_domain, *general.hosts]))
            defaults.append(ensure_self_signed(directory, names, clock=clock))
    options = TLSOptions(
        versions=config.versions,
        ciphers=config.ciphers,
        password=config.password,
        dhfile=config.dhfile,
        verify_mode=VerifyMode(config.verify_mode),
        cacertfile=config.cacertfile,
        crl_files=config.crl_files,
        disconnect_on_failure=config.disconnect_on_failure,
        session_tickets=config.session_tickets is not None,
        alpn=alpn,
    )
    return ServerTLS(options, clock=clock, directory=directory, defaults=defaults, stored=stored)
