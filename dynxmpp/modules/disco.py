"""XEP-0030 Service Discovery, version 2.5.0, and XEP-0157 Contact Addresses, version 1.1.1.

What a domain or an account announces is what the modules of its host type declare, nothing else. Services under
subdomains answer for themselves. Publishing items (section 5 of older versions) is left out: the XEP has dropped it.

Section 8 wants an empty list of items for strangers and for accounts that do not exist, RFC 6121 8.5.1 an error for
the latter. Both get service-unavailable here: an answer that differs would tell which accounts exist.
"""

from collections.abc import Iterable

from twisted.words.xish import domish

from dynxmpp.config.checks import HOST_PLACEHOLDER
from dynxmpp.config.model import each, non_empty, subdomain_template
from dynxmpp.config.modules import IqDisc
from dynxmpp.core.interfaces import AccountNodes, DomainDisco
from dynxmpp.module import (
    IQ,
    JID,
    Module,
    ModuleContext,
    Section,
    StanzaError,
    SubscriptionBook,
    Target,
    Xep,
    iq_get,
    option,
    section,
)
from dynxmpp.protocol.disco_info import NS_CAPS, NS_DISCO_INFO, NS_DISCO_ITEMS, DiscoInfo, Identity, InfoForm

#: XEP-0157: the type of the form with the contact addresses.
SERVER_INFO = "http://jabber.org/network/serverinfo"
SOFTWARE = "dynxmpp"


@section
class ServerInfo(Section):
    """[[modules.mod_disco.server_info]]: addresses of one kind, `abuse-addresses` for example.

    `modules` names those that shall announce it, mod_disco for domains; all when it is absent.
    """

    name: str = option(check=non_empty)
    urls: tuple[str, ...] = option(check=each(non_empty))
    modules: tuple[str, ...] | None = option(default=None)


@section
class DiscoConfig(Section):
    """[modules.mod_disco]: `extra_domains` are listed as services of each domain; `news.@HOST@` is one below each."""

    extra_domains: tuple[str, ...] = option(default=(), check=each(subdomain_template))
    server_info: tuple[ServerInfo, ...] = option(default=())
    users_can_see_hidden_services: bool = option(default=True, unused=True)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class Disco(Module):
    """Answers for domains and accounts. Provides DomainDisco."""

    name = "mod_disco"
    xep = Xep(30, "2.5.0")
    config_model = DiscoConfig
    features = (NS_DISCO_INFO, NS_DISCO_ITEMS)
    account_features = (NS_DISCO_INFO, NS_DISCO_ITEMS)

    def __init__(self, context: ModuleContext, config: DiscoConfig) -> None:
        super().__init__(context, config)
        self.forms = contact_addresses(config.server_info)
        self._domain_info: DiscoInfo | None = None
        self._subscriptions: SubscriptionBook | None = None
        self._nodes: AccountNodes | None = None
        self.host_type.provide(DomainDisco, self)

    async def start(self) -> None:
        self._subscriptions = self.host_type.find(SubscriptionBook)
        self._nodes = self.host_type.find(AccountNodes)

    # -- domains

    def domain_info(self) -> DiscoInfo:
        if self._domain_info is None:
            config = self.host_type.config
            name = "" if config is not None and config.general.hide_service_name else SOFTWARE
            identity = Identity("server", "im", name=name)
            self._domain_info = DiscoInfo((identity,), self.host_type.features(), self.forms)
        return self._domain_info

    @iq_get(NS_DISCO_INFO, "query", at=Target.DOMAIN)
    def on_domain_info(self, iq: IQ) -> domish.Element:
        info = self.domain_info()
        node = _node(iq)
        if node and not (NS_CAPS in info.features and node == info.caps_node()):
            raise StanzaError("item-not-found")
        return info.to_element(node)

    @iq_get(NS_DISCO_ITEMS, "query", at=Target.DOMAIN)
    def on_domain_items(self, iq: IQ) -> domish.Element:
        if _node(iq):
            raise StanzaError("item-not-found")
        return _items(self.services_of(iq.recipient.domain))

    def services_of(self, domain: str) -> list[tuple[str, str]]:
        """The names under which services of this domain are reached, and the node of each, which may be empty."""
        services = {template.replace(HOST_PLACEHOLDER, domain): "" for template in self.config.extra_domains}
        for pattern, service in self.host_type.services.items():
            name = pattern.replace(HOST_PLACEHOLDER, domain)
            if self._is_service(name):
                services[name] = service.service_node
        return sorted(services.items())

    def _is_service(self, name: str) -> bool:
        """A domain of somebody else's may have the name, and a fixed name may be that of another host type."""
        if name in self.context.domains:
            return False
        found = self.context.domains.find_subdomain(name)
        return found is not None and found.host_type is self.host_type

    # -- accounts

    @iq_get(NS_DISCO_INFO, "query", at=Target.ACCOUNT)
    async def on_account_info(self, iq: IQ) -> domish.Element:
        node = _node(iq)
        if node and self._nodes is not None:
            info = await self._nodes.node_info(iq.recipient, node, iq.sender)
            if info is not None:
                return info.to_element(node)
        if not await self._may_see(iq):
            raise StanzaError("service-unavailable")
        if node:
            raise StanzaError("item-not-found")
        identities = (Identity("account", "registered"), *(self._nodes.identities if self._nodes else ()))
        return DiscoInfo(identities, self.host_type.account_features()).to_element()

    @iq_get(NS_DISCO_ITEMS, "query", at=Target.ACCOUNT)
    async def on_account_items(self, iq: IQ) -> domish.Element:
        account, node = iq.recipient, _node(iq)
        if node and self._nodes is not None and await self._nodes.node_info(account, node, iq.sender):
            return _items((), node)
        nodes = await self._nodes.nodes(account, iq.sender) if self._nodes is not None else ()
        allowed = await self._may_see(iq)
        if not allowed and (node or not nodes):
            raise StanzaError("service-unavailable")
        if node:
            raise StanzaError("item-not-found")
        resources = self.sessions.available(account.bare) if allowed else ()
        return _items([*((s.jid.full, "") for s in resources), *((account.bare, name) for name in nodes)])

    async def _may_see(self, iq: IQ) -> bool:
        """Section 8: the account itself, and who gets its presence."""
        if iq.from_own_account:
            return True
        return await self._is_subscriber(iq.recipient, iq.sender.to_bare())

    async def _is_subscriber(self, account: JID, contact: JID) -> bool:
        if self._subscriptions is None:
            return False
        await self._subscriptions.load(account)
        return self._subscriptions.subscription(account, contact) in ("from", "both")


def contact_addresses(server_info: Iterable[ServerInfo]) -> tuple[InfoForm, ...]:
    """The form of XEP-0157 with what the configuration says for domains, or nothing."""
    fields: dict[str, list[str]] = {}
    for entry in server_info:
        if entry.modules is None or Disco.name in entry.modules:
            fields.setdefault(entry.name, []).extend(entry.urls)
    if not fields:
        return ()
    return (InfoForm(SERVER_INFO, tuple((name, tuple(urls)) for name, urls in fields.items())),)


def _node(iq: IQ) -> str:
    return str(iq.payload.getAttribute("node", ""))


def _items(items: Iterable[tuple[str, str]], node: str = "") -> domish.Element:
    """The <query/> with items as (address, node) pairs."""
    query = domish.Element((NS_DISCO_ITEMS, "query"))
    if node:
        query["node"] = node
    for address, name in items:
        item = query.addElement("item")
        item["jid"] = address
        if name:
            item["node"] = name
    return query
