"""One conversation: its session, the connection below it and the answers that flow through both.

Knows asyncio, never processes. Limits come in as plain values and counters as an injected `Stats`, never as a `Config`.
"""
