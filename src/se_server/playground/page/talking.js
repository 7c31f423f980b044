// Speech on the page: push to talk, hands-free, and answers read aloud.

import { by, el } from "./dom.js";
import { Ears, Voice, canHear, canSpeak, isEcho } from "./speech.js";

const KEPT = "se-server playground voice";
const ECHO_MS = 2000;    // recognition is late: it may hear the voice after its end
let on = { say() {}, cut() {}, interrupt() {}, changed() {} };
let quietSince = 0;
let barged = false;      // whether the words that are recognised have cut the answer off already

export const voice = new Voice(() => {
  if (!voice.isSpeaking) quietSince = performance.now();
  if (!ears.isListening) by("heard-now").textContent = ears.problem || voice.problem;
  on.changed();
});
const ears = new Ears(words, state);

// Begin. `controls` has what speech may do: `say(text)`, `cut()`, `interrupt()`, `changed()`.
export function speech(controls) {
  on = controls;
  by("mic").hidden = !canHear;
  by("voice").hidden = !canSpeak;
  by("speech-mode").disabled = !canHear;
  by("voice").addEventListener("click", () => aloud(!voice.isOn));
  by("speech-mode").addEventListener("change", () => mode(by("speech-mode").value));
  by("speech-rate").addEventListener("input", () => ((voice.rate = Number(by("speech-rate").value)), keep()));
  by("speech-lang").addEventListener("change", () => (language(by("speech-lang").value), keep()));
  by("speech-voice").addEventListener("change", () => (pick(by("speech-voice").value), keep()));
  by("headphones").addEventListener("change", keep);
  const mic = by("mic");
  mic.addEventListener("pointerdown", () => press(true));
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) mic.addEventListener(kind, () => press(false));
  mic.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && (event.preventDefault(), event.repeat || press(true)));
  mic.addEventListener("keyup", (event) => [" ", "Enter"].includes(event.key) && press(false));
  document.addEventListener("keydown", (event) => {
    if (event.code !== "Space" || event.target.closest?.("input, textarea, select, button, summary, a, pre, dialog")) return;
    event.preventDefault();
    if (event.repeat) return;
    if (by("speech-mode").value === "push") press(true);
    else on.interrupt();
  });
  document.addEventListener("keyup", (event) => event.code === "Space" && by("speech-mode").value === "push" && press(false));
  restore();
  state();
}

function press(isDown) {
  if (by("speech-mode").value === "free") {
    if (isDown) ears.isWanted ? ears.stop() : ears.start(true);
    return;
  }
  if (by("speech-mode").value === "off" && isDown) mode("push");
  if (isDown) {
    on.cut();
    ears.start(false);
  } else if (ears.isWanted) ears.stop();
}

function mode(name) {
  by("speech-mode").value = name;
  ears.stop();
  if (name !== "off") aloud(true);
  if (name === "free") ears.start(true);
  keep();
  state();
}

function aloud(isOn) {
  if (!isOn) on.cut();
  voice.isOn = isOn && canSpeak;
  by("voice").setAttribute("aria-pressed", String(voice.isOn));
  keep();
}

// Words that were recognised.
function words(text, isFinal) {
  by("heard-now").textContent = isFinal ? "" : text;
  const mayBeEcho = voice.isSpeaking || performance.now() - quietSince < ECHO_MS;
  if (by("speech-mode").value === "free") {
    if (voice.isSpeaking && !by("headphones").checked) return;
    if (mayBeEcho && isEcho(text, voice.recent)) return;
    if (voice.isSpeaking && !barged && (isFinal || text.split(/\s+/).length > 1)) {
      barged = true;
      on.cut();
    }
  }
  if (!isFinal) return;
  barged = false;
  if (text.trim()) on.say(text);
}

function state() {
  const isFree = by("speech-mode").value === "free";
  by("mic").classList.toggle("listening", ears.isListening);
  by("mic").setAttribute("aria-pressed", String(ears.isListening));
  by("mic").setAttribute("aria-label", isFree ? "Listen" : "Hold to talk");
  if (!ears.isListening) by("heard-now").textContent = ears.problem || voice.problem;
  const where = ears.isLocal
    ? "What you say is recognised on this machine."
    : "This browser sends what you say to its maker, who recognises it. Type where that is not wanted.";
  by("ears-note").textContent = canHear ? where : "This browser has no speech recognition (Chrome, Edge and Safari do). Typing always works.";
}

// --- languages and voices ---

function language(tag) {
  ears.lang = voice.lang = tag;
  by("speech-lang").value = tag;
  voices();
  if (canHear) ears.look();
}

function voices() {
  const all = canSpeak ? speechSynthesis.getVoices() : [];
  const base = voice.lang.split("-")[0];
  const fitting = all.filter(({ lang }) => lang.replace("_", "-").split("-")[0] === base);
  const chosen = by("speech-voice").value;
  by("speech-voice").replaceChildren(el("option", { value: "" }, "the browser's own"), ...fitting.map(({ name }) => el("option", { value: name }, name)));
  pick(fitting.some(({ name }) => name === chosen) ? chosen : "");
}

function pick(name) {
  by("speech-voice").value = name;
  voice.voice = speechSynthesis?.getVoices().find((one) => one.name === name) ?? null;
}

function restore() {
  const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
  const tags = [...new Set([...(navigator.languages ?? []), "en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "it-IT", "pt-BR", "nl-NL", "pl-PL", "hi-IN", "ja-JP", "ko-KR", "zh-CN"])];
  const names = typeof Intl.DisplayNames === "function" ? new Intl.DisplayNames([navigator.language], { type: "language" }) : null;
  by("speech-lang").append(...tags.map((tag) => el("option", { value: tag }, names?.of(tag) ?? tag)));
  voice.rate = Number((by("speech-rate").value = kept.rate ?? 1));
  by("headphones").checked = kept.headphones ?? false;
  language(tags.includes(kept.lang) ? kept.lang : tags[0]);
  if (canSpeak) speechSynthesis.addEventListener?.("voiceschanged", () => (voices(), kept.voice && pick(kept.voice)));
  if (kept.aloud) aloud(true);
}

function keep() {
  localStorage.setItem(KEPT, JSON.stringify({
    rate: voice.rate, lang: voice.lang, voice: by("speech-voice").value, aloud: voice.isOn, headphones: by("headphones").checked,
  }));
}
