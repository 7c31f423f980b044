// The right side: one turn's timeline to scale, and the raw messages.

import { by, el, time } from "./dom.js";

const PARTS = ["in the socket", "waiting", "handler", "provider", "thinking", "our writing"];
const FRAMES = 120;
let limit = FRAMES;

export function drawTurn(turn, count) {
  by("no-turn").hidden = true;
  by("inspected").hidden = false;
  const ids = turn.event_ids.length > 1 ? `ids ${turn.event_ids.join(", ")}` : `id ${turn.event_ids[0] ?? "–"}`;
  by("turn-title").textContent = `Turn ${turn.turn + 1} of ${count}`;
  by("turn-title").append(el("small", {}, `  ${ids}`));
  by("turn-reason").textContent = turn.reason;
  by("turn-before").disabled = turn.turn === 0;
  by("turn-after").disabled = turn.turn === count - 1;
  drawLedger(turn);
  drawLanes(turn);
}

function drawLedger(turn) {
  const parts = turn.server?.parts;
  const place = by("ledger");
  by("ledger-sum").textContent = parts ? time(turn.server.first_text_s) : "";
  if (!parts) {
    place.replaceChildren(el("p.quiet", {}, turn.is_answering ? "The server tells when the turn is over." : "There was no text, or the server does not tell."));
    return;
  }
  const sum = parts.reduce((total, part) => total + part, 0) || 1;
  const bar = el("div.stack", { role: "img", "aria-label": PARTS.map((name, at) => `${name} ${time(parts[at])}`).join(", ") });
  parts.forEach((part, at) => {
    if (!part) return;
    const piece = el(`i.c${at}`, { title: `${PARTS[at]} ${time(part)}` });
    piece.style.width = `${(100 * part) / sum}%`;
    bar.append(piece);
  });
  place.replaceChildren(bar, el("ul.parts", {}, ...PARTS.map((name, at) => el("li", {}, el(`i.c${at}`), name, el("b", {}, time(parts[at]))))));
}

function drawLanes(turn) {
  const events = turn.server?.events ?? [];
  const of = (...kinds) => events.filter(([, kind]) => kinds.includes(kind)).map(([at]) => at);
  const heard = turn.texts.filter((text) => text.heard).map((text) => text.after_s);
  const ends = [...events.map(([at]) => at), ...turn.texts.map((text) => text.after_s), turn.complete_s ?? 0, turn.interrupted_s ?? 0];
  const length = Math.max(0.001, ...ends) * 1.02;
  by("turn-length").textContent = time(length / 1.02);
  const lane = (name, pieces) => {
    const track = el("div.track");
    for (const [kind, from, to, title] of pieces) {
      const piece = el(`i.${kind}`, { title });
      piece.style.left = `${(100 * from) / length}%`;
      if (to !== null) piece.style.width = `${(100 * (to - from)) / length}%`;
      track.append(piece);
    }
    return el("div.lane", {}, el("span", {}, name), track);
  };
  const ticks = (times, color, title) => times.map((at) => [`tick.${color}`, at, null, `${title} ${time(at)}`]);
  const [began] = of("handler begins"), gone = of("handler gone", "turn ended").at(-1);
  const [asked] = of("stream opened"), [event] = of("first event");
  const rows = [lane("transcript", [...ticks(of("transcript"), "c0", "transcript"), ...ticks(of("transcript again"), "c5", "again")])];
  if (began !== undefined) rows.push(lane("handler", [["bar.c2", began, gone ?? length, `handler from ${time(began)} to ${time(gone)}`]]));
  if (asked !== undefined || event !== undefined) {
    const from = asked ?? began ?? event;
    rows.push(lane("provider", [["bar.c3", from, event ?? gone ?? length, `asked at ${time(from)}, first event at ${time(event)}`]]));
  }
  if (events.length) {
    rows.push(lane("flushes", [...ticks(of("texts sent"), "c4", "texts sent"), ...ticks(of("filler sent", "failure text sent"), "c5", "filler or failure text")]));
    if (of("late text dropped").length) rows.push(lane("fence drops", ticks(of("late text dropped"), "dropped", "dropped")));
  }
  rows.push(lane("heard", [...ticks(heard, "c1", "heard"), ...ticks(turn.texts.filter((text) => !text.heard).map((text) => text.after_s), "dropped", "not heard")]));
  const final = turn.complete_s !== null ? [["tick.c4", turn.complete_s, null, `final ${time(turn.complete_s)}`]] : [];
  if (turn.interrupted_s !== null) final.push(["tick.dropped", turn.interrupted_s, null, `interrupted ${time(turn.interrupted_s)}`]);
  rows.push(lane(turn.interrupted_s !== null ? "interruption" : "final", final));
  const axis = el("div.track.axis", {}, ...[0, 0.5, 1].map((share) => {
    const label = el("span", {}, time((share * length) / 1.02));
    label.style.left = `${share * 100}%`;
    return label;
  }));
  rows.push(el("div.lane", {}, el("span"), axis));
  by("lanes").replaceChildren(...rows);
  if (!by("events").closest("details").open) return;
  const listed = events.length ? events : turn.texts.map((text) => [text.after_s, text.heard ? "heard" : "not heard", text.text]);
  by("events").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "after"), el("th", { scope: "col" }, "event"), el("th", { scope: "col" }, ""))),
    el("tbody", {}, ...listed.map(([at, kind, payload]) => el("tr", {}, el("td.n", {}, time(at)), el("td", {}, kind), el("td", {}, payloadOf(kind, payload))))),
  );
}

function payloadOf(kind, payload) {
  if (typeof payload === "string") return payload;
  return { transcript: `id ${payload}`, "texts sent": payload === 1 ? "" : `${payload} texts` }[kind] ?? "";
}

// --- messages ---

export function drawFrames(frames, turn, ofAll) {
  const ours = ofAll ? frames : frames.filter((frame) => frame.turn === turn || (turn === 0 && frame.turn < 0));
  const place = by("frames");
  const shown = ours.slice(0, limit);
  const known = new Map([...place.children].map((child) => [child.dataset.number, child]));
  place.replaceChildren(...shown.map((frame) => known.get(String(frame.number)) ?? drawFrame(frame)));
  by("more-frames").hidden = ours.length <= limit;
  by("more-frames").textContent = `Show ${Math.min(FRAMES, ours.length - limit)} more of ${ours.length}`;
  return ours;
}

export function moreFrames() {
  limit += FRAMES;
}

export function clear() {
  limit = FRAMES;
  by("frames").replaceChildren();
  by("inspected").hidden = true;
  by("no-turn").hidden = false;
}

function drawFrame(frame) {
  const json = parse(frame.text);
  const kind = json?.type ?? frame.frame;
  const way = frame.direction === "out" ? "↑" : "↓";
  const summary = el("summary", {},
    el("span.way", { title: frame.direction === "out" ? "from the API to the server" : "from the server to the API" }, way),
    el("span.at", {}, `${frame.t_s.toFixed(3)} s`), el("span", {}, kind), el("span.gist", {}, gist(json, frame)));
  const root = el(`details.frame.${frame.direction}`, {}, summary);
  root.dataset.number = frame.number;
  root.addEventListener("toggle", () => {
    if (!root.open || root.childElementCount > 1) return;
    const text = json ? JSON.stringify(json, null, 2) : frame.text ?? frame.base64 ?? frame.why ?? "";
    root.append(el("pre", { tabIndex: 0 }, text + (frame.cut_chars ? `\n… and ${frame.cut_chars} characters more: export the recording` : "")));
  });
  return root;
}

function gist(json, frame) {
  if (json?.type === "agent_response") return `${json.is_final ? "final " : ""}${json.content ? JSON.stringify(json.content) : ""} · id ${json.event_id}`;
  if (json?.type === "user_transcript") return `${JSON.stringify(json.user_transcript?.at(-1)?.content ?? "")} · id ${json.event_id}, ${json.user_transcript?.length} entries`;
  return json?.conversation_id ?? frame.why ?? "";
}

function parse(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}
