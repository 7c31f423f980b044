"""Memory of exactly the size of its content."""

from array import array


def exact(data: bytes) -> memoryview:
    """Return a copy that ends with its memory block, so that AddressSanitizer sees a read beyond the end.

    A `bytes` has a zero after its end, and a growing array has spare room.
    """
    view = memoryview(array("B", [0]) * len(data))
    view[:] = data
    return view
