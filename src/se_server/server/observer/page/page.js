// The page for operators: figures by server-sent events, one conversation on request. No state but this tab's.

import { age, el, facts, legend, number, seconds, stack, table, waterfall } from "/charts.js";
import { lastMinutes, showPast } from "/past.js";
import { filesOf, showRecordings, textsOf } from "/recordings.js";

const PRIVATE_S = 5;
const PARTS = ["socket", "wait", "handler", "provider", "thinking", "write"];
const NAMES = {
  socket: "in the socket", wait: "earlier handler", handler: "handler", provider: "provider", thinking: "thinking", write: "our writing",
};
const by = (id) => document.getElementById(id);
const TOKEN = "se-server token";

let now = null;          // the figures of now
let hour = null;         // the samples of the last hour
let stream = null;       // aborts the stream of events
let privateTimer = 0;
let records = false;     // whether the server has a flight recorder

// --- requests ---

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function get(path, signal) {
  const response = await fetch(path, { headers: headers(), signal });
  if (!response.ok) throw Object.assign(new Error((await response.text()).trim()), { status: response.status });
  return response.json();
}

async function getText(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw Object.assign(new Error((await response.json()).error), { status: response.status });
  return response.text();
}

// A link cannot send the token: the file is fetched, and then saved as the server names it.
async function save(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) {
    notice((await response.json()).error);
    return;
  }
  const name = /filename="([^"]*)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "recording.jsonl";
  const address = URL.createObjectURL(await response.blob());
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

async function act(name, argument) {
  const request = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ argument }) };
  try {
    const response = await fetch(`/api/actions/${name}`, request);
    const answer = await response.json().catch(() => ({ error: response.statusText }));
    notice(answer.error ?? answer.done ?? "done");
  } catch {
    notice("The server does not answer.");
  }
}

function notice(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
  if (text) setTimeout(() => { if (by("notice").textContent === text) by("notice").hidden = true; }, 8000);
}

// --- the stream ---

async function follow() {
  for (let pause_s = 1; ; pause_s = Math.min(2 * pause_s, 30)) {
    stream = new AbortController();
    try {
      hour = await get("/api/history", stream.signal);
      const response = await fetch("/api/events", { headers: headers(), signal: stream.signal });
      if (!response.ok) throw new Error(response.statusText);
      pause_s = 0.5;
      await read(response.body);
    } catch {
      if (document.hidden) return;
    }
    if (document.hidden) return;
    setState("lost", "no connection");
    await new Promise((resolve) => setTimeout(resolve, pause_s * 1000));
  }
}

async function read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) take(event);
  }
}

function take(event) {
  const kind = /^event: (.*)$/m.exec(event)?.[1];
  const data = /^data: (.*)$/m.exec(event)?.[1];
  if (!kind || !data) return;
  if (kind === "now") {
    now = JSON.parse(data);
    showNow();
  } else if (kind === "sample") {
    hour.samples.push(JSON.parse(data));
    hour.samples.splice(0, hour.samples.length - hour.samples_kept);
    showHour();
  }
}

// --- what is shown ---

function setState(name, text = name) {
  by("state").className = `pill ${name}`;
  by("state").textContent = text;
}

function showNow() {
  const isFirst = by("tiles").childElementCount === 0;
  setState(now.state);
  by("facts").textContent = `${now.version} · up ${age(now.now_s - now.started_at_s)}`;
  const recent = lastMinutes(hour, now, 5);
  const turns = recent.outcomes.reduce((sum, count) => sum + count, 0);
  const share = (count) => (turns ? `${((100 * count) / turns).toFixed(1)} %` : "–");
  const first = now.first_text;
  tiles([
    [number(now.conversations), now.capacity ? `conversations of ${number(now.capacity)}` : "conversations"],
    [number(now.answering), "answers under way"],
    [seconds(first.p50), "first text, median"],
    [seconds(first.p95), "first text, 95 %"],
    [seconds(first.p99), "first text, 99 %"],
    [share(recent.outcomes[1]), "interrupted"],
    [share(recent.outcomes[3] + recent.outcomes[4]), "failed"],
    [seconds(now.yield.p95), "to stop when interrupted, 95 %"],
  ]);
  waterfall(by("waterfall"), PARTS.map((name) => [NAMES[name], now.parts?.[name] ?? 0]));
  table(
    by("workers"),
    [["worker"], ["pid", "n x"], ["generation", "n x"], ["state"], ["age", "n x"], ["conversations", "n"], ["answers", "n y"], ["lag", "n"], ["memory", "n"]],
    now.workers.map((worker) => {
      const lag_s = Math.max(worker.loop_lag_s, (worker.silent_s ?? 0) - 0.1);
      return [
        String(worker.place), String(worker.pid), String(worker.generation), worker.state, age(worker.age_s), number(worker.sessions),
        number(worker.turns), { text: seconds(lag_s), late: lag_s > 0.1 },
        worker.rss_bytes === null ? "–" : `${Math.round(worker.rss_bytes / 2 ** 20)} MiB`,
      ];
    }),
    "No worker runs.",
  );
  facts(by("refusals"), pairs(now.refusals), "Nobody was refused.");
  const totals = now.totals;
  facts(by("totals"), [
    ["conversations", number(totals.conversations)],
    ["turns", number(Object.values(totals.turns).reduce((sum, count) => sum + count, 0))],
    ...[
      ["texts dropped after an interruption", totals.late_texts],
      ["characters that an interruption cut", totals.wasted_characters],
      ["tokens that models read", totals.tokens[0]],
      ["tokens that models wrote", totals.tokens[1]],
    ].filter(([, count]) => count).map(([name, count]) => [name, number(count)]),
    ...pairs(now.restarts).map(([cause, count]) => [`workers replaced: ${cause}`, count]),
  ]);
  if (isFirst) showHour();
}

function pairs(counts) {
  return Object.entries(counts).filter(([, count]) => count).sort((one, other) => other[1] - one[1])
    .map(([name, count]) => [name.replaceAll("_", " "), number(count)]);
}

function tiles(rows) {
  const box = by("tiles");
  if (box.childElementCount !== rows.length) {
    box.replaceChildren(...rows.map(() => el("div", { class: "tile" }, el("b"), el("span"))));
  }
  rows.forEach(([value, name], place) => {
    const [shown, label] = box.children[place].children;
    if (shown.textContent !== value) shown.textContent = value;
    if (label.textContent !== name) label.textContent = name;
  });
}

function showHour() {
  if (hour && now) showPast(hour, now);
}

// --- one conversation, and the slow turns ---

async function showPrivate() {
  clearTimeout(privateTimer);
  if (!sessionStorage.getItem(TOKEN) || document.hidden) return;
  try {
    const find = by("find").value.trim();
    const [turns, found, recordings] = await Promise.all([
      get("/api/turns?slow=20"), get(`/api/conversations?find=${encodeURIComponent(find)}`), get("/api/recordings"),
    ]);
    document.body.classList.add("unlocked");
    by("unlock").textContent = "Lock";
    legend(by("part-legend"), PARTS.map((name) => NAMES[name]));
    table(
      by("slow"),
      [["conversation"], ["turn", "n x"], ["first text", "n"], ["parts"], ["outcome"], ["ago", "n y"]],
      turns.rows.map((turn) => [
        link(turn.conversation), turn.event_id === null ? "–" : String(turn.event_id), seconds(turn.first_text_s),
        turn.parts ? stack(turn.parts) : "–", ending(turn), age(turn.ago_s),
      ]),
      "No turn with text has ended in the last hour.",
    );
    table(
      by("conversations"),
      [["conversation"], ["state"], ["turns", "n"], ["interrupted", "n y"], ["worker", "n x"], ["age", "n"], ["end", "y"]],
      found.rows.map((row) => [
        link(row), row.state, number(row.turns), number(row.interruptions), String(row.pid), age(row.age_s), row.end ?? "",
      ]),
      find ? "No conversation has this in its id." : "There has been no conversation yet.",
    );
    records = recordings.level !== "off";
    showRecordings(recordings, save);
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      lock();
      notice(error.message);
    }
  }
  privateTimer = setTimeout(showPrivate, PRIVATE_S * 1000);
}

function ending(turn) {
  const outcome = turn.outcome.replaceAll("_", " ");
  return turn.blocked_by ? `${outcome}; before it ${turn.blocked_by} blocked the loop` : outcome;
}

function link(row) {
  return el("button", { class: "link", type: "button", onclick: () => open(row.key) }, row.id ?? "(no id yet)");
}

async function open(key) {
  const found = await get(`/api/conversations/${key}`).catch((error) => notice(error.message));
  if (!found) return;
  by("timeline-title").textContent = found.id ?? "(no id yet)";
  // The workers of a supervisor that was upgraded drain; orders no longer reach them.
  const isElsewhere = found.state !== "closed" && !now?.workers.some(({ pid }) => pid === found.pid);
  by("timeline-facts").textContent = `${found.state} · worker ${found.pid}${isElsewhere ? " of the previous supervisor" : ""} · ${age(found.age_s)} · ${found.turns.length} turns${found.end ? ` · ${found.end}` : ""}`;
  const parts = el("ul", { class: "legend" });
  legend(parts, PARTS.map((name) => NAMES[name]));
  const turns = el("table");
  table(
    turns,
    [["turn", "n"], ["at", "n y"], ["first text", "n"], ["parts"], ["texts", "n y"], ["outcome"], ["took", "n y"]],
    found.turns.map((turn) => [
      turn.event_id === null ? "–" : String(turn.event_id), seconds(turn.at_s), seconds(turn.first_text_s),
      turn.parts ? stack(turn.parts) : "–", number(turn.texts), ending(turn), seconds(turn.duration_s),
    ]),
    "No turn has ended.",
  );
  by("timeline-turns").replaceChildren(parts, el("div", { class: "scroll" }, turns));
  table(by("timeline-events"), [["at", "n"], ["event"], ["detail"]], found.events.map(([at_s, kind, detail]) => [seconds(at_s), kind, detail]), "None.");
  by("timeline-files").replaceChildren(...(records ? filesOf(`/api/conversations/${key}`, save) : []));
  const texts = records ? await getText(`/api/conversations/${key}/recording`).then(textsOf).catch(() => []) : [];
  by("timeline-said").hidden = !texts.length;
  table(by("timeline-texts"), [["at", "n"], ["who"], ["text"]], texts.map(([at_s, who, text]) => [seconds(at_s), who, text]), "None.");
  by("timeline-end").hidden = found.state === "closed" || !found.id || isElsewhere;
  by("timeline-end").onclick = async () => {
    if (await confirmed("End this conversation?", `${found.id} is closed with code 1000. The caller hears nothing more.`, "End it")) {
      by("timeline").close();
      await act("close", found.id);
    }
  };
  by("timeline").showModal();
}

// --- dialogs and buttons ---

function confirmed(title, text, yes) {
  by("confirm-title").textContent = title;
  by("confirm-text").textContent = text;
  by("confirm-yes").textContent = yes;
  const dialog = by("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function lock() {
  sessionStorage.removeItem(TOKEN);
  document.body.classList.remove("unlocked");
  by("unlock").textContent = "Unlock";
}

by("unlock").addEventListener("click", () => {
  if (document.body.classList.contains("unlocked")) {
    lock();
    return;
  }
  by("token-value").value = "";
  by("token").returnValue = "no";
  by("token").showModal();
  by("token-value").focus();
});
by("token").addEventListener("close", () => {
  if (by("token").returnValue === "yes" && by("token-value").value) {
    sessionStorage.setItem(TOKEN, by("token-value").value.trim());
    showPrivate();
  }
  by("token-value").value = "";
});
by("token-value").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    by("token").close("yes");
  }
});
by("reload").addEventListener("click", async () => {
  if (await confirmed("Reload?", "New workers start with the code and options on disk. Conversations on the old ones go on.", "Reload")) act("reload", null);
});
by("drain").addEventListener("click", async () => {
  if (await confirmed("Drain and end this server?", "It takes no new conversations and ends after the last one.", "Drain")) act("drain", null);
});
by("find").addEventListener("input", () => {
  clearTimeout(privateTimer);
  privateTimer = setTimeout(showPrivate, 250);
});
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(showHour, 150);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stream?.abort(); // a page that nobody sees costs nothing
  else {
    follow();
    showPrivate();
  }
});
follow();
showPrivate();
