"""A fake LLM provider with the wire bytes of nine APIs, for tests in process and for benchmarks as a process.

In a test:

    async with running_provider(Script(text="Hello there", tokens_per_s=50)) as provider:
        client = openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai"))
        ...
        request = await provider.received()
        await request.produced(3)
        await request.disconnected(timeout_s=1)
        assert request.tokens_after(interrupted_at_s) == 0

In a benchmark: `with provider_process() as provider:`, with `provider.script(tokens_per_s=50)`, `provider.totals()`.
In blocking code: `with provider_in_thread() as provider:`.
"""

from tests.providers.control import RemoteProvider, provider_process
from tests.providers.record import Request
from tests.providers.script import Failure, Script, Tool
from tests.providers.server import APIS, BASES, SCRIPT_HEADER, Provider, provider_in_thread, running_provider

__all__ = [
    "APIS",
    "BASES",
    "SCRIPT_HEADER",
    "Failure",
    "Provider",
    "RemoteProvider",
    "Request",
    "Script",
    "Tool",
    "provider_in_thread",
    "provider_process",
    "running_provider",
]
