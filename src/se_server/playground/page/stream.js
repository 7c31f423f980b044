// The stream of events, which begins again when it is lost.

const AGAIN_MS = 700;

export class Stream {
  constructor(take) {
    this.name = crypto.randomUUID();
    this.isOpen = false;
    this.take = take;
    this.open();
  }

  open() {
    const source = new EventSource(`events?listener=${this.name}`);
    source.onmessage = ({ data }) => {
      this.isOpen = true;
      this.take(JSON.parse(data));
    };
    source.onerror = () => {
      source.close();
      if (this.isOpen) this.take({ kind: "lost" });
      this.isOpen = false;
      setTimeout(() => this.open(), AGAIN_MS);
    };
  }
}

// Connect this tab: through the shared worker, or by a stream of its own where there is none.
export function connect(take) {
  const link = { listener: "", claim: async () => {}, release: (talk) => end(talk) };
  const alone = () => {
    link.claim = async () => {};
    link.release = end;
    link.listener = new Stream(take).name;
  };
  if (typeof SharedWorker === "undefined" || !navigator.locks) {
    alone();
    return link;
  }
  const worker = new SharedWorker("worker.js", { type: "module" });
  const held = new Map();      // frees the lock of a conversation
  const waiting = new Map();   // resolves when the worker knows of a conversation
  worker.onerror = () => !link.listener && alone();
  worker.port.onmessage = ({ data }) => {
    if (data.kind === "hello") link.listener = data.listener;
    else if (data.kind === "claimed") waiting.get(data.talk)?.();
    else take(data);
  };
  link.claim = (talk) => new Promise((known) => {
    waiting.set(talk, known);
    navigator.locks.request(talk, () => {
      worker.port.postMessage({ claim: talk });
      return new Promise((free) => held.set(talk, free));
    });
  });
  link.release = (talk) => {
    worker.port.postMessage({ release: talk });
    held.get(talk)?.();
    held.delete(talk);
    waiting.delete(talk);
  };
  return link;
}

function end(talk) {
  fetch(`api/talks/${talk}/end`, { method: "POST", keepalive: true }).catch(() => {});
}
