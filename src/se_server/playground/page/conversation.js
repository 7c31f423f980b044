// The left side: what was said, as it streams.

import { by, difference, el, time } from "./dom.js";

const drawn = new Map();   // the elements of each turn

// Draw a turn. `former` is the same turn of the conversation that is held again, if there is one; `spoken` is the number
// of characters that the voice has spoken, or null without a voice.
export function drawTurn(turn, notes, former, spoken, select) {
  let item = drawn.get(turn.turn);
  if (!item) {
    item = { root: el("li.turn", { id: `turn-${turn.turn}` }), said: el("p.said"), answer: el("div.answer"), rest: el("div") };
    item.root.append(item.said, item.answer, item.rest);
    item.answer.addEventListener("click", () => !String(getSelection()) && select(turn.turn));
    drawn.set(turn.turn, item);
    by("turns").append(item.root);
  }
  item.said.className = `said${turn.is_habit ? " habit" : ""}${turn.is_silence ? " nothing" : ""}`;
  item.said.textContent = turn.is_silence ? `(the user says nothing${turn.said ? `: ${turn.said}` : ""})` : turn.said;
  const select_ = el("button", { type: "button", title: "Show the timeline of this turn" }, "timeline");
  select_.addEventListener("click", () => select(turn.turn));
  item.answer.replaceChildren(words(turn, former, spoken), chips(turn, former, select_));
  item.rest.replaceChildren(...notesOf(turn, notes), ...turn.hints.map((hint) => el("p.hint", {}, hint)));
  item.rest.hidden = !item.rest.childElementCount;
  item.rest.className = "turn";
}

function words(turn, former, spoken) {
  const line = el("p");
  const isOver = !turn.is_answering;
  if (former && isOver && former.heard !== turn.heard) {
    for (const [how, text] of difference(former.heard, turn.heard)) line.append(how ? el(how, {}, text) : text);
    return line;
  }
  let left = spoken ?? Infinity, plain = "";
  for (const part of turn.texts) {
    if (part.heard && !part.mark && part.text.length <= left) {
      plain += part.text;
      left -= part.text.length;
      continue;
    }
    if (plain) line.append(plain);
    plain = "";
    if (!part.heard) {
      if (part.text.trim()) line.append(el("s", { title: `not heard: ${part.why}` }, part.text));
      continue;
    }
    const now = part.text.slice(0, left), ahead = part.text.slice(now.length);
    left -= now.length;
    if (part.mark) line.append(el(`span.mark.${part.mark}`, { "data-mark": part.mark === "filler" ? "filler" : "failure text" }, part.text));
    else line.append(now, ...(ahead ? [el("span.ahead", {}, ahead)] : []));
  }
  if (plain) line.append(plain);
  if (!turn.heard && turn.is_answering) line.append(el("span.wait", { "aria-label": "no word yet" }, el("span", {}, "●"), el("span", {}, "●"), el("span", {}, "●")));
  else if (!line.childNodes.length) line.append(el("span.quiet", {}, turn.outcome === "superseded" ? "no word before you spoke again" : "no words"));
  return line;
}

function chips(turn, former, timeline) {
  const row = el("div.chips");
  const first = turn.first_word_s;
  if (first !== null) {
    const change = former?.first_word_s != null ? ` (was ${time(former.first_word_s)})` : "";
    row.append(el(`span.chip.first${first < 1 ? ".fast" : first > 2.5 ? ".slow" : ""}`, { title: "Time to the first word" }, `first word ${time(first)}${change}`));
  }
  if (turn.interrupted_by === "user") row.append(el("span.chip", {}, turn.heard ? "interrupted" : "superseded"));
  else if (!turn.is_ok) row.append(el("span.chip.bad", {}, turn.outcome));
  if (former && !turn.is_answering) row.append(el(`span.chip${former.heard === turn.heard ? ".fast" : ".slow"}`, {}, former.heard === turn.heard ? "same words" : "other words"));
  if (turn.server?.outcome === "failed") row.append(el("span.chip.bad", {}, "handler failed: see the log"));
  row.append(timeline);
  return row;
}

const VERDICTS = {
  2: "the answer went on, and no handler ran again", 3: "the answer was sent again, and no handler ran",
  5: "it was answered already, and no handler ran again", 6: "it was older than the newest turn, and interrupted nothing",
  7: "the answer under way went on under the new id",
};

function notesOf(turn, notes) {
  const lines = notes.map((why) => `API: ${why}`);
  for (const [at, kind, payload] of turn.server?.events ?? [])
    if (kind === "transcript again") lines.push(`Swallowed after ${time(at)}: ${VERDICTS[payload] ?? "no handler ran again"}`);
  if (turn.server?.blocked_by) lines.push(`The event loop was blocked before this turn: ${turn.server.blocked_by}`);
  if (!turn.is_ok && turn.reason) lines.push(turn.reason);
  return lines.map((text) => el("p.note", {}, text));
}

// A line between turns: the beginning, an end, a reconnect.
export function drawLine(text) {
  by("turns").append(el("li.line", {}, text));
}

export function clear() {
  drawn.clear();
  by("turns").replaceChildren();
}

export function mark(selected) {
  for (const [turn, { root }] of drawn) root.classList.toggle("selected", turn === selected);
}
