"""Signatures of user code, with annotations left alone: Python 3.14 evaluates them late, and some have no value."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any


def signature_of(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """Return the signature of a function. Its annotations may name what is imported for type checkers alone.

    Raises:
        TypeError: it is not callable.
        ValueError: it is a builtin without a signature.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, follow_wrapped=follow_wrapped, annotation_format=Format.STRING)
    return inspect.signature(function, follow_wrapped=follow_wrapped)


def signature_text(function: Callable[..., Any]) -> str:
    """Return the parameters of a function as it was written, for a sentence; an empty text if they are unknown."""
    try:
        signature = signature_of(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""
    if sys.version_info >= (3, 14):
        return signature.format(quote_annotation_strings=False)
    return str(signature)
