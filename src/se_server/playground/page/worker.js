// One stream of events for all tabs of a browser, which opens only six connections to one host. A tab names its
// conversation and holds a lock of that name: when the lock is free, the tab is gone, and its conversation ends.

import { Stream } from "./stream.js";

const tabs = new Set();      // the ports of all tabs
const owners = new Map();    // the port of each conversation's tab
let last = null;             // the first event of the stream, for tabs that come later

const stream = new Stream((event) => {
  if (event.talk) return owners.get(event.talk)?.postMessage(event);
  if (event.kind === "listening") last = event;
  if (event.kind === "ready" && last) last.ready = true;
  for (const port of tabs) port.postMessage(event);
});

self.onconnect = ({ ports: [port] }) => {
  tabs.add(port);
  port.onmessage = ({ data }) => {
    if (data.claim) {
      owners.set(data.claim, port);
      navigator.locks.request(data.claim, () => {
        if (!owners.has(data.claim)) return;
        tabs.delete(port);
        end(data.claim);
      });
      port.postMessage({ kind: "claimed", talk: data.claim });
    } else if (data.release) end(data.release);
  };
  port.postMessage({ kind: "hello", listener: stream.name });
  if (last && stream.isOpen) port.postMessage(last);
};

function end(talk) {
  owners.delete(talk);
  fetch(`api/talks/${talk}/end`, { method: "POST" }).catch(() => {});
}
