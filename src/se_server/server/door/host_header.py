"""The form of the `Host` header: a host with or without a port."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

# A comma is refused, although RFC 3986 allows it: no name of DNS has one, but two joined Host headers do. A zone
# (RFC 6874) is ignored.
_HOST_FORM = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})(?:%[\w.~%-]{1,32})?\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2}){1,255})?"
    rb"(?::(?:[0-9]{0,4}|[1-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5])))))?"
)


def is_host(value: bytes) -> bool:
    """Return whether a value of `Host` is a host with or without a port (RFC 9112, 3.2; RFC 3986, 3.2.2), or empty."""
    found = _HOST_FORM.fullmatch(value)
    if found is None:
        return False
    literal = found[1]
    if literal is None:
        return True
    try:
        IPv6Address(literal.decode("ascii"))
    except AddressValueError:
        return False
    return True
