"""Coverage-guided fuzzing of the code that reads hostile bytes: `tox -e fuzz`.

Each target module has `one_input(data)`, which feeds one input to the code under test and raises if the outcome differs
from the reference's. `run.py` builds the code with clang's sanitizers and drives the targets with libFuzzer; the same
functions run over the committed corpus in the ordinary test suite.
"""
