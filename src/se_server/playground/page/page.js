// The page: one conversation at a time, held by the server's side of this page in the API's place.

import * as left from "./conversation.js";
import { by, copy } from "./dom.js";
import * as right from "./inspector.js";
import * as settings from "./settings.js";
import { speech, voice } from "./talking.js";
import { connect } from "./stream.js";

let about = null;
let talk = "";             // the key of the conversation
let isOpen = false;        // whether it goes on
let isReady = false;       // whether the server serves
let turns = [];            // the newest picture of each turn
let former = null;         // the turns of the conversation that is held again
let last = [];             // the turns of the conversation before, for "Run again"
let notes = new Map();     // what habits did, by turn
let frames = [];
let selected = -1;
let follows = true;        // whether the newest turn is selected
let pending = [];          // words that wait for the conversation to begin
let drawing = 0;
let inspected = 0;         // when the right side was drawn
let inspecting = 0;        // the timer of its next drawing
const INSPECT_MS = 200;

// --- requests, one after the other ---

let queue = Promise.resolve();

function post(path, body = {}) {
  const send = async () => {
    try {
      const response = await fetch(`api/talks/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const answer = await response.json().catch(() => ({ error: response.statusText }));
      if (!response.ok) throw new Error(answer.error ?? response.statusText);
      return answer;
    } catch (error) {
      notice(error instanceof TypeError ? "The server does not answer." : error.message);
      return null;
    }
  };
  return (queue = queue.then(send));
}

function notice(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
  if (text) setTimeout(() => by("notice").textContent === text && (by("notice").hidden = true), 12_000);
}

function state(kind, text) {
  by("state").className = `pill ${kind}`;
  by("state").textContent = text;
}

// --- one conversation ---

const link = connect(take);

async function begin({ again = null, line = "" } = {}) {
  if (talk) link.release(talk);
  voice.stop();
  if (turns.length) last = turns;
  // An answer that was not complete has nothing to compare with.
  former = again ? last.filter(isSpoken).map((turn) => (turn.is_answering ? null : turn)) : null;
  [turns, notes, frames, selected, follows, isOpen] = [[], new Map(), [], -1, true, false];
  left.clear();
  right.clear();
  by("empty").hidden = Boolean(again);
  if (line) left.drawLine(line);
  state("", "calling");
  const key = (talk = crypto.randomUUID());
  await link.claim(key);
  if (key !== talk) return;
  for (const [id, name] of [["as-test", "test_conversation.py"], ["as-script", "conversation.toml"], ["as-recording", "conversation.jsonl"]])
    by(id).href = `api/talks/${key}/${name}`;
  if (!(await post(key, { listener: link.listener, ...settings.conversation(), again })) && key === talk) state("over", "no conversation");
  buttons();
}

const isSpoken = (turn) => !turn.is_habit && !turn.is_silence;

// Return the steps that hold the conversation so far again.
function steps() {
  const found = [];
  let before = null;
  for (const turn of turns.length ? turns : last) {
    if (isSpoken(turn)) {
      const cutsIn = before?.interrupted_by === "user" && before.interrupted_s !== null && Math.abs(before.said_at_s + before.interrupted_s - turn.said_at_s) < 0.05;
      if (!cutsIn) found.push({ say: turn.said });
      else found.push(before.heard ? { interrupt: turn.said, after_chars: [...before.heard].length } : { interrupt: turn.said, after_s: before.interrupted_s });
    }
    before = turn;
  }
  return found;
}

function say(text) {
  text = text.trim();
  if (!text) return;
  const spoken_chars = chars(voice.stop());
  if (!isOpen) {
    pending.push(text);
    if (by("state").classList.contains("over")) begin({ line: "The last conversation was over: this is a new one." });
    return;
  }
  post(`${talk}/say`, { text, spoken_chars });
  follows = true;
}

// JavaScript counts UTF-16 units, the server characters.
function chars(units) {
  const newest = turns.at(-1);
  return units === null || !newest ? null : [...newest.heard.slice(0, units)].length;
}

function cut() {
  const spoken_chars = chars(voice.stop());
  if (spoken_chars !== null && isOpen) post(`${talk}/cut`, { spoken_chars });
  buttons();
}

const isAnswering = () => isOpen && Boolean(turns.at(-1)?.is_answering);

function interrupt() {
  if (isAnswering()) say(settings.habits().interruption ?? "Wait a moment.");
  else if (voice.isSpeaking) cut();
}

speech({ say, cut, interrupt, changed: () => (buttons(), later()) });

// --- events ---

function take(event) {
  if (event.talk && event.talk !== talk) return;
  const handler = HANDLERS[event.kind];
  if (handler) handler(event);
}

const HANDLERS = {
  async listening({ ready }) {
    const wasThere = isReady;
    isReady = ready;
    if (!about && !(await learn())) return;
    if (ready) begin(wasThere ? { line: "The server is back: this is a new conversation. “Run again” holds the last one once more." } : {});
    else state("", "the server starts");
  },
  ready() {
    isReady = true;
    if (!isOpen) begin();
  },
  lost() {
    isOpen = false;
    state("lost", "server is gone, looking for it");
    buttons();
  },
  server({ is_there }) {
    if (is_there) begin({ line: "The server is back: this is a new conversation." });
    else state("lost", "server has stopped, looking for it");
  },
  opened(event) {
    isOpen = true;
    state("open", "open");
    by("state").title = event.conversation_id;
    for (const words of pending.splice(0)) say(words);
    buttons();
  },
  refused({ text }) {
    isOpen = false;
    state("over", "refused");
    notice(text);
  },
  turn(event) {
    turns[event.turn] = event;
    by("empty").hidden = true;
    if (follows) selected = turns.length - 1;
    if (event.turn === turns.length - 1) {
      if (event.interrupted_by) voice.stop();
      else voice.feed(event.turn, event.heard, !event.is_answering);
      if (!event.is_answering && event.is_final) by("live").textContent = `Answer: ${event.heard || "no words"}`;
    }
    later();
  },
  frame(event) {
    frames.push(event);
    later();
  },
  habit({ why, turn }) {
    if (turn === undefined || turn < 0) return left.drawLine(`API: ${why}`);
    notes.set(turn, [...(notes.get(turn) ?? []), why]);
    later();
  },
  violation({ text }) {
    left.drawLine(`The server broke the protocol: ${text}`);
  },
  again({ text }) {
    if (text) left.drawLine(`It stopped here: ${text}`);
    else left.drawLine("Held again. Differences are marked; the conversation goes on from here.");
  },
  ended({ text }) {
    isOpen = false;
    if (!by("state").classList.contains("lost")) state("over", "over");
    left.drawLine(text);
    buttons();
  },
};

// --- drawing, at most once a frame ---

function later() {
  if (!drawing) drawing = requestAnimationFrame(draw);
}

const stale = new WeakMap();   // what a turn was drawn with

function draw() {
  drawing = 0;
  const scroll = by("scroll");
  const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  const spokenTurns = turns.filter(isSpoken);
  turns.forEach((turn, at) => {
    const spoken = voice.isOn && voice.turn === at ? voice.spoken : null;
    const drawnWith = `${spoken} ${notes.get(at)?.length ?? 0}`;
    if (stale.get(turn) === drawnWith) return;
    stale.set(turn, drawnWith);
    const place = spokenTurns.indexOf(turn);
    left.drawTurn(turn, notes.get(at) ?? [], former && place >= 0 ? former[place] : null, spoken, select);
  });
  left.mark(selected);
  if (turns[selected]) inspect();
  if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
  buttons();
}

// Draw the right side, of a turn that goes on a few times a second: it is drawn as a whole.
function inspect() {
  const wait = turns[selected].is_answering ? inspected + INSPECT_MS - performance.now() : 0;
  if (wait > 0) {
    inspecting ||= setTimeout(() => { inspecting = 0; later(); }, wait);
    return;
  }
  inspected = performance.now();
  right.drawTurn(turns[selected], turns.length);
  right.drawFrames(frames, selected, by("all-frames").checked);
}

function buttons() {
  by("interrupt").disabled = !(isAnswering() || voice.isSpeaking);
  by("again").disabled = !(turns.some(isSpoken) || last.some(isSpoken)) || !isReady;
  by("export").hidden = !turns.length;
}

function select(turn) {
  selected = Math.max(0, Math.min(turn, turns.length - 1));
  follows = selected === turns.length - 1;
  inspected = 0;
  right.clear();
  later();
}

// --- the controls ---

by("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say(by("words").value);
  by("words").value = "";
  grow();
});
by("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    by("composer").requestSubmit();
  }
});
by("words").addEventListener("input", grow);
function grow() {
  by("words").style.height = "auto";
  by("words").style.height = `${by("words").scrollHeight}px`;
}
by("interrupt").addEventListener("click", interrupt);
by("new").addEventListener("click", () => {
  begin();
  by("words").focus();
});
by("again").addEventListener("click", () => begin({ again: steps(), line: "The same conversation, against the code as it is now." }));
by("settings-open").addEventListener("click", () => by("settings").showModal());
for (const button of document.querySelectorAll("[data-act]"))
  button.addEventListener("click", () => post(`${talk}/act/${button.dataset.act}`));
by("turn-before").addEventListener("click", () => select(selected - 1));
by("turn-after").addEventListener("click", () => select(selected + 1));
by("all-frames").addEventListener("change", () => (right.clear(), later()));
by("events").closest("details").addEventListener("toggle", () => (inspected = 0, later()));
by("more-frames").addEventListener("click", () => (right.moreFrames(), later()));
by("copy-turn").addEventListener("click", () => copy(JSON.stringify(turns[selected], null, 2), by("copy-turn")));
by("copy-frames").addEventListener("click", () => {
  const shown = by("all-frames").checked ? frames : frames.filter((frame) => frame.turn === selected);
  copy(JSON.stringify(shown, null, 2), by("copy-frames"));
});
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
document.addEventListener("click", (event) => {
  if (!by("export").contains(event.target) || event.target.closest("a")) by("export").open = false;
});
document.addEventListener("keydown", (event) => {
  if (by("settings").open) return;
  const isWriting = event.target.matches?.("input, textarea, select");
  if (event.key === "Escape") {
    by("export").open = false;
    interrupt();
  } else if (event.key === "/" && !isWriting) {
    event.preventDefault();
    by("words").focus();
  } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    select(selected + (event.key === "ArrowUp" ? -1 : 1));
  }
});
addEventListener("pagehide", () => talk && link.release(talk));
addEventListener("pageshow", (event) => event.persisted && location.reload());

async function learn() {
  try {
    about = await (await fetch("api/about")).json();
  } catch {
    return false;
  }
  const name = about.app.split("/").at(-1);
  by("app").textContent = name;
  by("app").title = about.app;
  document.title = `${name} · playground`;
  settings.build(about, async (habits) => {
    by("habit-problem").textContent = "";
    if (isOpen) await post(`${talk}/habits`, habits);
  });
  const tries = about.is_demo ? ["Hello!", "Tell me a story", "What can you do?"] : ["Hello!", "Who are you?", "Tell me a story"];
  for (const words of tries) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.addEventListener("click", () => say(words));
    by("tries").append(button);
  }
  if (!about.reloads) by("again").title += ": start se-server with --reload, and it follows your changes";
  return true;
}
