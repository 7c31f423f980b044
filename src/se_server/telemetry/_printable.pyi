def printable(text: str, *, keep_lines: bool = False) -> str:
    """Escape control characters, line ends, marks of direction and halves of surrogate pairs.

    Args:
        text: any text, such as one of a peer.
        keep_lines: whether line feeds stay.
    """

def cut(text: str, limit: int = 128) -> str:
    """Escape a text and cut it, never inside of an escape sequence.

    Args:
        limit: the most characters that are shown.
    """

def text_of(value: object, *, as_repr: bool = False) -> str:
    """Return `str(value)`, or a description of the value if its own code fails. Never raises an exception.

    Args:
        as_repr: use `repr` instead.
    """
