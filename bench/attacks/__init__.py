"""Attacks on a real server, with honest conversations beside them: `python -m bench.attacks`."""
