// Recordings on the page: their list, the buttons that save one, and the texts in one.

import { age, el, table } from "/charts.js";

const by = (id) => document.getElementById(id);

// Buttons that save a recording, and a pytest test that replays it.
export function filesOf(path, save) {
  const recording = path.startsWith("/api/conversations/") ? `${path}/recording` : path;
  const button = (text, address) => el("button", { type: "button", onclick: () => save(address) }, text);
  return [button("Download", recording), button("As test", `${path}/test`)];
}

export function showRecordings(found, save) {
  by("recordings-card").hidden = found.level === "off";
  const lost = found.left_out ? `; ${found.left_out} messages left out for want of memory` : "";
  by("recordings-level").textContent = found.level + lost;
  const now_s = Date.now() / 1000;
  table(
    by("recordings"),
    [["conversation"], ["written", "n"], ["because of"], ["end"], ["size", "n x"], ["file"]],
    found.rows.map((row) => [
      row.id ?? "(no id)", `${age(Math.max(0, now_s - row.written_at_s))} ago`, (row.reasons ?? []).join(", "),
      row.cause ? row.cause.replaceAll("_", " ") : "open", `${Math.ceil(row.size / 1024)} KiB`,
      el("span", { class: "files" }, ...filesOf(`/api/recordings/${row.name}`, save).slice(0, row.level === "shape" ? 1 : 2)),
    ]),
    "Nothing has been recorded.",
  );
}

// The words of a recording, each with its time and its speaker; an answer is one row.
export function textsOf(lines) {
  const rows = [];
  const answers = new Map();
  for (const line of lines.split("\n")) {
    if (!line) continue;
    const entry = JSON.parse(line);
    if (entry.kind !== "text") continue;
    let message;
    try {
      message = JSON.parse(entry.text);
    } catch {
      continue;
    }
    if (entry.direction === "out" && Array.isArray(message.user_transcript)) {
      const said = message.user_transcript.findLast((one) => one?.role === "user");
      rows.push([entry.t_s, "user", String(said?.content ?? "")]);
    } else if (entry.direction === "in" && message.type === "agent_response" && message.content) {
      const row = answers.get(message.event_id) ?? [entry.t_s, "agent", ""];
      if (!answers.has(message.event_id)) rows.push(row);
      answers.set(message.event_id, row);
      row[2] += message.content;
    }
  }
  return rows;
}
