"""XEP-0077 In-Band Registration, version 2.4: accounts made, given another password and cancelled over XMPP.

Off unless configured. Left out: redirection (section 6), registration with other services.
"""

import ipaddress
import math
import re
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Literal, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.auth.base import AccountError, AccountExists, InvalidPassword
from dynxmpp.config.model import Mistake, each, jid, non_negative
from dynxmpp.config.modules import IqDisc
from dynxmpp.config.report import quoted
from dynxmpp.core.interfaces import AccountAdmin, AccountRemover, Registration
from dynxmpp.jid import prepare_local
from dynxmpp.module import (
    IQ,
    JID,
    InvalidJID,
    Module,
    ModuleContext,
    Section,
    Session,
    Stanza,
    StanzaError,
    StreamError,
    Target,
    Xep,
    iq_get,
    iq_set,
    option,
    section,
)

NS_REGISTER = "jabber:iq:register"
NS_FEATURE = "http://jabber.org/features/iq-register"
NS_FORMS = "jabber:x:data"

INSTRUCTIONS = "Choose a username and password to register with this server"
#: Source addresses remembered for the registration timeout.
MAX_SOURCES = 10_000
#: general.registration_timeout where no configuration says otherwise; seconds.
DEFAULT_TIMEOUT_S = 600.0

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def network(value: str) -> str:
    """A check: an IP address, or a network as `10.0.0.0/8`."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise Mistake(f"{quoted(value)} is not an IP address or network") from error


@section
class IPRule(Section):
    """[[modules.mod_register.ip_access]]: whether clients from `address` may register."""

    address: str = option(check=network)
    policy: Literal["allow", "deny"] = option()


@section
class WelcomeMessage(Section):
    """[modules.mod_register.welcome_message]: sent by the domain to each new account."""

    subject: str = option(default="")
    body: str = option(default="")


@section
class RegisterConfig(Section):
    """[modules.mod_register]

    `access` is the rule that a new account's address must pass; of `ip_access` the first rule that fits decides, and
    who fits none may register. `password_strength` is in bits (see `entropy`). How often one source address may
    register says general.registration_timeout.
    """

    access: str = option(default="all")
    ip_access: tuple[IPRule, ...] = option(default=())
    password_strength: int = option(default=0, check=non_negative)
    registration_watchers: tuple[str, ...] = option(default=(), check=each(jid))
    welcome_message: WelcomeMessage | None = option(default=None)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class Register(Module):
    """Answers for bound sessions itself; streams that have not authenticated ask it as Registration."""

    name = "mod_register"
    xep = Xep(77, "2.4")
    config_model = RegisterConfig
    features = (NS_REGISTER,)
    stream_feature = f"<register xmlns='{NS_FEATURE}'/>".encode()
    log = Logger()

    def __init__(self, context: ModuleContext, config: RegisterConfig) -> None:
        super().__init__(context, config)
        self.accounts = cast(AccountAdmin, self.host_type.accounts)
        self._sources = _Sources(DEFAULT_TIMEOUT_S)
        self._rules = [(ipaddress.ip_network(rule.address), rule.policy) for rule in config.ip_access]
        self._remover: AccountRemover | None = None
        self.host_type.provide(Registration, self)

    async def start(self) -> None:
        self._remover = self.host_type.find(AccountRemover)
        if self.host_type.config is not None:
            self._sources = _Sources(self.host_type.config.general.registration_timeout)

    # -- before authentication

    def form(self) -> domish.Element:
        """What is needed to register: the fields of section 3.1, and the same as a form (section 5)."""
        query = domish.Element((NS_REGISTER, "query"))
        query.addElement("instructions", content=INSTRUCTIONS)
        query.addElement("username")
        query.addElement("password")
        query.addChild(_data_form())
        return query

    async def register(self, domain: str, query: domish.Element, address: str) -> None:
        """Creates the account that `query` asks for. Raises StanzaError."""
        if _has_remove(query):
            raise StanzaError("unexpected-request")  # section 3.2: nobody is registered here yet
        username, password = _credentials(query)
        if not username or not password:
            raise StanzaError("not-acceptable", text="A username and a password are needed")
        try:
            account = JID.of(prepare_local(username), domain)
        except InvalidJID:
            raise StanzaError("jid-malformed") from None
        if not self._source_may(address) or not self._may(account):
            raise StanzaError("forbidden")
        self._check_strength(password)
        source = source_of(address)
        if not self._sources.enter(source, self.clock.seconds()):
            raise StanzaError("resource-constraint", text="Users are not allowed to register accounts so quickly")
        created = False
        try:
            await self._change(self.accounts.create(domain, account.local or "", password))
            created = True
        finally:
            if not created:
                self._sources.leave(source)
        self.log.info("account_registered", domain=domain, account=account.bare, address=address)
        self._welcome(account, address)

    def _source_may(self, address: str) -> bool:
        try:
            ip = _unmapped(ipaddress.ip_address(address))
        except ValueError:  # no IP connection: a socket of this machine
            return True
        return next((policy == "allow" for net, policy in self._rules if ip in net), True)

    def _may(self, account: JID) -> bool:
        """The access rule. One that is not defined lets nobody in."""
        return self.host_type.access(self.config.access, account, self.context.domains.__contains__) == "allow"

    def _check_strength(self, password: str) -> None:
        if entropy(password) < self.config.password_strength:
            raise StanzaError("not-acceptable", text="The password is too weak")

    def _welcome(self, account: JID, address: str) -> None:
        domain = account.to_domain()
        message = self.config.welcome_message
        if message is not None and (message.subject or message.body):
            self._send(domain, account, "normal", message.subject, message.body)
        for watcher in self.config.registration_watchers:
            text = f"The account {account.bare} was registered from IP address {address}."
            self._send(domain, JID.parse(watcher), "chat", "", text)

    def _send(self, sender: JID, recipient: JID, type_: str, subject: str, body: str) -> None:
        message = domish.Element(("jabber:client", "message"))
        message["type"], message["from"], message["to"] = type_, sender.full, recipient.full
        if subject:
            message.addElement("subject", content=subject)
        message.addElement("body", content=body)
        self.router.route(Stanza.from_element(message), sender, recipient)

    # -- bound sessions

    @iq_get(NS_REGISTER, "query", at=Target.DOMAIN | Target.ACCOUNT)
    def on_get(self, iq: IQ) -> domish.Element:
        account = self._own(iq)
        query = domish.Element((NS_REGISTER, "query"))
        query.addElement("instructions", content=INSTRUCTIONS)
        query.addElement("registered")
        query.addElement("username", content=account.local)
        query.addElement("password")
        return query

    @iq_set(NS_REGISTER, "query", at=Target.DOMAIN | Target.ACCOUNT, secret=True)
    async def on_set(self, iq: IQ) -> None:
        account, query = self._own(iq), iq.payload
        if _has_remove(query):
            if len(list(query.elements())) != 1:
                raise StanzaError("bad-request")
            await self._cancel(account, iq.context.origin)
            return
        username, password = _credentials(query)
        if not username or not password:
            raise StanzaError("bad-request")
        await self._change_password(account, username, password)

    def _own(self, iq: IQ) -> JID:
        """The account that asks, of this domain. Raises StanzaError for a request about anything else."""
        asks = iq.sender.to_bare()
        if iq.recipient != asks and iq.recipient != asks.to_domain():
            raise StanzaError("not-allowed")
        return asks

    async def _change_password(self, account: JID, username: str, password: str) -> None:
        """Section 3.3. Some clients send the whole address as the user name, as example 25 does."""
        try:
            named = JID.parse(username) if "@" in username else JID.of(prepare_local(username), account.domain)
        except InvalidJID:
            raise StanzaError("jid-malformed") from None
        if named != account or not self._may(account):
            raise StanzaError("not-allowed")
        self._check_strength(password)
        await self._change(self.accounts.set_password(account.domain, account.local or "", password))
        self.log.info("password_changed", account=account.bare)

    async def _cancel(self, account: JID, origin: Session | None) -> None:
        """Section 3.2: ends the other sessions, removes what is stored, then the account.

        Once the result is out, the session that asked is ended, and what it left behind while it ended is removed.
        """
        if self._remover is None or not self._may(account):
            raise StanzaError("not-allowed")
        for session in list(self.sessions.of(account.bare)):
            if session is not origin:
                session.end(StreamError("not-authorized", "the account was removed"))
        await self._remover.remove_account(account)
        await self._change(self.accounts.remove(account.domain, account.local or ""))
        self.log.info("account_removed", account=account.bare)
        self.context.spawn("account_removal_finished", self._finish_removal(self._remover, account, origin))

    async def _finish_removal(self, remover: AccountRemover, account: JID, origin: Session | None) -> None:
        result_is_out: Deferred[None] = Deferred()
        self.clock.callLater(0, result_is_out.callback, None)
        await result_is_out
        if origin is not None:
            origin.end(StreamError("not-authorized", "the account was removed"))
        await remover.remove_account(account)

    async def _change(self, change: Awaitable[None]) -> None:
        """Awaits a change of accounts; what it refuses becomes the error."""
        try:
            await change
        except AccountExists:
            raise StanzaError("conflict") from None
        except InvalidPassword:
            raise StanzaError("not-acceptable", text="The password cannot be used") from None
        except AccountError:
            raise StanzaError("not-allowed") from None


class _Sources:
    """Source addresses that have registered lately: each may do so once in `timeout_s` seconds.

    The oldest are forgotten when there are too many: a bound on memory matters more than a limit on those who have
    that many addresses.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._entered: OrderedDict[str, float] = OrderedDict()

    def enter(self, source: str, now: float) -> bool:
        """False when the address was let in within the timeout. With an infinite one there is no limit."""
        if math.isinf(self._timeout_s):
            return True
        while self._entered and next(iter(self._entered.values())) <= now - self._timeout_s:
            self._entered.popitem(last=False)
        if source in self._entered:
            return False
        self._entered[source] = now
        if len(self._entered) > MAX_SOURCES:
            self._entered.popitem(last=False)
        return True

    def leave(self, source: str) -> None:
        """The address has not registered after all."""
        self._entered.pop(source, None)


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one subscriber of an IPv6 network has."""
    try:
        ip = _unmapped(ipaddress.ip_address(address))
    except ValueError:
        return address
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _unmapped(ip: _Address) -> _Address:
    """An IPv4 client of an IPv6 socket by its own address."""
    return getattr(ip, "ipv4_mapped", None) or ip


def entropy(password: str) -> float:
    """Bits, by the formula that the field's configurations count with: length in bytes times the bits of each.

    A class of bytes counts when one of it is there: 26 for small and for capital letters, 9 for digits, 33 for other
    printable ASCII, 128 for the rest.
    """
    classes = ((r"[a-z]", 26), (r"[A-Z]", 26), (r"[0-9]", 9), (r"[!-/:-@\[-`{-~]", 33), (r"[^!-~]", 128))
    alphabet = sum(size for pattern, size in classes if re.search(pattern, password))
    return len(password.encode("utf-8", "surrogatepass")) * math.log2(alphabet) if alphabet else 0.0


def _has_remove(query: domish.Element) -> bool:
    return any(child.uri == NS_REGISTER and child.name == "remove" for child in query.elements())


def _credentials(query: domish.Element) -> tuple[str, str]:
    """Username and password, "" for what is not there; a submitted form takes precedence (section 5)."""
    values: dict[str, str] = {}
    for child in query.elements():
        if child.uri == NS_FORMS and child.name == "x" and child.getAttribute("type") == "submit":
            values = _form_values(child)
            break
        if child.uri == NS_REGISTER:
            values[child.name] = str(child)
    return values.get("username", ""), values.get("password", "")


def _form_values(x: domish.Element) -> dict[str, str]:
    """The first value of each field."""
    values: dict[str, str] = {}
    for field in x.elements():
        value = next((str(child) for child in field.elements() if child.name == "value"), "")
        values.setdefault(field.getAttribute("var", ""), value)
    return values


def _data_form() -> domish.Element:
    x = domish.Element((NS_FORMS, "x"))
    x["type"] = "form"
    x.addElement("instructions", content=INSTRUCTIONS)
    fields = (
        ("hidden", "FORM_TYPE", ""),
        ("text-single", "username", "User"),
        ("text-private", "password", "Password"),
    )
    for type_, name, label in fields:
        field = x.addElement("field")
        field["type"], field["var"] = type_, name
        if label:
            field["label"] = label
            field.addElement("required")
        else:
            field.addElement("value", content=NS_REGISTER)
    return x
