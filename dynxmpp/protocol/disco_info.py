"""What an entity says about itself (XEP-0030, version 2.5.0), and its fingerprint (XEP-0115 5, version 1.6.0).

The legacy format of XEP-0115 1.3 (`ext`) is left out: nobody sends it.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.words.xish import domish

NS_DISCO_INFO = "http://jabber.org/protocol/disco#info"
NS_DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
NS_CAPS = "http://jabber.org/protocol/caps"
NS_FORMS = "jabber:x:data"
NS_XML = "http://www.w3.org/XML/1998/namespace"

#: What identifies this software in caps (XEP-0115 4, `node`).
CAPS_NODE = "urn:x-dynxmpp:server"
#: The hash functions of caps that are understood, by their names there.
_HASHES = {"sha-1": hashlib.sha1, "sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class IllFormedInfo(ValueError):
    """A disco#info answer that must not be trusted (XEP-0115 5.4, steps 3.3 to 3.5)."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What kind of entity this is; `lang` is the language of `name`."""

    category: str
    type: str
    lang: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class InfoForm:
    """Extended information (XEP-0128): (name, values) pairs under a form type."""

    form_type: str
    fields: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class DiscoInfo:
    """All that an entity says of itself."""

    identities: tuple[Identity, ...]
    features: tuple[str, ...]
    forms: tuple[InfoForm, ...] = ()

    def to_element(self, node: str | None = None) -> domish.Element:
        """The <query/> of an answer; `node` is the one that was asked for."""
        query = domish.Element((NS_DISCO_INFO, "query"))
        if node:
            query["node"] = node
        for identity in self.identities:
            child = query.addElement("identity")
            child["category"], child["type"] = identity.category, identity.type
            if identity.name:
                child["name"] = identity.name
            if identity.lang:
                child[(NS_XML, "lang")] = identity.lang
        for feature in self.features:
            query.addElement("feature")["var"] = feature
        for form in self.forms:
            query.addChild(_form_element(form))
        return query

    def verification_text(self) -> str:
        """The text S of XEP-0115 5.1. Code point order is the order of UTF-8 octets, which i;octet asks for."""
        parts = ["/".join((i.category, i.type, i.lang, i.name)) for i in sorted(self.identities)]
        parts += sorted(self.features)
        for form in sorted(self.forms, key=lambda form: form.form_type):
            parts.append(form.form_type)
            for name, values in sorted(form.fields):
                parts.append(name)
                parts += sorted(values)
        return "".join(part + "<" for part in parts)

    def verification_string(self, hash_name: str = "sha-1") -> str:
        """The `ver` of XEP-0115 5.1. Raises KeyError for a hash that is not supported."""
        digest = _HASHES[hash_name](self.verification_text().encode()).digest()
        return base64.b64encode(digest).decode("ascii")

    def caps_node(self, node: str = CAPS_NODE) -> str:
        """The node under which the owner of these caps is asked for them (XEP-0115 6.2)."""
        return f"{node}#{self.verification_string()}"


def _form_element(form: InfoForm) -> domish.Element:
    x = domish.Element((NS_FORMS, "x"))
    x["type"] = "result"
    hidden = x.addElement("field")
    hidden["var"], hidden["type"] = "FORM_TYPE", "hidden"
    hidden.addElement("value", content=form.form_type)
    for name, values in form.fields:
        field = x.addElement("field")
        field["var"] = name
        for value in values:
            field.addElement("value", content=value)
    return x


def caps_element(info: DiscoInfo, node: str = CAPS_NODE) -> domish.Element:
    """The <c/> that announces `info` (XEP-0115 6.1)."""
    element = domish.Element((NS_CAPS, "c"))
    element["hash"] = "sha-1"
    element["node"] = node
    element["ver"] = info.verification_string()
    return element


def supported_hash(name: str) -> bool:
    """Can a `ver` made with this hash function be checked?"""
    return name in _HASHES


def parse_info(query: domish.Element) -> DiscoInfo:
    """What the <query/> of a peer's answer says. Raises IllFormedInfo (XEP-0115 5.4).

    Refused beyond the text of the XEP: `<` in what is hashed, which is the separator and therefore lets different
    answers have the same fingerprint.
    """
    identities = [
        Identity(*(_attribute(child, key) for key in ("category", "type", (NS_XML, "lang"), "name")))
        for child in _children(query, NS_DISCO_INFO, "identity")
    ]
    features = [_attribute(child, "var") for child in _children(query, NS_DISCO_INFO, "feature")]
    forms = [form for x in _children(query, NS_FORMS, "x") if (form := _parse_form(x)) is not None]
    _refuse_twice("identity", identities)
    _refuse_twice("feature", features)
    _refuse_twice("form", [form.form_type for form in forms])
    info = DiscoInfo(tuple(identities), tuple(features), tuple(forms))
    _refuse_separator(info)
    return info


def _attribute(element: domish.Element, key: object) -> str:
    return str(element.attributes.get(key, ""))


def _children(element: domish.Element, uri: str, name: str) -> list[domish.Element]:
    return [child for child in element.elements() if child.uri == uri and child.name == name]


def _parse_form(x: domish.Element) -> InfoForm | None:
    """None for a form without a hidden FORM_TYPE, which is passed over (XEP-0115 5.4, step 3.6)."""
    form_type: str | None = None
    fields: list[tuple[str, tuple[str, ...]]] = []
    for field in _children(x, NS_FORMS, "field"):
        values = tuple(str(value) for value in _children(field, NS_FORMS, "value"))
        if _attribute(field, "var") != "FORM_TYPE":
            fields.append((_attribute(field, "var"), values))
        elif _attribute(field, "type") == "hidden":
            if len(set(values)) != 1:
                raise IllFormedInfo("a form with more than one type")
            form_type = values[0]
    return None if form_type is None else InfoForm(form_type, tuple(fields))


def _refuse_twice(what: str, values: Iterable[object]) -> None:
    values = list(values)
    if len(set(values)) != len(values):
        raise IllFormedInfo(f"the same {what} twice")


def _refuse_separator(info: DiscoInfo) -> None:
    texts = [*info.features]
    for identity in info.identities:
        texts += [identity.category, identity.type, identity.lang, identity.name]
    for form in info.forms:
        texts.append(form.form_type)
        for name, values in form.fields:
            texts += [name, *values]
    if any("<" in text for text in texts):
        raise IllFormedInfo("a separator in a value")
