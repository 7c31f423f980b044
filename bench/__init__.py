"""Benchmarks: the kernel that measures, the load and its targets, and the micro benchmarks of single parts.

Nothing here is installed with the package. Commands are run from the top of a checkout: `python -m bench.smoke`.
"""
