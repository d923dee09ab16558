"""XEP-0388 Extensible SASL Profile, version 1.0.4: the switch for c2s/sasl2.py."""

from dynxmpp.module import Module, Xep


class Sasl2(Module):
    """Clients may authenticate without restarting their stream, and ask for more in the same breath."""

    name = "mod_sasl2"
    xep = Xep(388, "1.0.4")

    async def start(self) -> None:
        self.host_type.provide(Sasl2, self)
