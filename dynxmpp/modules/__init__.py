"""One extension, one file, found by the entry point group dynxmpp.modules."""
