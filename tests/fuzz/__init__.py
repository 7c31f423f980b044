"""Coverage-guided fuzzing of what reads hostile bytes: `tox -e fuzz`.

Each target module has `one_input(data)`, which feeds one input to the code under test and raises where the outcome is
not the reference's. `run.py` builds the code with clang's sanitizers and drives the targets by libFuzzer; the same
functions run over the committed corpus in the ordinary test suite.
"""
