"""The packages over the providers' own: litellm, LangChain, LangGraph, openai-agents, pydantic-ai."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

from tests.llm.rows import MESSAGES, MODEL, NO_TOOLS, QUESTION, Case, Package
from tests.llm.rows_openai import THREAD, openai_client
from tests.llm.rows_providers import ACLOSE, AWAITED, IN_A_THREAD, WHOLE
from tests.providers import Script

litellm = Package("litellm", "litellm", "openai")
langchain = Package("LangChain", "langchain_openai", "openai")
langgraph = Package("LangGraph", "langgraph.graph", "openai", NO_TOOLS)
agents = Package("openai-agents", "agents", "openai", NO_TOOLS)
pydantic_ai = Package("pydantic-ai", "pydantic_ai", "openai", NO_TOOLS)

CANCEL = "cancelling its run"
EXIT = "leaving the context manager, in the task that entered it"


# --- litellm --------------------------------------------------------------------------------------------------------


def litellm_options(case: Case, provider: str, api: str) -> Any:
    """Return the arguments of a call."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would fetch a table of prices
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm as package

        # Its first failure imports FastAPI, which takes longer than a closing may on a busy machine.
        with suppress(ImportError):
            import_module("fastapi")
    package.suppress_debug_info = True
    options: Any = {"api_key": "none", "api_base": case.url(api), "num_retries": 0}
    return package, {"model": f"{provider}/{MODEL}", "messages": MESSAGES, **options}


@litellm.row('await acompletion("openai/...", stream=True)', closed_by=ACLOSE)
async def litellm_openai(case: Case) -> Any:
    package, options = litellm_options(case, "openai", "openai")
    return await package.acompletion(**options, stream=True)


@litellm.row('acompletion("openai/...", stream=True)', closed_by=ACLOSE, note=AWAITED)
async def litellm_not_awaited(case: Case) -> Any:
    package, options = litellm_options(case, "openai", "openai")
    return package.acompletion(**options, stream=True)


@litellm.row('await acompletion("anthropic/...", stream=True)', closed_by=ACLOSE, api="anthropic")
async def litellm_anthropic(case: Case) -> Any:
    package, options = litellm_options(case, "anthropic", "anthropic")
    return await package.acompletion(**options, stream=True)


@litellm.row('await acompletion("openai/...")', is_stream=False, note=WHOLE)
async def litellm_whole(case: Case) -> Any:
    package, options = litellm_options(case, "openai", "openai")
    return await package.acompletion(**options)


@litellm.row('completion("openai/...", stream=True)', closed_by=THREAD,
             note=IN_A_THREAD)  # fmt: skip
async def litellm_blocking(case: Case) -> Any:
    package, options = litellm_options(case, "openai", "openai")
    return package.completion(**options, stream=True)


# --- LangChain ------------------------------------------------------------------------------------------------------


async def chat_openai(case: Case, **more: Any) -> Any:
    """Return a model with an HTTP client of its own: LangChain shares one, which it never closes."""
    import openai
    from langchain_openai import ChatOpenAI

    client = await case.client(openai.DefaultAsyncHttpxClient())
    blocking = case.blocking_client(openai.DefaultHttpxClient())
    options: Any = {"http_async_client": client, "http_client": blocking, **more}
    return ChatOpenAI(model=MODEL, api_key="none", base_url=case.url("openai"), max_retries=0, **options)


@langchain.row("ChatOpenAI().astream(...)", closed_by=ACLOSE)
async def langchain_openai(case: Case) -> Any:
    return (await chat_openai(case)).astream(QUESTION)


@langchain.row("ChatOpenAI(use_responses_api=True).astream(...)", closed_by=ACLOSE,
               note="`content` is a list of blocks.")  # fmt: skip
async def langchain_responses(case: Case) -> Any:
    return (await chat_openai(case, use_responses_api=True)).astream(QUESTION)


@langchain.row("ChatAnthropic().astream(...)", closed_by=ACLOSE, requires="langchain_anthropic", api="anthropic")
async def langchain_anthropic(case: Case) -> Any:
    from langchain_anthropic import ChatAnthropic, _client_utils

    options: Any = {"api_key": "none", "base_url": case.url("anthropic"), "max_retries": 0, "max_tokens": 1024}
    chat = ChatAnthropic(model=MODEL, **options)
    case.at_end(chat._async_client.close)
    # Models share one HTTP client, also from one event loop to the next.
    case.at_end(_client_utils._get_default_async_httpx_client.cache_clear)
    return chat.astream(QUESTION)


@langchain.row("ChatGoogleGenerativeAI().astream(...)", closed_by=ACLOSE, requires="langchain_google_genai",
               api="gemini")  # fmt: skip
async def langchain_google(case: Case) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_google_genai import ChatGoogleGenerativeAI

    options: Any = {"google_api_key": "none", "base_url": case.url("gemini"), "max_retries": 1}
    chat = ChatGoogleGenerativeAI(model="gemini-2.5-flash", **options)
    case.at_end(chat.client.aio.aclose)
    case.at_end(chat.client.close)
    return chat.astream(QUESTION)


@langchain.row("(prompt | model | StrOutputParser()).astream(...)", closed_by=ACLOSE)
async def langchain_chain(case: Case) -> Any:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    return (prompt | await chat_openai(case) | StrOutputParser()).astream({"question": QUESTION})


@langchain.row('ChatOpenAI().astream_events(..., version="v2")', closed_by=ACLOSE,
               note="The end of the model's run repeats the text; it is spoken once.")  # fmt: skip
async def langchain_events(case: Case) -> Any:
    return (await chat_openai(case)).astream_events(QUESTION, version="v2")


@langchain.row("await ChatOpenAI().ainvoke(...)", is_stream=False, note=WHOLE)
async def langchain_whole(case: Case) -> Any:
    return await (await chat_openai(case)).ainvoke(QUESTION)


@langchain.row(
    "ChatOpenAI().ainvoke(...)", closed_by="cancelling the request", is_stream=False, note="The `await` is made."
)
async def langchain_whole_not_awaited(case: Case) -> Any:
    return (await chat_openai(case)).ainvoke(QUESTION)


@langchain.row("ChatOpenAI().stream(...)", closed_by=THREAD, note=IN_A_THREAD)
async def langchain_blocking(case: Case) -> Any:
    return (await chat_openai(case)).stream(QUESTION)


@langchain.refused("ChatOpenAI()", "astream", api="")
async def langchain_itself(case: Case) -> Any:
    return await chat_openai(case)


# --- LangGraph ------------------------------------------------------------------------------------------------------

INPUT: Any = {"messages": MESSAGES}


async def graph_of(case: Case, *, inner: bool = False) -> Any:
    """Return a graph with one node, `agent`; with `inner`, in a graph of its own."""
    from langgraph.graph import START, MessagesState, StateGraph

    chat = await chat_openai(case)

    async def agent(state: Any) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
    if not inner:
        return graph
    return StateGraph(MessagesState).add_node("inner", graph).add_edge(START, "inner").compile()


async def graph_of_two(case: Case) -> Any:
    """Return a graph whose node `plan` gives a message before the node `agent`."""
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph

    chat = await chat_openai(case)

    async def plan(state: Any) -> Any:
        return {"messages": [AIMessage("I plan.")]}

    async def agent(state: Any) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("plan", plan).add_node("agent", agent)
    return graph.add_edge(START, "plan").add_edge("plan", "agent").compile()


@langgraph.row('graph.astream(..., stream_mode="messages")', closed_by=ACLOSE)
async def graph_messages(case: Case) -> Any:
    return (await graph_of(case)).astream(INPUT, stream_mode="messages")


@langgraph.row('graph.astream(..., stream_mode=["messages", "updates"])', closed_by=ACLOSE)
async def graph_messages_and_updates(case: Case) -> Any:
    return (await graph_of(case)).astream(INPUT, stream_mode=["messages", "updates"])


@langgraph.row('graph.astream(..., stream_mode="messages", subgraphs=True)', closed_by=ACLOSE)
async def graph_with_namespaces(case: Case) -> Any:
    return (await graph_of(case, inner=True)).astream(INPUT, stream_mode="messages", subgraphs=True)


@langgraph.row('graph.astream(..., stream_mode="messages"), nodes={"agent"}', closed_by=ACLOSE,
               options={"nodes": {"agent"}}, note="Only the tokens of these nodes are spoken.")  # fmt: skip
async def graph_nodes(case: Case) -> Any:
    return (await graph_of_two(case)).astream(INPUT, stream_mode="messages")


@langgraph.row('graph.astream_events(..., version="v2")', closed_by=ACLOSE)
async def graph_events(case: Case) -> Any:
    return (await graph_of(case)).astream_events(INPUT, version="v2")


@langgraph.row("await graph.ainvoke(...)", is_stream=False, note="The last message of the state.")
async def graph_whole(case: Case) -> Any:
    return await (await graph_of(case)).ainvoke(INPUT)


@langgraph.refused("graph.compile()", 'stream_mode="messages"', api="")
async def graph_itself(case: Case) -> Any:
    return await graph_of(case)


# --- openai-agents --------------------------------------------------------------------------------------------------


async def agent_of(case: Case) -> tuple[Any, Any]:
    """Return the package and an agent."""
    import agents as package

    package.set_tracing_disabled(True)
    responses = package.OpenAIResponsesModel(model=MODEL, openai_client=await openai_client(case))
    return package, package.Agent(name="agent", model=responses)


@agents.row("Runner.run_streamed(agent, ...)", closed_by=CANCEL)
async def agents_streamed(case: Case) -> Any:
    package, agent = await agent_of(case)
    return package.Runner.run_streamed(agent, QUESTION)


@agents.row("Runner.run_streamed(agent, ...).stream_events()", closed_by=ACLOSE)
async def agents_events(case: Case) -> Any:
    package, agent = await agent_of(case)
    return package.Runner.run_streamed(agent, QUESTION).stream_events()


@agents.row("await Runner.run(agent, ...)", is_stream=False, note="Its `final_output`.")
async def agents_whole(case: Case) -> Any:
    package, agent = await agent_of(case)
    return await package.Runner.run(agent, QUESTION)


@agents.row("Runner.run(agent, ...)", closed_by="cancelling the run", is_stream=False, note="The `await` is made.")
async def agents_whole_not_awaited(case: Case) -> Any:
    package, agent = await agent_of(case)
    return package.Runner.run(agent, QUESTION)


@agents.refused("Agent()", "Runner.run_streamed", api="")
async def agents_itself(case: Case) -> Any:
    return (await agent_of(case))[1]


# --- pydantic-ai ----------------------------------------------------------------------------------------------------


async def pydantic_agent(case: Case) -> Any:
    """Return an agent."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=await openai_client(case))))


@pydantic_ai.row("agent.run_stream(...)", closed_by=EXIT, note="The text's deltas; `stream_text()` is not needed.")
async def pydantic_manager(case: Case) -> Any:
    return (await pydantic_agent(case)).run_stream(QUESTION)


@pydantic_ai.row("async with agent.run_stream(...) as result: result", closed_by=EXIT)
async def pydantic_result(case: Case) -> Any:
    return await case.enter((await pydantic_agent(case)).run_stream(QUESTION))


@pydantic_ai.row("result.stream_text(delta=True)", closed_by=ACLOSE)
async def pydantic_deltas(case: Case) -> Any:
    return (await case.enter((await pydantic_agent(case)).run_stream(QUESTION))).stream_text(delta=True)


@pydantic_ai.row("result.stream_text()", closed_by=ACLOSE, script=NO_TOOLS.but(tokens_per_s=50),
                 note="Each item repeats the text so far; only what is new is spoken.")  # fmt: skip
async def pydantic_growing(case: Case) -> Any:
    return (await case.enter((await pydantic_agent(case)).run_stream(QUESTION))).stream_text()


@pydantic_ai.row("result.stream_output()", closed_by=ACLOSE, script=NO_TOOLS.but(tokens_per_s=50),
                 note="Each item repeats the text so far; only what is new is spoken.")  # fmt: skip
async def pydantic_output(case: Case) -> Any:
    return (await case.enter((await pydantic_agent(case)).run_stream(QUESTION))).stream_output()


@pydantic_ai.row("agent.run_stream_events(...)", closed_by=ACLOSE)
async def pydantic_events(case: Case) -> Any:
    return (await pydantic_agent(case)).run_stream_events(QUESTION)


@pydantic_ai.row("agent.iter(...)", closed_by=EXIT)
async def pydantic_iter(case: Case) -> Any:
    return (await pydantic_agent(case)).iter(QUESTION)


@pydantic_ai.row("await agent.run(...)", is_stream=False, note="Its `output`.")
async def pydantic_whole(case: Case) -> Any:
    return await (await pydantic_agent(case)).run(QUESTION)


@pydantic_ai.refused("Agent()", "agent.run_stream", api="")
async def pydantic_itself(case: Case) -> Any:
    return await pydantic_agent(case)


# --- llama-index ----------------------------------------------------------------------------------------------------

llama_index = Package("llama-index", "llama_index.llms.openai", "openai", Script(text=NO_TOOLS.text))

TASK = "cancelling the task that reads the stream, and closing the response under it"
UNDER = "closing the HTTP response under it, which `aclose()` does not reach"


async def llama_model(case: Case) -> Any:
    """Return a model with HTTP clients of its own."""
    import openai
    from llama_index.llms.openai import OpenAI

    client = await case.client(openai.DefaultAsyncHttpxClient())
    blocking = case.blocking_client(openai.DefaultHttpxClient())
    options: Any = {"api_key": "none", "api_base": case.url("openai"), "max_retries": 0}
    return OpenAI(model="gpt-4o-mini", async_http_client=client, http_client=blocking, **options)


def llama_messages() -> Any:
    """Return the conversation so far."""
    from llama_index.core.llms import ChatMessage

    return [ChatMessage(role="user", content=QUESTION)]


async def llama_engine(case: Case) -> Any:
    """Return a chat engine."""
    from llama_index.core.chat_engine import SimpleChatEngine

    return SimpleChatEngine.from_defaults(llm=await llama_model(case))


@llama_index.row("await llm.astream_chat(...)", closed_by=UNDER, note="`delta`; `text` repeats the text so far.")
async def llama_chat(case: Case) -> Any:
    return await (await llama_model(case)).astream_chat(llama_messages())


@llama_index.row("llm.astream_chat(...)", closed_by=UNDER, note=AWAITED)
async def llama_chat_not_awaited(case: Case) -> Any:
    return (await llama_model(case)).astream_chat(llama_messages())


@llama_index.row("await llm.astream_complete(...)", closed_by=UNDER)
async def llama_complete(case: Case) -> Any:
    return await (await llama_model(case)).astream_complete(QUESTION)


@llama_index.row("await llm.achat(...)", is_stream=False, note=WHOLE)
async def llama_whole(case: Case) -> Any:
    return await (await llama_model(case)).achat(llama_messages())


@llama_index.row("llm.stream_chat(...)", closed_by=THREAD, note=IN_A_THREAD)
async def llama_blocking(case: Case) -> Any:
    return (await llama_model(case)).stream_chat(llama_messages())


@llama_index.row("await chat_engine.astream_chat(...)", closed_by=TASK)
async def llama_engine_chat(case: Case) -> Any:
    return await (await llama_engine(case)).astream_chat(QUESTION)


@llama_index.row("(await chat_engine.astream_chat(...)).async_response_gen()", closed_by=TASK)
async def llama_engine_texts(case: Case) -> Any:
    return (await (await llama_engine(case)).astream_chat(QUESTION)).async_response_gen()


@llama_index.row("FunctionAgent().run(...)", closed_by=CANCEL)
async def llama_agent(case: Case) -> Any:
    from llama_index.core.agent.workflow import FunctionAgent

    return FunctionAgent(llm=await llama_model(case), tools=[]).run(QUESTION)


@llama_index.refused("OpenAI()", "astream_chat", api="")
async def llama_itself(case: Case) -> Any:
    return await llama_model(case)
