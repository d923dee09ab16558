"""What the formats of our OpenAPI document mean: loaded by schemathesis (SCHEMATHESIS_HOOKS)."""

import json
from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import strategies as st

from dynxmpp.auth.base import InvalidPassword, prepare_new_password
from dynxmpp.domains.errors import InvalidDomain
from dynxmpp.domains.service import prepare_name
from dynxmpp.jid import InvalidJID, prepare_local, prepare_resource

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789ABCäßж", min_size=1, max_size=12)


def _fits(check: Callable[[str], object]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            check(text)
        except (InvalidJID, InvalidDomain, InvalidPassword):
            return False
        return True

    return fits


DOMAINS = st.sampled_from(["example.org", "static.example", "example.net"]) | st.lists(
    LABEL, min_size=1, max_size=4
).map(".".join).filter(_fits(prepare_name))
LOCALPARTS = st.sampled_from(["alice", "bob"]) | st.text(min_size=1, max_size=20).filter(_fits(prepare_local))
RESOURCES = st.sampled_from(["phone", "a/b"]) | st.text(min_size=1, max_size=20).filter(_fits(prepare_resource))
ACCOUNTS = st.sampled_from(["alice@example.org", "bob@example.org", "carol@example.net"]) | st.builds(
    "{}@{}".format, LOCALPARTS, DOMAINS
)
PASSWORDS = st.text(min_size=1, max_size=20).filter(_fits(prepare_new_password))


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def line(context: Any, value: Any) -> bytes:
    """A body of one line, which the schema is of."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


schemathesis.openapi.format("xmpp-domain", DOMAINS)
schemathesis.openapi.format("xmpp-localpart", LOCALPARTS)
schemathesis.openapi.format("xmpp-resourcepart", RESOURCES)
schemathesis.openapi.format("xmpp-account", ACCOUNTS)
schemathesis.openapi.format("room-field", st.sampled_from(["roomname", "subject"]))
schemathesis.openapi.format("xmpp-password", PASSWORDS)
