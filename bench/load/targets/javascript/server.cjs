// The published JavaScript SDK, attached to Node's own HTTP server as its README shows: `node server.cjs [CHAIN KEY]`
// prints `ready PORT`. With a certificate it speaks TLS. The API key comes from ELEVENLABS_API_KEY, and BENCH_HANDLER
// names another handler.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { ElevenLabsClient } = require("@elevenlabs/elevenlabs-js");
const { onTranscript } = require(process.env.BENCH_HANDLER || "./handler.cjs");

const [chain, key] = process.argv.slice(2);
const server = chain
    ? https.createServer({ cert: fs.readFileSync(chain), key: fs.readFileSync(key) })
    : http.createServer();
const elevenlabs = new ElevenLabsClient();
elevenlabs.speechEngine.attach("seng_bench", server, "/ws", {
    onTranscript,
    onError(error) {
        console.error(error);
    },
});
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(`ready ${server.address().port}`));
