"""Extension modules only; everything else stands in pyproject.toml."""

import os
import sys

if sys.platform == "win32":
    sys.exit("se-server runs on Linux and macOS: its workers are forked and uvloop does not support Windows; use WSL.")

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

EXT = Path("ext")
JOBS = os.cpu_count() or 1


def extension(source: Path) -> Extension:
    name = ".".join(source.relative_to(EXT).with_suffix("").parts)
    return Extension(name, [str(source)], extra_compile_args=["-O3"])  # known to gcc and to clang


# Cython's helper processes import this file again where processes are spawned instead of forked (macOS, Python 3.14).
if __name__ == "__main__":
    setup(
        ext_modules=cythonize(
            [extension(source) for source in sorted(EXT.rglob("*.pyx"))],
            include_path=[str(EXT)],
            nthreads=JOBS,
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "initializedcheck": False,
                "cdivision": True,
                "binding": False,
            },
        ),
        options={"build_ext": {"parallel": JOBS}},
    )
