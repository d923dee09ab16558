"""XEP-0386 Bind 2, version 1.1.0: the switch for c2s/bind2.py. Needs mod_sasl2."""

from dynxmpp.module import Module, Xep


class Bind2(Module):
    """Clients may bind a resource, and switch on what they need, while they authenticate."""

    name = "mod_bind2"
    xep = Xep(386, "1.1.0")

    async def start(self) -> None:
        self.host_type.provide(Bind2, self)
