"""Ids of envelopes that were taken already, so that copies can be dropped."""

from collections import OrderedDict

# The bridge may store a copy of an envelope up to an hour after the first one (docs/wire.md, "Copies"), so: messages a
# second x 3600. This is enough for 100 a second, and takes some 40 MB.
REMEMBERED = 360_000


class Seen:
    """Remembers the newest ids. The memory ends with the program: after a restart what was not committed is taken again."""

    def __init__(self, remembered=REMEMBERED):
        self._ids = OrderedDict()
        self._remembered = remembered

    def is_copy(self, id):
        """Whether the id was noted before; notes it."""
        if id in self._ids:
            return True
        self._ids[id] = None
        if len(self._ids) > self._remembered:
            self._ids.popitem(last=False)
        return False
