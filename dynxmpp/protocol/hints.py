"""XEP-0334 Message Processing Hints, version 1.0.0: what the sender of a message wants done with it, or not done.

Keys for `Stanza.has_child`. In a message of type error hints count for nothing (section 5): they may be those of the
message that it answers.
"""

from collections.abc import Collection

from dynxmpp.wire.stanza import qualified

NS_HINTS = "urn:xmpp:hints"
#: How the key of each hint begins.
HINT_PREFIX = NS_HINTS + " "

#: Keep it, although it may not look worth it.
STORE = qualified(NS_HINTS, "store")
#: Keep it nowhere; under its name of today, and of versions before 0.2.
NO_STORE = qualified(NS_HINTS, "no-store")
NO_STORAGE = qualified(NS_HINTS, "no-storage")
#: Keep it until it is delivered, and not in an archive.
NO_PERMANENT_STORE = qualified(NS_HINTS, "no-permanent-store")
#: No copies for other resources than those that it is for.
NO_COPY = qualified(NS_HINTS, "no-copy")


def forbids_storing(keys: Collection[str]) -> bool:
    """Shall a message with these children be kept nowhere, not even for later delivery?"""
    return NO_STORE in keys or NO_STORAGE in keys
