"""[shaper.NAME]: how fast somebody may speak."""

from typing import Final

from dynxmpp.config.model import Section, option, positive, section

#: The reserved name of the shaper that does not slow anybody down.
UNLIMITED: Final = "none"


@section
class Shaper(Section):
    """[shaper.NAME]

    A token bucket that holds `max_rate` and is refilled at `max_rate` a second: bytes for connections, operations for
    the rules of an archive.
    """

    max_rate: int = option(check=positive)
