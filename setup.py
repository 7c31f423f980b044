"""Extension modules only; everything else stands in pyproject.toml."""

import os
import sys

if sys.platform == "win32":
    sys.exit("se-server runs on Linux and macOS: its workers are forked and uvloop does not support Windows; use WSL.")

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

EXT = Path("ext")


def extension(source: Path) -> Extension:
    name = ".".join(source.relative_to(EXT).with_suffix("").parts)
    return Extension(name, [str(source)], extra_compile_args=["-O3", "-Wno-unreachable-code-fallthrough"])


setup(
    ext_modules=cythonize(
        [extension(source) for source in sorted(EXT.rglob("*.pyx"))],
        include_path=[str(EXT)],
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "binding": False,
        },
    ),
)
