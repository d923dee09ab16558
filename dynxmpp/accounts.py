"""The accounts of a host type, as its section [auth] wants them."""

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.base import AuthMethod
from dynxmpp.auth.dummy import DummyAuth
from dynxmpp.auth.rdbms import RdbmsAuth, load_secret
from dynxmpp.auth.scram import CONFIG_HASHES
from dynxmpp.config.host_config import HostConfig
from dynxmpp.databases import Databases

#: auth.sasl_mechanisms has names for these; a record for each costs 3 ms of a thread when a password is set.
OFFERED_HASHES = ("sha1", "sha256", "sha512")


async def build_accounts(
    host: HostConfig,
    databases: Databases,
    *,
    clock: Any,
    random: Random,
    limit_of: Callable[[str], float] = lambda domain: inf,
) -> Accounts:
    """Its methods in the configured order. Raises NoPool when one of them has no database.

    `limit_of`: how many accounts a domain may have, besides `auth.max_users_per_domain`.
    """
    auth = host.auth
    methods: list[AuthMethod] = []
    secret = random.randbytes(32)
    for name in auth.methods:
        if name == "rdbms":
            database = databases.needed_by(host.name)
            secret = await load_secret(database, random)
            limit = auth.max_users_per_domain
            method = RdbmsAuth(
                database,
                secret=secret,
                random=random,
                scram=auth.password.format == "scram",
                hashes=_hashes(auth.password.hash),
                iterations=auth.password.scram_iterations,
                max_users_per_domain=None if limit == inf else int(limit),
                limit_of=limit_of,
            )
            methods.append(method)
        else:
            options = auth.dummy
            times = {} if options is None else {"base_time_ms": options.base_time, "variance_ms": options.variance}
            methods.append(DummyAuth(clock=clock, random=random, **times))
    return Accounts(methods, secret=secret, iterations=auth.password.scram_iterations)


def _hashes(configured: tuple[str, ...] | None) -> tuple[str, ...]:
    """The hashes of new records: those whose mechanisms are offered, or those of auth.password.hash."""
    return OFFERED_HASHES if configured is None else tuple(CONFIG_HASHES[name] for name in configured)
