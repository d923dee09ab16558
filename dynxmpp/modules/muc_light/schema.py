"""The tables of rooms.

`server` is the domain that the service of a room is below, or the one of an account. A room goes with its occupants
(ON DELETE CASCADE), so that a domain's rooms are removed by what is declared for `muc_light_rooms`.
"""

from typing import Final

from dynxmpp.module import Migration

# `name`: the localpart. `config`: texts by internal key; keys that are missing have the default.
# `affiliation`: room.Affiliation. `kind`: 1 a room, 2 a user; `who`: its bare address.
_CREATE = """
CREATE TABLE muc_light_rooms (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    server text COLLATE "C" NOT NULL,
    service text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    config jsonb NOT NULL,
    PRIMARY KEY (server, service, name)
);
CREATE TABLE muc_light_occupants (
    room bigint NOT NULL REFERENCES muc_light_rooms (id) ON DELETE CASCADE,
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    affiliation smallint NOT NULL CHECK (affiliation IN (1, 2)),
    PRIMARY KEY (room, server, username)
);
CREATE INDEX muc_light_occupants_user ON muc_light_occupants (server, username);
CREATE TABLE muc_light_blocking (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CHECK (kind IN (1, 2)),
    who text COLLATE "C" NOT NULL,
    PRIMARY KEY (server, username, kind, who)
);
"""

MIGRATIONS: Final = (Migration("mod_muc_light", 1, "rooms", _CREATE),)
