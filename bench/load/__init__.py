"""Callers of the benchmarks that bring no load but harm or crowds, and the servers under test (`targets/`)."""
