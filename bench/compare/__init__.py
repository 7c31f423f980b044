"""`se-bench compare`: the cost of a turn here, with everything a user could pick instead, and at the machine's limit.

`scenarios.py` has the scenarios and servers, `goals.py` the targets; `run.py` measures with `bench/kernel.py`,
`results.py` stores, `tables.py` and `report.py` print, `charts.py` draws, `documents.py` and `publish.py` update the
documents, `scaling.py` computes the table of docs/scaling.md, `machine.py` describes the machine; `command.py` is the
command line. Everything but measuring can be repeated from `results.json`.
"""
