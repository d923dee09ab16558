"""A domain's own certificate, in both dialects. MongooseIM has nothing like it."""

from datetime import datetime
from typing import Final

from dynxmpp.domains.certificates import DomainCertificates
from dynxmpp.domains.errors import (
    DomainDeleted,
    DomainIsStatic,
    DomainNotFound,
    NoCertificate,
    ServiceDisabled,
    UnknownHostType,
)
from dynxmpp.domains.service import DomainService, Rules
from dynxmpp.rest.operation import Call, Reply, object_schema, operation
from dynxmpp.tls.certificates import CertificateError

__all__ = ["CertificatesApi"]

_PEM_BODY: Final = object_schema(
    {
        "chain": {
            "type": "string",
            "description": "PEM: the domain's certificate, its issuer's, and so on; the root may be left out.",
        },
        "key": {"type": "string", "format": "password", "description": "PEM, not encrypted."},
    }
)
_TIME: Final = {"type": "string", "format": "date-time"}
_FACTS: Final = object_schema(
    {
        "names": {"type": "array", "items": {"type": "string"}, "description": "What the certificate is for."},
        "issuer": {"type": "string"},
        "not_before": _TIME,
        "not_after": _TIME,
        "days_left": {"type": "integer", "description": "Whole days; negative once it has expired."},
        "fingerprint": {"type": "string", "description": "SHA-256 of the certificate, in hexadecimal."},
    }
)


class CertificatesApi:
    """The resource {path}/domains/{domain}/certificate. `rules`: those of the dialect."""

    def __init__(self, service: DomainService, certificates: DomainCertificates | None, rules: Rules) -> None:
        """Without `certificates` there are no dynamic domains."""
        self._service = service
        self._certificates = certificates
        self._rules = rules

    @operation(
        "PUT",
        "/domains/{domain}/certificate",
        summary="Give a domain a certificate of its own",
        description="New connections get it: those of this node from the answer on, those of others within moments. "
        "It has to be valid now, and for this domain; it may be for services below the domain as well.",
        body=_PEM_BODY,
        success=204,
        raises=(ServiceDisabled, DomainIsStatic, DomainNotFound, UnknownHostType, DomainDeleted, CertificateError),
    )
    async def put(self, call: Call) -> Reply:
        domain, chain, key = call.domain(), call.text("chain"), call.text("key")
        await self._of(domain).put(domain, chain, key)
        return Reply(204)

    @operation(
        "GET",
        "/domains/{domain}/certificate",
        summary="Look at a domain's own certificate",
        description="The key cannot be had. A certificate in a file is not shown.",
        success=200,
        answer=_FACTS,
        raises=(ServiceDisabled, DomainIsStatic, DomainNotFound, NoCertificate),
    )
    async def get(self, call: Call) -> Reply:
        domain = call.domain()
        facts, days_left = await self._of(domain).describe(domain)
        return Reply(
            200,
            {
                "names": list(facts.names),
                "issuer": facts.issuer,
                "not_before": _text(facts.not_before),
                "not_after": _text(facts.not_after),
                "days_left": days_left,
                "fingerprint": facts.fingerprint,
            },
        )

    @operation(
        "DELETE",
        "/domains/{domain}/certificate",
        summary="Take a domain's own certificate away",
        description="New connections get what they would without it: a certificate in a file, or the default one.",
        success=204,
        raises=(ServiceDisabled, DomainIsStatic, DomainNotFound, UnknownHostType, DomainDeleted, NoCertificate),
    )
    async def delete(self, call: Call) -> Reply:
        domain = call.domain()
        await self._of(domain).delete(domain)
        return Reply(204)

    def _of(self, domain: str) -> DomainCertificates:
        """Raises ServiceDisabled, DomainIsStatic, in the order of the dialect."""
        self._service.require_dynamic(domain, self._rules)
        if self._certificates is None:
            raise ServiceDisabled
        return self._certificates


def _text(time: datetime) -> str:
    """RFC 3339; certificates count whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
