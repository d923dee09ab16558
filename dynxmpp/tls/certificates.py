"""Which certificate answers for which server name, for thousands of names, noticed without a restart.

A name N is answered by the first of these that can be used:

1. what is stored for N (dynxmpp.tls.stored),
2. `DIRECTORY/N/fullchain.pem` with `DIRECTORY/N/privkey.pem` (what ACME clients write),
3. the same files in the wildcard folder of the parent domain, `*.PARENT` or `_.PARENT`,
4. the default certificates, in their order.

No file is read before a client asks for it. A source is looked at again when its last look is older than
`recheck_s`, so a new, replaced or removed folder shows within that time; what is read then is read in the reactor's
thread, about 0.4 ms for a new or changed name. Nobody but the administrator writes to these folders, but the
*names* come from the network, before any authentication: `server_name` decides what may become a path.

Left out: OCSP stapling, and looking whether a certificate's names match the folder it lies in.
"""

import errno
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

CERTIFICATE_FILE = "fullchain.pem"
KEY_FILE = "privkey.pem"

# A DNS name without its final dot (RFC 1035 2.3.4); one label of 63 and the dots between them.
MAX_NAME_LENGTH = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
# Per file: inode, size, times of content and of status; an errno when it cannot be looked at.
_Fingerprint = tuple[tuple[int, int, int, int] | int, ...]
_V = TypeVar("_V")

log = Logger()


class CertificateError(Exception):
    """These files cannot serve as a certificate; the text says why and holds nothing secret."""


@dataclass(frozen=True)
class CertificateFiles:
    """Where a certificate lies. `certificate`: PEM, leaf first, then the chain. `key`: PEM; None: in the same file."""

    certificate: Path
    key: Path | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> "CertificateFiles":
        return cls(folder / CERTIFICATE_FILE, folder / KEY_FILE)


@dataclass(frozen=True)
class Credentials:
    """A loaded certificate: `chain` leaf first, the leaf's private key and the end of its validity (UTC)."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    not_after: datetime


def server_name(text: bytes | str | None) -> str | None:
    """The name as it appears in DNS and as a folder: A-labels, lower case, no final dot. None: no such name.

    Takes what TLS brought (RFC 6066 3: bytes, A-labels) and what a stream header's `to` was prepared to (U-labels).
    None also for everything that is no host name (an IPv6 literal), so the default certificate answers it. No result
    can leave the directory: no slash, no NUL, no empty label and so no "..", no "*", no bare "_" (a wildcard folder).
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("ascii")
        except UnicodeDecodeError:
            return None
    # The limit comes first: the codec below is slow on long input. A prepared name only grows by it.
    if not text or len(text) > MAX_NAME_LENGTH + 1:
        return None
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    name = text.lower().removesuffix(".")
    if len(name) > MAX_NAME_LENGTH or _NAME.fullmatch(name) is None or "_" in name.split("."):
        return None
    return name


def load_credentials(files: CertificateFiles, password: str | None = None) -> Credentials:
    """Read a certificate and its key. `password` is used if the key is encrypted. Raises CertificateError."""
    key_file = files.key or files.certificate
    try:
        certificate_pem = files.certificate.read_bytes()
        key_pem = key_file.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {error.filename}: {error.strerror}") from error
    try:
        chain = tuple(x509.load_pem_x509_certificates(certificate_pem))
        # Fields are parsed when asked for: a broken one must fail here.
        public_key = chain[0].public_key()
        not_after = chain[0].not_valid_after_utc
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(f"no usable certificate in {files.certificate}") from error
    key = _load_key(key_pem, key_file, password)
    if key.public_key() != public_key:
        raise CertificateError(f"the key in {key_file} does not belong to {files.certificate}")
    return Credentials(chain, key, not_after)


def _load_key(pem: bytes, path: Path, password: str | None) -> PrivateKey:
    # The validation skipped here takes up to 0.1 s for an RSA key, in the reactor's thread, and protects against keys
    # of strangers; that the public half fits the certificate is compared by the caller.
    encrypted = b"BEGIN ENCRYPTED " in pem or b"4,ENCRYPTED" in pem
    secret = password.encode() if encrypted and password is not None else None
    try:
        key = load_pem_private_key(pem, secret, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise CertificateError(f"the key in {path} is encrypted and no password is configured") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "the password does not open the key" if secret else "no usable private key"
        raise CertificateError(f"{what} in {path}") from error
    if not isinstance(key, PrivateKey):
        raise CertificateError(f"the key in {path} is of a kind that TLS cannot use")
    return key


def _look(files: CertificateFiles) -> _Fingerprint | None:
    """What changes whenever a file is replaced, rewritten or given other rights. None: nothing is there."""
    paths = (files.certificate,) if files.key is None else (files.certificate, files.key)
    seen: list[tuple[int, int, int, int] | int] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            seen.append(error.errno or errno.EIO)
        else:
            seen.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    if all(one in (errno.ENOENT, errno.ENOTDIR) for one in seen):
        return None
    return tuple(seen)


class _Source:
    """One place a certificate may come from, and what was made of it. A `configured` one is missed when not there."""

    __slots__ = ("checked_at", "configured", "context", "files", "fingerprint", "label")

    def __init__(self, label: str, files: CertificateFiles, *, configured: bool) -> None:
        self.label = label
        self.files = files
        self.configured = configured
        self.checked_at: float | None = None
        # Empty before the first look, None when nothing is there.
        self.fingerprint: _Fingerprint | None = ()
        self.context: SSL.Context | None = None


class CertificateStore:
    """Server name -> pyOpenSSL context. One for each listener, as contexts carry the listener's TLS options.

    `make_context` turns credentials into a context and may raise SSL.Error or ValueError. `max_contexts` bounds the
    names kept ready, least recently used first out (22 KiB each, without the chain); as many absent names are
    remembered. No look-up raises: an unusable source is logged once for each of its states and passed over. When
    files that were in use become unusable (half a renewal, say) the certificate read before stays in use.
    `stored(name)` gives the context of a certificate that is in no file, and does not raise either.
    """

    def __init__(
        self,
        make_context: Callable[[Credentials], SSL.Context],
        *,
        clock: IReactorTime,
        directory: Path | None = None,
        defaults: Sequence[CertificateFiles] = (),
        password: str | None = None,
        max_contexts: int = 4096,
        recheck_s: float = 1.0,
        stored: Callable[[str], SSL.Context | None] | None = None,
    ) -> None:
        self._make_context = make_context
        self._clock = clock
        self._directory = directory
        self._default_files = tuple(defaults)
        self._password = password
        self._max_contexts = max_contexts
        self._recheck_s = recheck_s
        self._stored = stored
        self.reload()

    def reload(self) -> None:
        """Forget all that was read of files, at once. Connections keep the contexts they were made with."""
        self._folders: OrderedDict[str, _Source] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()
        self._defaults = [_Source("default", files, configured=True) for files in self._default_files]

    def context_for(self, name: bytes | str | None) -> SSL.Context | None:
        """The context for a name as it came from a peer, the default one included. None: there is no certificate."""
        return self.own_context(name) or self.default_context()

    def own_context(self, name: bytes | str | None) -> SSL.Context | None:
        """The context of what is stored for the name, of its folder or its wildcard folder; None when there is none."""
        prepared = server_name(name)
        if prepared is None:
            return None
        context = None if self._stored is None else self._stored(prepared)
        if context is not None or self._directory is None:
            return context
        context = self._of_folder(self._directory, prepared)
        if context is None:
            _, _, parent = prepared.partition(".")
            if parent:
                context = self._of_folder(self._directory, f"*.{parent}")
                context = context or self._of_folder(self._directory, f"_.{parent}")
        return context

    def default_context(self) -> SSL.Context | None:
        """The context of the first usable default certificate."""
        for source in self._defaults:
            self._refresh(source)
            if source.context is not None:
                return source.context
        return None

    def _of_folder(self, directory: Path, folder: str) -> SSL.Context | None:
        source = self._folders.get(folder)
        if source is None:
            if self._is_fresh(self._absent.get(folder)):
                return None
            source = _Source(folder, CertificateFiles.in_folder(directory / folder), configured=False)
        self._refresh(source)
        if source.fingerprint is None:
            self._folders.pop(folder, None)
            self._remember(self._absent, folder, self._clock.seconds())
        else:
            self._absent.pop(folder, None)
            self._remember(self._folders, folder, source)
        return source.context

    def _remember(self, cache: OrderedDict[str, _V], folder: str, value: _V) -> None:
        cache[folder] = value
        cache.move_to_end(folder)
        if len(cache) > self._max_contexts:
            cache.popitem(last=False)

    def _is_fresh(self, checked_at: float | None) -> bool:
        # A look in the future means that the wall clock was set back: look again rather than wait for it.
        return checked_at is not None and 0 <= self._clock.seconds() - checked_at < self._recheck_s

    def _refresh(self, source: _Source) -> None:
        """Look at the files if the last look is too old, and read them if they are not what they were."""
        if self._is_fresh(source.checked_at):
            return
        # Before reading: a file that changes while we read has another fingerprint at the next look.
        fingerprint = _look(source.files)
        source.checked_at = self._clock.seconds()
        if fingerprint == source.fingerprint:
            return
        source.fingerprint = fingerprint
        if fingerprint is None:
            self._gone(source)
        else:
            self._read(source)

    def _gone(self, source: _Source) -> None:
        if source.context is not None:
            log.warn("certificate_removed", domain=source.label)
        elif source.configured:
            self._unusable(source, f"there is no {source.files.certificate}")
        source.context = None

    def _read(self, source: _Source) -> None:
        known_before = source.context is not None
        try:
            credentials = load_credentials(source.files, self._password)
            source.context = self._make_context(credentials)
        except (SSL.Error, crypto.Error) as error:
            self._unusable(source, ssl_reason(error))
        except (CertificateError, ValueError) as error:
            self._unusable(source, str(error))
        else:
            self._loaded(source, credentials, known_before)

    def _unusable(self, source: _Source, reason: str) -> None:
        kept = source.context is not None
        log.warn("certificate_unusable", domain=source.label, reason=reason, previous_kept=kept)

    def _loaded(self, source: _Source, credentials: Credentials, known_before: bool) -> None:
        not_after = credentials.not_after.isoformat()
        if known_before:
            log.info("certificate_replaced", domain=source.label, not_after=not_after)
        # Served all the same: an expired certificate tells the client what is wrong, a refusal does not.
        if credentials.not_after <= datetime.fromtimestamp(self._clock.seconds(), UTC):
            log.warn("certificate_expired", domain=source.label, not_after=not_after)


def ssl_reason(error: SSL.Error | crypto.Error) -> str:
    """The text of OpenSSL's last error, for people."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return "TLS library refused without a reason"
