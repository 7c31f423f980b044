"""The built-in demo agent, which `se-server` runs without an APP. Copy it to begin your own.

It needs no account and no LLM: replace `reply` by a call of yours. The rest is usual for an agent: a transcript handler
that streams, and a log line when a conversation begins or fails.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from se_server.conversation.session import SpeechEngineSession
    from se_server.types import ConversationMessage

logger = logging.getLogger("se_server.demo")

DEMO_API_KEY = "sk_demo_key_that_everybody_knows"
"""The key of the demo agent when none is configured. It protects nothing: it is served on loopback only."""

PAUSE_S = 0.04  # about the pace at which an LLM's words arrive

GREETING = "Hello! I am the demo agent, I have no language model in me, but excellent manners."

STORY = (
    "Gladly. Once upon a time there was a server that was afraid of silence. Whenever a caller paused to think, it"
    " panicked and said everything it knew about load balancers. One day a little girl called and asked it to tell her"
    " a story. The server drew a long breath, opened all of its sockets, and began. It spoke of packets that crossed"
    " the ocean at night, of a handshake that lasted a lifetime, and of a brave worker who was killed by signal nine"
    " and came back before anybody noticed. In the middle of the best part the girl interrupted. And do you know what"
    " the server did? It stopped, at once, and it listened. From that day on it was never afraid again. The end. You"
    " could have interrupted me too, by the way; that is what this story is for."
)


async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
    """A conversation begins: the place to look up who is calling."""
    logger.info("demo conversation %s begins", conversation_id)


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """The user has spoken: answer. Cancelled when the user speaks again."""
    if session.turn is not None and session.turn.is_silence:  # nothing was said for a while
        await session.send_response("Are you still there? Ask me for a story.")
        return
    await session.send_response(word_by_word(reply(transcript)))


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    """Something went wrong; the conversation goes on."""
    logger.warning("demo conversation %s: %s", session.conversation_id, error)


def reply(transcript: list[ConversationMessage]) -> str:
    """Make the answer to a transcript. Put your language model here."""
    said = [message.content.strip() for message in transcript if message.role == "user"]
    last = said[-1] if said else ""
    words = re.findall(r"[\w']+", last.lower())
    if not words:
        return f"{GREETING} Say something, or ask me for a story."
    if "story" in words:
        return STORY
    if {"bye", "goodbye", "thanks"} & set(words):
        return f"It was a pleasure. We got as far as turn {len(said)}, and I remember every one of them."
    return f"{_opening(len(said))} {_echo(last, words)} {_advice(len(said))}"


def _opening(turn: int) -> str:
    if turn == 1:
        return GREETING
    return f"This is turn {turn}, and I am still listening."


def _echo(last: str, words: list[str]) -> str:
    count = "one word" if len(words) == 1 else f"{len(words)} words"
    quoted = " ".join(last.split()[-12:]).rstrip(".!?")
    verdict = "A fine question." if last.endswith("?") else "Nobody has ever put it better."
    return f'You said "{quoted}": {count}. {verdict}'


def _advice(turn: int) -> str:
    tips = (
        "Ask me for a story, and interrupt me in the middle of it.",
        "To hear a real mind, run se-server with a file of your own that has an on_transcript function.",
        "Begin with a copy of my source: it is the module se_server.demo, and it is short.",
    )
    return tips[(turn - 1) % len(tips)]


async def word_by_word(text: str) -> AsyncIterator[str]:
    """Stream a text as a language model would."""
    for word in re.findall(r"\S+\s*", text):
        yield word
        await asyncio.sleep(PAUSE_S)
