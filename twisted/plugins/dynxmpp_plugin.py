"""Makes `twistd dynxmpp` known. This folder has no __init__.py: it is one of many that hold plugins of Twisted."""

from twisted.application.service import ServiceMaker

dynxmpp = ServiceMaker(
    "dynxmpp",
    "dynxmpp.plugin",
    "An XMPP server that is thousands of XMPP servers at once",
    "dynxmpp",
)
