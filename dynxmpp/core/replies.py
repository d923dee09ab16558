"""Answers to stanzas: results, and errors as RFC 6120 8.3 wants them."""

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish import domish

from dynxmpp.wire.ns import NS_CLIENT, NS_STANZA_ERRORS
from dynxmpp.wire.stanza import Stanza, qualified

ERROR_KEY = qualified(NS_CLIENT, "error")


def wants_error(stanza: Stanza) -> bool:
    """Errors are never answered to errors or results (RFC 6120 8.3.1, 8.2.3)."""
    type_ = stanza.attributes.get("type")
    return type_ != "error" and not (stanza.name == "iq" and type_ == "result")


def result(request: Stanza, payload: domish.Element | Stanza | None, sender: str, recipient: str) -> Stanza:
    """The result of an IQ, with or without a payload. Whoever is not bound yet has no address: an empty `recipient`."""
    attributes = {"type": "result", "from": sender}
    if recipient:
        attributes["to"] = recipient
    if "id" in request.attributes:
        attributes["id"] = request.attributes["id"]
    if payload is None:
        return Stanza("iq", attributes)
    if isinstance(payload, Stanza):
        return Stanza("iq", attributes, payload.to_bytes(embedded=True), (qualified(payload.uri, payload.name),))
    return Stanza.of_children("iq", attributes, [payload], NS_CLIENT)


def error(stanza: Stanza, condition: StanzaError, sender: str, recipient: str) -> Stanza:
    """`stanza` sent back from `sender` with an error in it; what it contained is kept (RFC 6120 8.3.1)."""
    changes: dict[str, str | None] = {"type": "error", "from": sender, "to": recipient or None}
    element = condition.getElement()
    for child in element.elements():
        if child.uri is None:
            child.uri = NS_STANZA_ERRORS
    element.uri = element.defaultUri = NS_CLIENT
    printed = Stanza.from_element(element)
    return stanza.with_attributes(changes).appended(printed.to_bytes(), ERROR_KEY)
