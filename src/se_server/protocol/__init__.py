"""The rules of the protocol without I/O: no asyncio, sockets, os, logging or clock.

Bytes and values go in, values and bytes come out. `_wire` reads and writes messages, `_delta` finds the text in an
LLM event, `turns` says what a transcript means for the turns before it.
"""
