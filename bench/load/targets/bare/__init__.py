"""The bare limits, built on first use from the sources beside this file: a C server, and picows from Cython.

Both answer with the same canned frames (`answers.h`), and neither verifies tokens or runs a user's handler: they show
the best that the machine, or picows, can do.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from bench.load.targets.handler import WORDS
from bench.load.targets.making import make, need_packages, need_program, place, run_tool

__all__ = ["C_SERVER", "build_c_server", "build_picows_limit", "picows_folder"]

_HERE = Path(__file__).parent
_SOURCES = {path.name: path for path in sorted(_HERE.iterdir()) if path.suffix in (".c", ".h", ".pyx")}
_FLAGS = ("-O2", "-std=gnu11")


def _literal(text: str) -> str:
    """Return a text in JSON form as a C literal."""
    return '"' + "".join(f"\\{byte:03o}" for byte in json.dumps(text, ensure_ascii=False)[1:-1].encode()) + '"'


_WORDS_H = (
    f"enum {{ MAX_CHUNKS = {len(WORDS)}, MAX_WORD = {max(len(json.dumps(word)) for word in WORDS)} }};\n"
    f"static const char *const WORDS[] = {{{', '.join(map(_literal, WORDS))}}};\n"
)

_MADE_OF = (_WORDS_H, *(path.read_text() for path in _SOURCES.values()), *_FLAGS)

_C_FOLDER = place("bare-c", *_MADE_OF)
C_SERVER = _C_FOLDER / "server"
"""The path of the program, which may not be built yet."""


def picows_folder() -> Path:
    """Return the folder of the module `picows_limit`, which may not be built yet."""
    return place("bare-picows", *_MADE_OF, sys.version, version("picows"))


def build_c_server() -> None:
    """Build the C server unless it exists.

    Raises:
        BenchError: there is no C compiler, or it fails.
    """

    def fill(folder: Path) -> None:
        _compile(folder, "-Wall", "-Wextra", "-o", C_SERVER.name, str(_SOURCES["server.c"]))

    make(_C_FOLDER, fill)


def build_picows_limit() -> None:
    """Build the Cython module unless it exists.

    Raises:
        BenchError: there is no Cython or no C compiler, or one of them fails.
    """
    need_packages("Cython")
    module = f"picows_limit{sysconfig.get_config_var('EXT_SUFFIX')}"

    def fill(folder: Path) -> None:
        command = [sys.executable, "-m", "cython", "-o", "picows_limit.c", str(_SOURCES["picows_limit.pyx"])]
        run_tool("Cython", command, folder)
        _compile(folder, "-shared", "-fPIC", "-I", sysconfig.get_path("include"), "-o", module, "picows_limit.c")

    make(picows_folder(), fill)


def _compile(folder: Path, *options: str) -> None:
    (folder / "words.h").write_text(_WORDS_H)
    compiler = need_program("cc", "gcc", "clang")
    run_tool("the C compiler", [compiler, *_FLAGS, "-I", ".", "-I", str(_HERE), *options], folder)
