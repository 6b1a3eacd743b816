"""Memory that was freed, given back to the system.

Idea: for a moment a cut of many rows, or a table that is published whole, needs hundreds of
megabytes. What is freed of that lies between what is kept, and glibc gives back only what lies at
the end of its heap: with 1.2 million prefixes it held 290 MB that nobody used. `malloc_trim` gives
back every whole page of it in 3 to 10 ms.
Rule: after many routes or a table only, for what is needed again has to be paged in again: a cell
that folds 100,000 plays at each tick had better keep it.
Rejected: MALLOC_MMAP_THRESHOLD_ (at 128 KiB, 120 MB less for half as much time again: the arrays of
every cut are paged in anew).
"""

import ctypes

#: Routes or records from which on a cut is large.
MANY = 65_536

#: None where the C library is another one.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back(count: int = MANY) -> None:
    """What was freed, if that many routes or records were worked on."""
    if count >= MANY and _trim is not None:
        _trim(0)
