"""JSON schemas of what is said about rooms over HTTP."""

from typing import Final

from dynxmpp.rest.operation import Schema, object_schema

__all__ = ["ACCOUNT", "AFFILIATIONS", "DESCRIPTION", "FIELDS", "NAMES", "NEW_ROOM", "NOT_NEEDED", "ROOM_NAME", "TEXT"]

#: Characters that XML has.
TEXT: Final[Schema] = {"type": "string", "pattern": "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\ufffe\\uffff]*$"}
ACCOUNT: Final[Schema] = {"type": "string", "minLength": 1, "format": "xmpp-account", "examples": ["bob@example.org"]}
ROOM_NAME: Final[Schema] = {"type": "string", "minLength": 1, "format": "xmpp-localpart", "examples": ["lobby"]}
FIELDS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"format": "room-field"},
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "Fields of the configuration by name, of the types that the server's `config_schema` gives them.",
    "examples": [{"roomname": "Lobby"}],
}
NEW_ROOM: Final[Schema] = {
    "name": {**TEXT, "description": "The field `roomname`."},
    "owner": ACCOUNT,
    "subject": {**TEXT, "description": "The field `subject`."},
    "members": {"type": "array", "items": ACCOUNT, "uniqueItems": True, "maxItems": 1000},
    "config": FIELDS,
}
NOT_NEEDED: Final = ("name", "subject", "members", "config")

AFFILIATIONS: Final = ("owner", "member", "none")
NAMES: Final[Schema] = {"id": {"type": "string"}, "jid": {"type": "string"}}
DESCRIPTION: Final = object_schema(
    {
        **NAMES,
        "version": {"type": "string"},
        "members": {
            "type": "array",
            "items": object_schema(
                {"user": {"type": "string"}, "affiliation": {"type": "string", "enum": list(AFFILIATIONS[:2])}}
            ),
        },
        "config": FIELDS,
    }
)
