"""Client-to-server streams: RFC 6120 negotiation and sessions."""
