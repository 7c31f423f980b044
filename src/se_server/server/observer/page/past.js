// The charts of the past: the last hour, or as much of it as the server has lived.

import { bars, curve, el, facts, heat, number } from "/charts.js";

const COLUMNS = 60;
// The place of each outcome among six colours, and what each colour means.
const COLOURS = { answered: 4, interrupted: 2, superseded: 0, failed: 5, timed_out: 5, empty: 1, closed: 0, silent: 0 };
const MEANINGS = [[4, "answered"], [2, "interrupted"], [0, "superseded, closed or silent"], [1, "empty"], [5, "failed or timed out"]];
const COUNTS = {
  fillers: "fillers", failure_texts: "failure texts", late_texts: "late texts dropped", stutters: "silences inside an answer", refusals: "refusals",
};
const by = (id) => document.getElementById(id);

export function lastMinutes(hour, now, minutes) {
  const rows = hour.samples.filter((row) => row[0] > now.now_s - minutes * 60);
  const sum = (place, size) => Array.from({ length: size }, (_, i) => rows.reduce((total, row) => total + row[place][i], 0));
  return { outcomes: sum(2, hour.outcomes.length), counts: sum(3, hour.counts.length) };
}

// A young server has its ten or thirty minutes over the whole width.
function spanOf(hour, now) {
  const known_s = hour.samples.length ? now.now_s - hour.samples[0][0] + hour.interval_s : 0;
  return [600, 1800, 3600].find((span_s) => known_s <= span_s) ?? 3600;
}

// The samples of each column added up; null for a column without any.
function columnsOf(hour, now, span_s, place) {
  const columns = Array.from({ length: COLUMNS }, () => null);
  for (const row of hour.samples) {
    const column = COLUMNS - 1 - Math.floor(((now.now_s - row[0]) / span_s) * COLUMNS);
    if (column < 0 || column >= COLUMNS) continue;
    columns[column] = columns[column] ? columns[column].map((count, i) => count + row[place][i]) : [...row[place]];
  }
  return columns;
}

export function showPast(hour, now) {
  const span_s = spanOf(hour, now);
  const span = span_s === 3600 ? "last hour" : `last ${span_s / 60} minutes`;
  for (const element of document.querySelectorAll("[data-span]")) element.textContent = span + (element.dataset.span ?? "");
  curve(by("conversations-chart"), [...hour.samples.map((row) => [row[0], row[1]]), [now.now_s, now.conversations]], now.now_s, now.capacity, span_s);
  heat(by("heat"), columnsOf(hour, now, span_s, 4), hour.bounds, now.now_s, span_s);
  // Six kinds of bars, so that each has a colour of its own.
  const merged = columnsOf(hour, now, span_s, 2).map((column) => column && column.reduce((sums, count, place) => {
    sums[COLOURS[hour.outcomes[place]]] += count;
    return sums;
  }, [0, 0, 0, 0, 0, 0]));
  const all = lastMinutes(hour, now, 60);
  const turns = all.outcomes.reduce((sum, count) => sum + count, 0);
  bars(by("outcomes"), merged, `${turns} turns in the ${span}`);
  by("outcome-legend").replaceChildren(...MEANINGS.map(([place, name]) => el("li", {}, el("i", { class: `c${place}` }), name)));
  const share = (count) => `${number(count)} (${((100 * count) / turns).toFixed(1)} %)`;
  facts(by("troubles"), [
    ...hour.outcomes.map((name, place) => [name.replaceAll("_", " "), all.outcomes[place]]).filter(([, count]) => count)
      .map(([name, count]) => [name, share(count)]),
    ...hour.counts.map((name, place) => [COUNTS[name], all.counts[place]]).filter(([, count]) => count)
      .map(([name, count]) => [name, number(count)]),
  ], "No turn has ended yet. A turn shows here some ten seconds after its end.");
}
