"""[acl] and [access]: who somebody is, and what they may.

An acl names a class of users by patterns; an access rule goes through its clauses until the class of one of them has
the user in it, and answers with that clause's value.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

import attrs

from dynxmpp.config.model import Section, domain, localpart, non_empty, option, regexp, resourcepart, section

ALLOW: Final = "allow"
DENY: Final = "deny"
ALL: Final = "all"
NONE: Final = "none"
#: Classes and rules of these names are built in.
BUILT_IN: Final = (ALL, NONE)

Scope = Literal["all", "none", "current_domain", "any_hosted_domain"]


@attrs.frozen
class Asking:
    """The user whom a question is about, prepared, and where it is asked."""

    local: str | None
    domain: str
    resource: str | None
    context_domain: str
    hosted: Callable[[str], bool]


@section
class AclPattern(Section):
    """[acl] NAME = [...]: fits a user when everything it says does."""

    match: Scope = option(default="current_domain")
    user: str | None = option(default=None, check=localpart)
    server: str | None = option(default=None, check=domain)
    resource: str | None = option(default=None, check=resourcepart)
    user_regexp: str | None = option(default=None, check=regexp)
    server_regexp: str | None = option(default=None, check=regexp)
    resource_regexp: str | None = option(default=None, check=regexp)
    user_glob: str | None = option(default=None, check=str.lower)
    server_glob: str | None = option(default=None, check=str.lower)
    resource_glob: str | None = option(default=None)

    def fits(self, who: Asking) -> bool:
        """Whether `who` is one of those meant. Localparts and domains are lower case, whatever the pattern says."""
        return (
            self._in_scope(who)
            and _fits(who.local, self.user, self.user_regexp, self.user_glob, re.IGNORECASE)
            and _fits(who.domain, self.server, self.server_regexp, self.server_glob, re.IGNORECASE)
            and _fits(who.resource, self.resource, self.resource_regexp, self.resource_glob, 0)
        )

    def _in_scope(self, who: Asking) -> bool:
        if self.match == "current_domain":
            return who.domain == who.context_domain
        if self.match == "any_hosted_domain":
            return who.hosted(who.domain)
        return self.match == ALL


def _fits(part: str | None, equal: str | None, regexp: str | None, glob: str | None, flags: int) -> bool:
    """Whether a part of an address is as three conditions say; None is no condition, an absent part an empty one."""
    text = part or ""
    return (
        (equal is None or text == equal)
        and (regexp is None or re.search(regexp, text, flags) is not None)
        and (glob is None or fnmatch.fnmatchcase(text, glob))
    )


@section
class AccessClause(Section):
    """[access] NAME = [...]: the value for those of a class."""

    acl: str = option(check=non_empty)
    value: str | int = option()


Acl = Mapping[str, tuple[AclPattern, ...]]
Rules = Mapping[str, tuple[AccessClause, ...]]


@attrs.frozen
class Access:
    """The classes and rules that hold for one host type."""

    acl: Acl = attrs.field(factory=dict)
    rules: Rules = attrs.field(factory=dict)

    def value(
        self,
        rule: str,
        *,
        local: str | None,
        domain: str,
        resource: str | None,
        context_domain: str,
        hosted: Callable[[str], bool],
    ) -> str | int | None:
        """What `rule` says of a user: "allow", "deny", a shaper's name, a number; None if there is no such rule.

        All parts are prepared. `context_domain` is the domain that the question is about: unless a pattern says
        otherwise, users of other domains fit none. `hosted` says whether this server serves a domain.
        """
        if rule in BUILT_IN:
            return ALLOW if rule == ALL else DENY
        if rule not in self.rules:
            return None
        who = Asking(local, domain, resource, context_domain, hosted)
        return next((clause.value for clause in self.rules[rule] if self._has(clause.acl, who)), DENY)

    def _has(self, name: str, who: Asking) -> bool:
        if name in BUILT_IN:
            return name == ALL
        return any(pattern.fits(who) for pattern in self.acl.get(name, ()))

    def merged(self, acl: Acl, rules: Rules) -> "Access":
        """With the classes and rules of a host type: classes are united, clauses go before a final "allow all"."""
        classes = {name: (*self.acl.get(name, ()), *acl.get(name, ())) for name in {**self.acl, **acl}}
        merged = {name: _joined(self.rules.get(name, ()), rules.get(name, ())) for name in {**self.rules, **rules}}
        return Access(classes, merged)


def _joined(general: tuple[AccessClause, ...], own: tuple[AccessClause, ...]) -> tuple[AccessClause, ...]:
    if general and general[-1] == AccessClause(acl=ALL, value=ALLOW):
        return (*general[:-1], *own, general[-1])
    return (*general, *own)
