"""A self-signed certificate at first start, so that a new server speaks TLS before anybody thought of certificates.

825 days: the longest that Apple's systems accept of any server certificate, even one that the user told them to
trust; ten years would lock out those clients, a year would surprise administrators sooner for no gain. ECDSA P-256:
understood by every TLS 1.2 client, and made in no time.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dynxmpp.tls.certificates import CERTIFICATE_FILE, KEY_FILE, CertificateFiles, server_name

# Both ends of the period count (RFC 5280 4.1.2.5), hence the second less.
VALIDITY = timedelta(days=825) - timedelta(seconds=1)
# Clients whose clock is a little slow must be able to use it at once.
BACKDATED = timedelta(hours=1)
# The upper bound of a common name (RFC 5280 A.1, ub-common-name).
_MAX_COMMON_NAME = 64

log = Logger()


def ensure_self_signed(folder: Path, names: Sequence[str], *, clock: IReactorTime) -> CertificateFiles:
    """The self-signed certificate in `folder`, made for `names` if the folder is not there yet.

    `names`: domains (U- or A-labels), wildcards like "*.example.com", IP addresses. Nothing that exists is ever
    overwritten, not even an expired certificate (which is logged when it is used). Both files appear at once, also
    for other processes doing the same: they are written to a new folder which then gets its name.
    Raises ValueError for a name that cannot be in a certificate, OSError when the folder cannot be written or is
    there without a certificate in it.
    """
    files = CertificateFiles.in_folder(folder)
    if not files.certificate.exists():
        key, certificate = make_self_signed(names, datetime.fromtimestamp(clock.seconds(), UTC))
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            _publish(folder, key, certificate)
        except OSError:
            # Somebody was faster, and theirs is as good as ours; anything else is for the caller.
            if not files.certificate.exists():
                raise
        else:
            log.info("self_signed_certificate_made", folder=str(folder), names=list(names))
    return files


def make_self_signed(names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """A new key and its certificate, both PEM, key first. Raises ValueError for no names or one that is none."""
    if not names:
        raise ValueError("a certificate needs at least one name")
    alternatives = [_alternative(name) for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    first = str(alternatives[0].value)
    common_name = [x509.NameAttribute(NameOID.COMMON_NAME, first)] if len(first) <= _MAX_COMMON_NAME else []
    subject = x509.Name(common_name)
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    not_before = now - BACKDATED
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + VALIDITY)
        # RFC 5280 4.2.1.6: without a subject the names are all there is.
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not common_name)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signing_only(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(subject_key, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


def _alternative(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(name.strip("[]")))
    except ValueError:
        pass
    wildcard = "*." if name.startswith("*.") else ""
    prepared = server_name(name.removeprefix(wildcard))
    if prepared is None:
        raise ValueError(f"{name!r} cannot be a name in a certificate")
    return x509.DNSName(wildcard + prepared)


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _publish(folder: Path, key: bytes, certificate: bytes) -> None:
    """Write both files and give their folder its name; fails if a folder with something in it has the name."""
    unnamed = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(unnamed / KEY_FILE, key, 0o600)
        _write(unnamed / CERTIFICATE_FILE, certificate, 0o644)
        unnamed.chmod(0o755)
        # Unlike a file, a folder does not replace one that is not empty.
        unnamed.rename(folder)
    except OSError:
        shutil.rmtree(unnamed, ignore_errors=True)
        raise


def _write(path: Path, content: bytes, mode: int) -> None:
    # The key is never readable by others, not for the moment between creation and chmod either.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)
