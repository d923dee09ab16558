"""XEP-0092 Software Version, version 1.1."""

import platform
from importlib import metadata

from twisted.words.xish import domish

from dynxmpp.config.modules import IqDisc
from dynxmpp.module import IQ, Module, ModuleContext, Section, Target, Xep, iq_get, option, section

NS_VERSION = "jabber:iq:version"
SOFTWARE = "dynxmpp"


@section
class VersionConfig(Section):
    """[modules.mod_version]: `os_info` lets everybody know what the server runs on (section 5 warns of it)."""

    os_info: bool = option(default=False)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class Version(Module):
    """Answers for domains; accounts have no software."""

    name = "mod_version"
    xep = Xep(92, "1.1")
    config_model = VersionConfig
    features = (NS_VERSION,)

    def __init__(self, context: ModuleContext, config: VersionConfig) -> None:
        super().__init__(context, config)
        self.version = metadata.version(SOFTWARE)
        self.os = f"{platform.system()} {platform.release()}" if config.os_info else None

    @iq_get(NS_VERSION, "query", at=Target.DOMAIN)
    def on_version(self, iq: IQ) -> domish.Element:
        answer = domish.Element((NS_VERSION, "query"))
        answer.addElement("name", content=SOFTWARE)
        answer.addElement("version", content=self.version)
        if self.os is not None:
            answer.addElement("os", content=self.os)
        return answer
