"""`se-bench compare`: the cost of a turn here, with everything a user could pick instead, and at the machine's limit.

`scenarios.py` has the scenarios and servers, `goals.py` the targets, `visits.py` the plan; `run.py` measures with
`bench/kernel.py`, `llm.py` the calls with an LLM, `starts.py` the starts; `results.py` stores and merges, `tables.py`
and `report.py` print, `charts.py` draws, `documents.py` and `publish.py` update the documents, `scaling.py` makes the
table of docs/scaling.md, `machine.py` describes the machine; `command.py` is the command line. Everything but
measuring can be repeated from `results.json`.
"""
