"""The namespaces of MUC Light, and the keys of the elements in them."""

from typing import Final

from dynxmpp.module import qualified

NS_MUC_LIGHT: Final = "urn:xmpp:muclight:0"
NS_CREATE: Final = f"{NS_MUC_LIGHT}#create"
NS_CONFIGURATION: Final = f"{NS_MUC_LIGHT}#configuration"
NS_AFFILIATIONS: Final = f"{NS_MUC_LIGHT}#affiliations"
NS_INFO: Final = f"{NS_MUC_LIGHT}#info"
NS_BLOCKING: Final = f"{NS_MUC_LIGHT}#blocking"
NS_DESTROY: Final = f"{NS_MUC_LIGHT}#destroy"
#: How the archive of a room says who wrote a message (XEP-0313 section 5.1.2).
NS_MUC_USER: Final = "http://jabber.org/protocol/muc#user"

AFFILIATIONS_KEY: Final = qualified(NS_AFFILIATIONS, "x")
CONFIGURATION_KEY: Final = qualified(NS_CONFIGURATION, "x")
DESTROY_KEY: Final = qualified(NS_DESTROY, "x")
MUC_USER_KEY: Final = qualified(NS_MUC_USER, "x")
BODY_KEY: Final = qualified("jabber:client", "body")
#: The archives of rooms (XEP-0313).
NS_MAM_1: Final = "urn:xmpp:mam:1"
NS_MAM_2: Final = "urn:xmpp:mam:2"
