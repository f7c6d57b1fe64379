"""How this process deals with the memory that it frees."""

from __future__ import annotations

import ctypes

# mallopt(3), glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what is freed for the next tensor; whether this system can be told so (glibc can).

    glibc gives large blocks back to the kernel the moment they are freed, and the kernel hands them out again page by
    page, each filled with zeros. With tensors of tens of megabytes in every step that is up to a third of the time
    that training takes. The price is a peak a tenth to a fifth higher, for holes between tensors of different sizes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
