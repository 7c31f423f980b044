"""Extension modules only; everything else stands in pyproject.toml."""

import os
import re
import sys

if sys.platform == "win32":
    sys.exit("se-server runs on Linux and macOS: its workers are forked and uvloop does not support Windows; use WSL.")

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

EXT = Path("ext")
SRC = Path("src")
JOBS = os.cpu_count() or 1

# Known to gcc and to clang. Python asks for debug information, which takes a third of the time to compile and makes the
# extensions eight times as large; who wants it says so: CFLAGS=-g.
OPTIONS = ["-O3", *([] if "-g" in os.environ.get("CFLAGS", "").split() else ["-g0"])]
# Errors by default since gcc 14 and clang 16: so that older compilers find them too.
OPTIONS += ["-Werror=incompatible-pointer-types", "-Werror=int-conversion", "-Werror=implicit-function-declaration"]

# Plain Python, compiled because every turn or every handshake passes through it; a .pxd of the same name in ext/ gives
# it its fields.
COMPILED = [
    SRC / "se_server/conversation/answering.py",
    SRC / "se_server/conversation/core.py",
    SRC / "se_server/conversation/jobs.py",
    SRC / "se_server/conversation/lane.py",
    SRC / "se_server/conversation/turn_ends.py",
    SRC / "se_server/conversation/waiting.py",
    SRC / "se_server/telemetry/pace.py",
    SRC / "se_server/protocol/turn.py",
    SRC / "se_server/protocol/turns.py",
    SRC / "se_server/server/door/handshake.py",
]


def extension(source: Path) -> Extension:
    base = SRC if source.suffix == ".py" else EXT
    name = ".".join(source.relative_to(base).with_suffix("").parts)
    return Extension(name, [str(source)], extra_compile_args=OPTIONS)


def is_stale(sources: list[Path]) -> bool:
    """Whether a .pxd changed since the C files were made: Cython does not see those of a compiled .py."""
    made = [c.stat().st_mtime for source in sources if (c := source.with_suffix(".c")).exists()]
    return bool(made) and max(pxd.stat().st_mtime for pxd in EXT.rglob("*.pxd")) > min(made)


def write_counters() -> None:
    """Make `_counts.pxd` of the lines of `Counters`, so that a new counter is one line."""
    source, made = SRC / "se_server/telemetry/counters.py", EXT / "se_server/telemetry/_counts.pxd"
    names = re.findall(r"^    (\w+): int\b", source.read_text(encoding="utf-8"), re.MULTILINE)
    fields = "".join(f"    long long {name}\n" for name in names)
    text = (
        '"""The counters of `counters.py`; setup.py writes them."""\n\n'
        "from se_server.telemetry._meters cimport Meters\nfrom se_server.telemetry._ring cimport Ring\n\n\n"
        f"cdef struct Cells:\n{fields}\n\n"
        "cdef class Counts:\n    cdef Cells* cells\n    cdef Py_buffer _buffer\n    cdef bint _is_view\n"
        "    cdef readonly Meters meters\n    cdef readonly Ring ring\n"
    )
    if not made.exists() or made.read_text(encoding="utf-8") != text:
        made.write_text(text, encoding="utf-8")


write_counters()
SOURCES = [*sorted(EXT.rglob("*.pyx")), *COMPILED]

# Cython's helper processes import this file again where processes are spawned instead of forked (macOS, Python 3.14).
if __name__ == "__main__":
    setup(
        ext_modules=cythonize(
            [extension(source) for source in SOURCES],
            include_path=[str(EXT)],
            nthreads=JOBS,
            force=is_stale(SOURCES),
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "initializedcheck": False,
                "cdivision": True,
                "annotation_typing": False,
                "binding": False,
            },
        ),
        options={"build_ext": {"parallel": JOBS}},
    )
