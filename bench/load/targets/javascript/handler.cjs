// The user's side, as handler.py beside this folder: an ordinary function that sends an ordinary async generator.
// WORDS come from there, so that all targets say the same.
"use strict";

const WORDS = JSON.parse(process.env.BENCH_WORDS);

async function* answer(question) {
    const [chunks, tag] = question.split(" ", 2);
    yield tag;
    for (const word of WORDS.slice(1, Number(chunks))) {
        yield word;
    }
}

async function* trickle(question) {
    for await (const text of answer(question)) {
        await new Promise(setImmediate); // the loop gets a turn
        yield text;
    }
}

async function onTranscript(transcript, signal, session) {
    const question = transcript[transcript.length - 1].content;
    await session.sendResponse(question.includes(" trickle") ? trickle(question) : answer(question));
}

module.exports = { onTranscript };
