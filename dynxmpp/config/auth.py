"""[auth]: who a user is, and how a client proves it."""

from collections.abc import Iterator
from typing import Final, Literal

import attrs

from dynxmpp.config.model import (
    IntOrInfinity,
    Mistake,
    Moved,
    Section,
    each,
    non_empty,
    non_negative,
    one_of,
    option,
    positive,
    section,
    unique,
)

METHODS: Final = ("rdbms", "dummy")
_METHODS_ELSEWHERE: Final = ("internal", "external", "anonymous", "ldap", "jwt", "riak", "http", "pki")

#: In the order in which they are announced.
SASL_MECHANISMS: Final = (
    "scram_sha512_plus",
    "scram_sha512",
    "scram_sha256_plus",
    "scram_sha256",
    "scram_sha1_plus",
    "scram_sha1",
    "plain",
)
_MECHANISMS_ELSEWHERE: Final = (
    "scram_sha384_plus",
    "scram_sha384",
    "scram_sha224_plus",
    "scram_sha224",
    "anonymous",
    "oauth",
    "external",
    "digest",
)

HASHES: Final = ("sha", "sha256", "sha512")

#: For an option that lists authentication methods.
available_method = one_of(*METHODS, unavailable=_METHODS_ELSEWHERE, kind="authentication method")


def _no_method(name: str) -> str:
    return f"authentication method {name} is not available in this server (allowed: {', '.join(METHODS)})"


@section
class Password(Section):
    """[auth.password]"""

    format: Literal["plain", "scram"] = option(default="scram")
    hash: tuple[str, ...] | None = option(
        default=None,
        check=(non_empty, each(one_of(*HASHES, unavailable=("sha224", "sha384"), kind="hash")), unique),
    )
    scram_iterations: int = option(default=10000, check=positive)


@section
class RdbmsAuth(Section):
    """[auth.rdbms]"""

    users_number_estimate: bool = option(default=False, unused=True)


@section
class AnonymousAuth(Section):
    """[auth.anonymous]: may stand in a file as long as the method is not switched on."""

    allow_multiple_connections: bool = option(default=False, unused=True)
    protocol: Literal["sasl_anon", "login_anon", "both"] = option(default="sasl_anon", unused=True)


@section
class DummyAuth(Section):
    """[auth.dummy]: lets everybody in, after as many milliseconds as a real method might need."""

    base_time: int = option(default=50, check=non_negative)
    variance: int = option(default=450, check=non_negative)


def _methods_with_section(auth: "Auth") -> tuple[str, ...]:
    return tuple(sorted(name for name in (*METHODS, "anonymous") if getattr(auth, name) is not None))


@section(
    moved={"scram_iterations": Moved("password.scram_iterations")},
    refused={name: _no_method(name) for name in _METHODS_ELSEWHERE if name != "anonymous"},
)
class Auth(Section):
    """[auth]"""

    sasl_mechanisms: tuple[str, ...] = option(
        default=SASL_MECHANISMS,
        check=(each(one_of(*SASL_MECHANISMS, unavailable=_MECHANISMS_ELSEWHERE, kind="SASL mechanism")), unique),
    )
    sasl_external: tuple[str, ...] = option(default=("standard",), unused=True)
    password: Password = option(factory=Password)
    max_users_per_domain: IntOrInfinity = option(default=float("inf"), check=positive)
    rdbms: RdbmsAuth | None = option(default=None)
    dummy: DummyAuth | None = option(default=None)
    anonymous: AnonymousAuth | None = option(default=None, unused=True)
    #: Without it the methods that have a section, in alphabetical order, as 5.1 and later have it.
    methods: tuple[str, ...] = option(
        default=attrs.Factory(_methods_with_section, takes_self=True), check=(each(available_method), unique)
    )

    def contradictions(self) -> Iterator[Mistake]:
        if "anonymous" in self.methods:
            yield Mistake(_no_method("anonymous"), at=("anonymous",))
