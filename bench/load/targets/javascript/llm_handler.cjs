// The user's side of calls with an LLM, as llm_agent.py beside this folder: the whole conversation goes to OpenAI's
// package, and its stream is the answer. SE_BENCH_LLM has the base URLs.
"use strict";

const { OpenAI } = require("openai");

const client = new OpenAI({ apiKey: "none", baseURL: JSON.parse(process.env.SE_BENCH_LLM).urls.openai });
const ROLES = { user: "user", agent: "assistant" };

async function onTranscript(transcript, signal, session) {
    const messages = transcript.map(({ role, content }) => ({ role: ROLES[role], content }));
    const stream = await client.chat.completions.create({ model: "fake", messages, stream: true }, { signal });
    await session.sendResponse(stream);
}

module.exports = { onTranscript };
