"""What the parser gets to see: whole tags only.

expat 2.6 (and distributions' patched 2.5) puts an incomplete token off until much more has come, and every version
scans it again from its beginning each time: a stanza would get stuck, and a long start tag in small pieces cost the
square of its length. So everything up to the last "<" may pass, and what begins there passes once its ">" has come;
a ">" inside an attribute's value is not the end of a tag. Each byte is looked at once.

That a "<" may also stand in a CDATA section does no harm: what looks like an open tag there waits for the next "<",
and at the latest the stanza's end tag brings one.
"""

import re

#: A whole start tag (or any other tag without quotes), from its "<" to its ">".
OPEN_TAG = re.compile(rb"""<[^>"']*(?:(?:"[^"]*"|'[^']*')[^>"']*)*>""").match

_to_quote_or_end = re.compile(rb"""[^>"']*""").match
_WHITE_SPACE = b" \t\r\n"
_SLASH = ord("/")
# End tags, comments, CDATA sections, processing instructions: "<" followed by these has no quoted values to look for.
_NO_VALUES = b"/!?"


class TagGate:
    """Bytes in as they were received, bytes out as the parser may have them. `held` is what waits."""

    __slots__ = ("_quote", "_scanned", "_tag", "held")

    def __init__(self) -> None:
        self.held = bytearray()
        self._tag = -1  # where in `held` the last "<" is, if there is one
        self._scanned = 0  # how far that tag has been looked through
        self._quote = b""  # the quotation mark of the value that is open there

    def take(self, data: bytes) -> bytes:
        """Adds `data` and gives what can be fed: nothing, or something that does not end inside of a tag."""
        if not self.held:
            end = data.rfind(b">") + 1
            tag = data.rfind(b"<", 0, end)
            if end and (tag < 0 or data[tag + 1] == _SLASH or OPEN_TAG(data, tag)):
                if end == len(data):
                    return data
                self._hold(data[end:])
                return data[:end]
        return self._join(data)

    def skip_white_space(self) -> None:
        """Forgets the white space that `held` begins with."""
        held = self.held
        skipped = len(held) - len(held.lstrip(_WHITE_SPACE))
        del held[:skipped]
        self._tag -= skipped
        self._scanned -= skipped

    def clear(self) -> None:
        """Forgets everything."""
        self.held.clear()
        self._tag = -1

    def _hold(self, data: bytes) -> None:
        tag = data.rfind(b"<")
        if tag >= 0:
            self._tag = len(self.held) + tag
            self._scanned = self._tag + 1
            self._quote = b""
        self.held += data

    def _join(self, data: bytes) -> bytes:
        held = self.held
        before = len(held)
        self._hold(data)
        end = data.rfind(b">") + 1
        if not end:
            return b""
        end += before
        tag = self._tag
        if end > tag >= 0 and held[tag + 1] not in _NO_VALUES and not self._is_closed():
            end = tag
        fed = bytes(held[:end])
        del held[:end]
        self._tag = tag - end if tag >= end else -1
        self._scanned -= end
        return fed

    def _is_closed(self) -> bool:
        """Has the tag that `held` ends with come to its end? Goes on where the last call left off."""
        held = self.held
        at = self._scanned
        while True:
            if self._quote:
                at = held.find(self._quote, at) + 1
                if not at:
                    self._scanned = len(held)
                    return False
                self._quote = b""
            match = _to_quote_or_end(held, at)
            assert match is not None  # it matches nothing, too
            at = match.end()
            if at == len(held):
                self._scanned = at
                return False
            if held[at] == ord(">"):
                return True
            self._quote = bytes(held[at : at + 1])
            at += 1
