// The user's side, as handler.py beside this folder: an ordinary function that sends an ordinary async generator.
// WORDS come from there, so that all targets say the same.
"use strict";

const WORDS = JSON.parse(process.env.BENCH_WORDS).map((word) => word.padEnd(Number(process.env.BENCH_CHUNK_BYTES || 0), "."));

async function* answer(question) {
    const [chunks, tag, next] = question.split(" ", 3);
    const trickles = next.startsWith("trickle");
    for (const word of [tag, ...WORDS.slice(1, Number(chunks))]) {
        if (trickles) {
            await new Promise(setImmediate); // the loop gets a turn
        }
        yield word;
    }
}

async function onTranscript(transcript, signal, session) {
    await session.sendResponse(answer(transcript[transcript.length - 1].content));
}

module.exports = { onTranscript };
