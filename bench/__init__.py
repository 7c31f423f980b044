"""Benchmarks: the kernel that measures, the load and its targets, and the micro benchmarks of single parts.

Nothing here is installed with the package. Commands are run from the top of a checkout, as `python -m bench.crowd`;
`se-bench` finds those of `compare/` and `micro/` from anywhere in it.
"""
