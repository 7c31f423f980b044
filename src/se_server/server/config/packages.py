"""An APP's file inside a package: the name under which the rest of the package imports it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def name_in_package(path: Path) -> tuple[str, Path] | None:
    """Return the dotted name of a file, and the folder that holds its outermost package.

    Args:
        path: the file, absolute.

    Returns:
        None if the file is in no package, or if its package's name belongs to another module that is loaded already.
    """
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    if folder == path.parent or not all(part.isidentifier() for part in parts):
        return None
    loaded = sys.modules.get(parts[0])
    if loaded is not None and str(folder / parts[0]) not in map(str, getattr(loaded, "__path__", ())):
        return None
    return ".".join(parts), folder


def is_without_package(error: BaseException) -> bool:
    """Whether a relative import has failed because its file is in no package."""
    return isinstance(error, ImportError) and "no known parent package" in str(error)


def way_into_package(path: Path) -> str:
    """Return the end of an error's sentence: how the file becomes part of a package."""
    folder = path.parent
    if (folder / "__init__.py").is_file():
        return f"the name of the folder {folder.name} is not a name in Python: give it letters, digits and _ only"
    try:
        parts = path.relative_to(Path.cwd()).with_suffix("").parts
    except ValueError:
        parts = ()
    is_name = len(parts) > 1 and all(part.isidentifier() for part in parts)
    return f"add {folder / '__init__.py'}" + (f", or write {'.'.join(parts)}" if is_name else "")


def modules_of(found: object) -> list[str]:
    """Return the dotted names of the modules in a package; none for anything else."""
    if not isinstance(found, ModuleType):
        return []
    return sorted(
        f"{found.__name__}.{file.stem}"
        for folder in getattr(found, "__path__", ())
        for file in Path(folder).glob("*.py")
        if file.stem.isidentifier() and not file.stem.startswith("__")
    )
