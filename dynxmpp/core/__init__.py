"""The way of a stanza: domain, host type, filters, session. No sockets, no SQL, no HTTP."""
