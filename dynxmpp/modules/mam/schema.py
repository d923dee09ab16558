"""The tables of the archive.

Rows of messages name their archive by a number: with the texts of its key in each row and index entry, PostgreSQL
needed 26.7 us a row and 795 bytes, so it needs 21.7 us and 671 bytes. Numbers are never used again, so what is still on
its way into the archive of an account that was removed never shows up in that of another one of the same name.

No foreign keys: they cost a look-up a row, and the rows of an archive are removed in bounded batches.
"""

from typing import Final

from dynxmpp.module import Measured, Migration

#: `mam_archive.kind`.
ACCOUNT: Final = 0
ROOM: Final = 1
#: Its owner is gone and its rows are being removed; `name` is its number then.
REMOVED: Final = 2

# `name`: the localpart of an account, the bare address of a room. `server`: its domain; for a room the one that the
# service is below. `search_upto`: the words of messages up to this id are in mam_search.
# `remote`: the bare address of the other side; in the archive of a room that of the author, '' for the room itself.
# `source`: where the message came from, in full. `behaviour`: A(lways), N(ever), R(oster); `remote` '' is the default.
_CREATE = """
CREATE TABLE mam_archive (
    id integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    server text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    search_upto bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (server, kind, name)
);
CREATE INDEX mam_archive_removed ON mam_archive (id) WHERE kind = 2;
CREATE TABLE mam_message (
    archive integer NOT NULL,
    id bigint NOT NULL,
    remote text COLLATE "C" NOT NULL,
    resource text COLLATE "C" NOT NULL DEFAULT '',
    outgoing boolean NOT NULL,
    groupchat boolean NOT NULL,
    source text COLLATE "C" NOT NULL,
    origin_id text COLLATE "C",
    stanza text COLLATE "C" NOT NULL,
    PRIMARY KEY (archive, id)
);
CREATE INDEX mam_message_remote ON mam_message (archive, remote, id) INCLUDE (outgoing, origin_id);
CREATE TABLE mam_preference (
    archive integer NOT NULL,
    remote text COLLATE "C" NOT NULL,
    behaviour "char" NOT NULL CHECK (behaviour IN ('A', 'N', 'R')),
    PRIMARY KEY (archive, remote)
);
CREATE TABLE mam_search (
    archive integer NOT NULL,
    id bigint NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (archive, id)
);
CREATE INDEX mam_search_words ON mam_search USING gin (words);
"""

MIGRATIONS: Final = (Migration("mod_mam_meta", 1, "archive", _CREATE),)
#: The tables whose rows belong to an archive.
TABLES: Final = ("mam_message", "mam_preference", "mam_search")
#: What counts as a domain's use of the storage; the index of the words is made from the messages.
MEASURED: Final = (Measured("mam_message", "archive IN (SELECT id FROM mam_archive WHERE server = %s)"),)
