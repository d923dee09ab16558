"""What an archive says of itself: the fields of its queries (XEP-0313 4.1.5), its first and last message (5)."""

from typing import Final

from twisted.words.xish import domish

from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.query import FULL_TEXT_FIELD
from dynxmpp.protocol.disco_info import NS_FORMS

NS_MAM_1: Final = "urn:xmpp:mam:1"
NS_MAM_2: Final = "urn:xmpp:mam:2"
NS_VALIDATE: Final = "http://jabber.org/protocol/xdata-validate"

#: (type, name) of the fields that every version has, and of those that the second has besides.
_FIELDS: Final = (("jid-single", "with"), ("text-single", "start"), ("text-single", "end"))
_EXTENDED_FIELDS: Final = (("text-single", "before-id"), ("text-single", "after-id"), ("boolean", "include-groupchat"))


def query_form(namespace: str, *, full_text: bool) -> domish.Element:
    """The <query/> that answers a request for the form; `full_text`: texts can be searched (XEP-0431)."""
    query = domish.Element((namespace, "query"))
    form = query.addElement((NS_FORMS, "x"))
    form["type"] = "form"
    _field(form, "hidden", "FORM_TYPE").addElement("value", content=namespace)
    for type_, name in _FIELDS:
        _field(form, type_, name)
    if namespace == NS_MAM_2:
        for type_, name in _EXTENDED_FIELDS:
            _field(form, type_, name)
        # XEP-0122: any value may be given, none can be chosen from.
        validate = _field(form, "list-multi", "ids").addElement((NS_VALIDATE, "validate"))
        validate["datatype"] = "xs:string"
        validate.addElement("open")
    if full_text:
        _field(form, "text-single", FULL_TEXT_FIELD)
    return query


def _field(form: domish.Element, type_: str, name: str) -> domish.Element:
    field = form.addElement("field")
    field["type"], field["var"] = type_, name
    return field


def metadata(ends: tuple[int, int] | None, namespace: str = NS_MAM_2) -> domish.Element:
    """The <metadata/> of an archive with these ids at its ends; empty for an empty one."""
    element = domish.Element((namespace, "metadata"))
    if ends is not None:
        for name, id_ in zip(("start", "end"), ends, strict=True):
            end = element.addElement(name)
            end["id"], end["timestamp"] = ids.to_text(id_), ids.timestamp(id_)
    return element
