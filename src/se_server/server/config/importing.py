"""Import the module or file that an APP's name begins with, and find the object in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from se_server.errors import AppError
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.doubts import as_attribute, nearest_name, other_file
from se_server.server.config.loading import loading
from se_server.server.config.packages import is_without_package, name_in_package, way_into_package


def load_object(spec: str) -> object:
    """Load a module, or what one has under a name; see `load_app`."""
    return load_parts(spec)[1]


def load_parts(spec: str) -> tuple[ModuleType, object]:
    """Load a module; return it, and what it has under a name, or itself; see `load_app`."""
    place, attribute = _split(spec)
    put_on_path(os.getcwd())
    with loading():
        module = _load_file(place, spec) if place.endswith(".py") else _load_module(place, spec)
    return module, _find_attribute(module, attribute, spec) if attribute else module


def _split(spec: str) -> tuple[str, str]:
    if spec.endswith(".py"):
        return spec, ""
    place, colon, attribute = spec.partition(":")
    if ".py:" in spec:
        file, colon, attribute = spec.rpartition(".py:")
        place = file + ".py"
    if not place or (colon and not attribute):
        raise AppError(f"APP {spec!r} is not complete: expected module, module:attr, file.py or file.py:attr")
    if attribute.endswith(")"):
        raise AppError(
            f"APP {spec!r}: se-server calls no function to make an APP: add the line `agent = {attribute}` to your"
            f" module, and write {spec.removesuffix(attribute)}agent"
        )
    if place.endswith("/") and os.path.isdir(place):
        place = str(Path(place, "__init__.py"))  # a shell completes a package's name with a slash
    return place, attribute


def put_on_path(folder: str) -> None:
    """Have modules of a folder imported before all others."""
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def _load_file(file: str, spec: str) -> ModuleType:
    path = Path(file).resolve()
    if not os.path.isfile(path):
        raise AppError(
            f"APP {spec!r}: there is no file {path}{nearest_name(path.name, _python_names(path.parent, '.py'))}"
        )
    inside = name_in_package(path)
    if inside is not None:
        return _load_inside(*inside, path, spec)
    put_on_path(str(path.parent))
    # Use the file's own name, so that other files can import it, unless that would hide a module.
    name = path.stem if path.stem not in sys.modules else f"se_app_{path.stem}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise AppError(f"APP {spec!r}: {path} cannot be imported as Python")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except BaseException as error:
        if is_without_package(error):
            raise AppError(
                f"APP {spec!r} has relative imports and is in no package: {way_into_package(path)}"
            ) from None
        raise AppCrashed.of(f"APP {spec!r}: importing {file}", error) from error
    return module


def _load_inside(name: str, folder: Path, path: Path, spec: str) -> ModuleType:
    """Import a file of a package by its name in it: relative imports work, and the module exists once."""
    put_on_path(str(folder))
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end: files of a package may be called as modules of Python
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        raise AppCrashed.of(f"APP {spec!r}: importing {path}", error) from error
    if not path.samefile(module.__file__ or os.devnull):
        raise AppError(f"APP {spec!r}: {module.__file__} hides {path}: give the package another name than {name!r}")
    return module


def _load_module(name: str, spec: str) -> ModuleType:
    if "/" in name or not all(part.isidentifier() for part in name.split(".")):
        hint = f"; did you mean {name}.py?" if os.path.isfile(name + ".py") else other_file(spec)
        raise AppError(f"APP {spec!r}: {name!r} is neither a module's name nor a file that ends in .py{hint}")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            hint = as_attribute(name) or other_file(spec) or nearest_module(name)
            raise AppError(
                f"APP {spec!r}: no module {error.name!r} in {Path.cwd()} or on Python's path{hint}"
            ) from None
        raise AppCrashed.of(f"APP {spec!r}: importing {name}", error) from error
    except BaseException as error:
        raise AppCrashed.of(f"APP {spec!r}: importing {name}", error) from error


def nearest_module(name: str) -> str:
    """Return the end of a sentence that asks for the module of the working directory with the nearest name."""
    return nearest_name(name, _python_names(Path.cwd(), ""))


def _find_attribute(module: ModuleType, attribute: str, spec: str) -> object:
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = module.__file__ or module.__name__
            names = [name for name in vars(module) if not name.startswith("_")]
            raise AppError(f"APP {spec!r}: {where} has no {attribute!r}{nearest_name(attribute, names)}") from None
    return found


def _python_names(folder: Path, suffix: str) -> list[str]:
    """List the importable names of a folder; with the suffix `.py`, its files only."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    names = [entry.stem + suffix for entry in entries if entry.suffix == ".py" and entry.stem != "__init__"]
    return sorted(names if suffix else names + [entry.name for entry in entries if (entry / "__init__.py").is_file()])
