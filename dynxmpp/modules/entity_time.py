"""XEP-0202 Entity Time, version 2.0: the server's clock, asked of a domain or of a bare JID."""

from twisted.words.xish import domish

from dynxmpp.config.modules import IqDisc
from dynxmpp.module import IQ, Module, Section, Target, Xep, iq_get, option, section
from dynxmpp.protocol.timestamps import format_seconds

NS_TIME = "urn:xmpp:time"


@section
class EntityTimeConfig(Section):
    """[modules.mod_time]"""

    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class EntityTime(Module):
    """Answers with UTC and no offset; a server in several time zones has no better answer."""

    name = "mod_time"
    xep = Xep(202, "2.0")
    config_model = EntityTimeConfig
    features = (NS_TIME,)
    account_features = (NS_TIME,)

    @iq_get(NS_TIME, "time", at=Target.DOMAIN | Target.ACCOUNT)
    def on_time(self, iq: IQ) -> domish.Element:
        answer = domish.Element((NS_TIME, "time"))
        answer.addElement("tzo", content="+00:00")
        answer.addElement("utc", content=format_seconds(self.clock.seconds()))
        return answer
