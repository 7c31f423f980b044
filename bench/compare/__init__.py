"""`se-bench compare`: what a turn costs here, at everything a user could pick instead, and at the machine's limit.

`scenarios.py` is what is asked of whom, `goals.py` what must come out; `run.py` measures on `bench/kernel.py`,
`results.py` keeps, `tables.py` and `report.py` say, `charts.py` draws, `machine.py` names the machine; `command.py` is
the command line. All but measuring can be done again from `results.json`.
"""
