// The settings: habits of the API, the next conversation, and the voice. A tab keeps its own.

import { by, el } from "./dom.js";

const KEPT = "se-server playground settings";
const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
const switches = [];      // {title, fields, isOn, values}
let presets = {};
let changed = () => {};

// Build the forms. `onHabits(habits)` is called after each change of the habits.
export function build(about, onHabits) {
  presets = { polite: {}, ...about.presets };
  changed = onHabits;
  for (const given of about.switches) {
    const one = { ...given, isOn: false, values: Object.fromEntries(given.fields.map((field) => [field.name, field.on])) };
    switches.push(one);
    one.root = el("div.switch");
    by("switches").append(one.root);
  }
  for (const button of document.querySelectorAll("[data-preset]"))
    button.addEventListener("click", () => (use(presets[button.dataset.preset]), tell()));
  use(kept.habits ?? {});
  for (const id of ["first-message", "query", "cascade"]) {
    if (kept[id]) by(id).value = kept[id];
    by(id).addEventListener("change", keep);
  }
  for (const [name, value] of kept.headers ?? []) addHeader(name, value);
  if (!by("headers").childElementCount) addHeader();
  by("add-header").addEventListener("click", () => addHeader().focus());
  count();
}

// Use a set of habits: those of its switches are on whose first field it has.
export function use(habits) {
  for (const one of switches) {
    one.isOn = one.fields[0].name in habits;
    for (const field of one.fields) one.values[field.name] = one.isOn ? habits[field.name] ?? field.off : field.on;
    draw(one);
  }
}

export function habits() {
  const found = {};
  for (const { isOn, values } of switches)
    if (isOn) for (const [name, value] of Object.entries(values)) if (value !== null && value !== "") found[name] = value;
  return found;
}

// Return the settings of the next conversation.
export function conversation() {
  const headers = Object.fromEntries(rows().filter(([name]) => name));
  return {
    habits: habits(), headers, query: by("query").value.trim().replace(/^\?/, ""),
    first_message: by("first-message").value.trim(), cascade_timeout_s: Number(by("cascade").value) || 4,
  };
}

function tell() {
  keep();
  count();
  changed(habits());
}

function count() {
  const on = switches.filter((one) => one.isOn).length;
  by("habit-count").hidden = !on;
  by("habit-count").textContent = on;
  by("habit-count").setAttribute("aria-label", `${on} habits are on`);
}

function draw(one) {
  const toggle = el("input", { type: "checkbox", checked: one.isOn });
  toggle.addEventListener("change", () => {
    one.isOn = toggle.checked;
    draw(one);
    one.root.querySelector("input").focus();
    tell();
  });
  one.root.className = `switch${one.isOn ? " on" : ""}`;
  one.root.replaceChildren(el("label", {}, toggle, one.title), el("p", {}, one.about));
  if (one.isOn) one.root.append(el("div.fields", {}, ...one.fields.map((field) => drawField(one, field))));
}

function drawField(one, field) {
  const name = field.name.replaceAll("_", " ").replace(/ s$/, ", seconds").replace(/ bytes, seconds$/, " bytes");
  const set = (value) => {
    one.values[field.name] = value;
    tell();
  };
  const value = one.values[field.name];
  if (field.form === "flag" || field.form === "several") {
    if (field.form === "flag") return check(name, value === true, set);
    return el("div", {}, ...field.options.map((option) => check(option.replaceAll("_", " "), (value ?? []).includes(option), (on) =>
      set(field.options.filter((other) => (other === option ? on : (one.values[field.name] ?? []).includes(other)))))));
  }
  let input;
  if (field.form === "choice") {
    input = el("select", {}, ...field.options.map((option) => el("option", { value: option }, option.replaceAll("_", " "))));
    input.value = value ?? field.options[0];
  } else input = el("input", { type: field.form, value: value ?? "", ...(field.form === "number" ? { step: field.step, min: 0 } : {}) });
  input.addEventListener("change", () => set(field.form === "number" ? (input.value === "" ? null : Number(input.value)) : input.value));
  return el("label", {}, name, input);
}

function check(name, isOn, set) {
  const input = el("input", { type: "checkbox", checked: isOn });
  input.addEventListener("change", () => set(input.checked));
  return el("label.check", {}, input, name);
}

function rows() {
  return [...by("headers").children].map((row) => [...row.querySelectorAll("input")].map((input) => input.value.trim()));
}

function addHeader(name = "", value = "") {
  const first = el("input", { type: "text", value: name, placeholder: "X-Customer-Id", "aria-label": "Name of the header", spellcheck: false });
  const second = el("input", { type: "text", value, placeholder: "value", "aria-label": "Value of the header", spellcheck: false });
  const remove = el("button", { type: "button", "aria-label": "Remove this header" }, "×");
  const row = el("div.header-row", {}, first, second, remove);
  remove.addEventListener("click", () => (row.remove(), keep(), by("add-header").focus()));
  for (const input of [first, second]) input.addEventListener("change", keep);
  by("headers").append(row);
  return first;
}

function keep() {
  const texts = Object.fromEntries(["first-message", "query", "cascade"].map((id) => [id, by(id).value]));
  sessionStorage.setItem(KEPT, JSON.stringify({ habits: habits(), headers: rows(), ...texts }));
}
