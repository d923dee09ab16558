"""[limits] and [host_config.limits]: what one domain may use, so that the others have their share."""

from typing import Final

from dynxmpp.config.model import IntOrInfinity, Section, non_negative, option, options_of, positive, section

__all__ = ["LIMITS", "Limits"]


@section
class Limits(Section):
    """[limits], and [host_config.limits] for one host type: of each of its domains. None says nothing.

    `sessions` and `messages_per_second` are those of one node.
    """

    accounts: IntOrInfinity | None = option(default=None, check=non_negative)
    sessions: IntOrInfinity | None = option(default=None, check=non_negative)
    sessions_per_user: IntOrInfinity | None = option(default=None, check=positive)
    rooms: IntOrInfinity | None = option(default=None, check=non_negative)
    stored_bytes: IntOrInfinity | None = option(default=None, check=non_negative)
    messages_per_second: IntOrInfinity | None = option(default=None, check=positive)
    message_burst: IntOrInfinity | None = option(default=None, check=positive)

    def merged(self, own: "Limits") -> "Limits":
        """With what `own` says instead, key by key."""
        given = {name: value for name in LIMITS if (value := getattr(own, name)) is not None}
        return self.replaced(**given)


#: The names of the limits, in the order of the page.
LIMITS: Final = tuple(options_of(Limits))
