from typing import final

# Cython's modules show what they import.
from se_server.streams._scan import MAX_KEY_CHARS as MAX_KEY_CHARS
from se_server.streams._scan import MAX_KEYS as MAX_KEYS
from se_server.streams._scan import MAX_MESSAGE_CHARS as MAX_MESSAGE_CHARS
from se_server.streams._scan import Failure, Refusal, Unknown, Usage
from se_server.streams.extractors import on_change as on_change
from se_server.streams.sniffing import IS_RAW as IS_RAW
from se_server.streams.sniffing import IS_TEXT as IS_TEXT

def text_of(event: object) -> str | None:
    """Return the text to speak of one LLM event, by itself; None where there is none.

    Knows as dicts and as objects: OpenAI Responses and Chat Completions with all that speak them (Azure, groq,
    Together, litellm, vLLM) and the package's helper events, Anthropic Messages with its own, Gemini, interactions too,
    Mistral, Cohere, Ollama, Bedrock's Converse, LangChain's messages and `astream_events`, LangGraph's tuples,
    pydantic-ai, openai-agents and llama-index. Bytes are read as a piece of an HTTP response's body.
    """

def result_of(event: object) -> str | Failure | Refusal | Unknown | Usage | None:
    """Return the text of one event, else its failure, its refusal, that it is unknown, or the tokens it counts.

    None is silence: reasoning, tool calls, pings, and events that repeat the text.
    """

@final
class Reading:
    """The reading of one answer's events; made and used by the stream."""

    @property
    def failure(self) -> Failure | None:
        """The failure that the stream has reported; None before."""

def forget_types() -> None:
    """Forget how the events of each type are read, after a registration."""
