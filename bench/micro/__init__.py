"""Single parts, measured alone: times with pytest-benchmark (`test_*.py`), and instructions on fixed replays.

`se-bench micro` runs both; `bench/README.md` describes it.
"""
