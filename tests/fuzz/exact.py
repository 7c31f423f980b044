"""Memory of exactly the size of its content."""

from array import array


def exact(data: bytes) -> memoryview:
    """Return a copy that ends where its memory ends, so that AddressSanitizer sees a read behind it.

    A `bytes` has a zero behind its end, and a growing array has spare room.
    """
    view = memoryview(array("B", [0]) * len(data))
    view[:] = data
    return view
