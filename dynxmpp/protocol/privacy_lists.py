"""XEP-0016 Privacy Lists, version 1.7, as far as a blocking list (XEP-0191) can say the same: for lists that arrive."""

from typing import Final

from twisted.words.xish import domish

NS_PRIVACY: Final = "jabber:iq:privacy"
_KINDS: Final = frozenset({"message", "iq", "presence-in", "presence-out"})


def denied_addresses(query: domish.Element) -> tuple[list[str], list[str]]:
    """The addresses that the default list denies altogether, and a text for each rule and list that says more.

    Rules behind one for everybody do not matter.
    """
    children = [child for child in query.elements() if child.uri == NS_PRIVACY]
    default = next((child.getAttribute("name") for child in children if child.name == "default"), None)
    found: list[str] = []
    problems: list[str] = []
    for child in children:
        if child.name != "list":
            continue
        if child.getAttribute("name") == default:
            _read(child, found, problems)
        else:
            problems.append(f"privacy list {child.getAttribute('name', '')[:60]!r}: not the default list")
    return found, problems


def _read(rules: domish.Element, found: list[str], problems: list[str]) -> None:
    for rule in sorted(rules.elements(), key=lambda rule: _order(rule.getAttribute("order", ""))):
        kinds = {kind.name for kind in rule.elements()}
        is_whole = not kinds or kinds >= _KINDS
        what = (rule.getAttribute("type"), rule.getAttribute("action"))
        if what == ("jid", "deny") and is_whole:
            found.append(rule.getAttribute("value", ""))
        elif what == (None, "allow") and is_whole:
            return
        else:
            problems.append(f"privacy rule {rule.getAttribute('order', '')[:20]}: more than to block an address")


def _order(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
