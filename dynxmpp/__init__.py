"""dynxmpp: an XMPP server that is thousands of XMPP servers at once."""

from dynxmpp import wokkel_shim as wokkel_shim

__version__ = "0.1.0"
