"""Bytes to stanzas and back; knows nothing of a server."""
