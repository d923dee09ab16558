"""XEP-0115 Entity Capabilities, version 1.6.0: the server's own, told to clients as they connect (section 6.3).

mod_disco answers for the node that is announced here. Clients' capabilities are theirs: their presence carries them.
Left out: caps optimisation (section 8.4), which clients don't count on.
"""

from dynxmpp.config.model import positive
from dynxmpp.core.interfaces import DomainDisco
from dynxmpp.module import Module, ModuleContext, Section, Stanza, Xep, option, section
from dynxmpp.protocol.disco_info import NS_CAPS, caps_element


@section
class CapsConfig(Section):
    """[modules.mod_caps]: keys of other servers, which remember clients' capabilities. Times are seconds."""

    cache_size: int = option(default=1000, check=positive, unused=True)
    cache_life_time: int = option(default=86_400, check=positive, unused=True)


class Caps(Module):
    """Announces what mod_disco will answer; without mod_disco there is nothing to announce."""

    name = "mod_caps"
    xep = Xep(115, "1.6.0")
    config_model = CapsConfig
    features = (NS_CAPS,)

    def __init__(self, context: ModuleContext, config: CapsConfig) -> None:
        super().__init__(context, config)
        self._stream_features: tuple[bytes, ...] | None = None

    @property
    def stream_features(self) -> tuple[bytes, ...]:
        """What is added to the features of a stream; to be asked once all modules have started."""
        if self._stream_features is None:
            disco = self.host_type.find(DomainDisco)
            if disco is None:
                return ()
            element = Stanza.from_element(caps_element(disco.domain_info()))
            self._stream_features = (element.to_bytes(),)
        return self._stream_features
