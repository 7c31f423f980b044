// Ears and mouth: the browser's speech recognition and speech synthesis.

const SENTENCE = 200;   // longer utterances stop in the middle in Chrome
const Recognition = window.SpeechRecognition ?? window.webkitSpeechRecognition;

export const canSpeak = "speechSynthesis" in window && "SpeechSynthesisUtterance" in window;
export const canHear = Boolean(Recognition);

// Cut a text that grows into pieces to speak: whole sentences, at most 200 characters each. Returns the pieces and the
// number of characters they take; what is left waits for more.
export function pieces(text, isComplete) {
  const found = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const end = /[.!?…。！？]["'”’)\]]*(?=\s|$)|\n/.exec(rest);
    let length = end && (isComplete || at + end.index + end[0].length < text.length) ? end.index + end[0].length : 0;
    if (!length && isComplete) length = rest.length;
    if (length > SENTENCE || (!length && rest.length > SENTENCE)) {
      const cut = rest.slice(0, SENTENCE);
      length = Math.max(cut.lastIndexOf(", ") + 1, cut.lastIndexOf("; ") + 1) || cut.lastIndexOf(" ") || SENTENCE;
    }
    if (!length) break;
    found.push({ from: at, text: rest.slice(0, length) });
    at += length;
  }
  return { found, taken: at };
}

// Speaks answers sentence by sentence, and knows how far it is.
export class Voice {
  constructor(onProgress) {
    this.onProgress = onProgress;
    this.isOn = false;
    this.rate = 1;
    this.voice = null;
    this.lang = "";
    this.problem = "";
    this.forget();
  }

  forget() {
    this.turn = -1;
    this.queued = this.spoken = this.length = 0;
    this.waiting = [];    // utterances are kept: Chrome forgets the events of those that nobody holds
    this.recent = "";
  }

  get isSpeaking() {
    return this.waiting.length > 0;
  }

  // Take the heard text of the newest turn as far as it has come.
  feed(turn, text, isComplete) {
    if (!this.isOn || !canSpeak) return;
    if (turn !== this.turn || text.length < this.length) {   // the next turn, or the answer has begun again
      this.stop();
      this.turn = turn;
    }
    this.length = text.length;
    const { found, taken } = pieces(text.slice(this.queued), isComplete);
    const base = this.queued;
    this.queued += taken;
    for (const piece of found) this.speak(base + piece.from, piece.text);
  }

  speak(from, text) {
    if (!/[\p{L}\p{N}]/u.test(text)) {
      if (!this.isSpeaking) this.spoken = from + text.length;
      return;
    }
    const utterance = new SpeechSynthesisUtterance(text.trim());
    const lead = text.length - text.trimStart().length, turn = this.turn;
    utterance.rate = this.rate;
    if (this.voice) utterance.voice = this.voice;
    if (this.lang) utterance.lang = this.lang;
    const done = (isWhole) => {
      if (turn !== this.turn || !this.waiting.includes(utterance)) return;
      this.waiting = this.waiting.filter((one) => one !== utterance);
      if (isWhole) this.spoken = from + text.length;
      this.onProgress();
    };
    utterance.onstart = () => {
      this.problem = "";
      this.recent = `${this.recent} ${text}`.slice(-600);
    };
    utterance.onboundary = ({ charIndex }) => {
      if (turn !== this.turn || !this.waiting.includes(utterance)) return;
      this.spoken = Math.max(this.spoken, from + lead + charIndex);
      this.onProgress();
    };
    utterance.onend = () => done(true);
    utterance.onerror = ({ error }) => {
      if (error === "not-allowed") this.problem = "The browser reads nothing aloud before you click on the page.";
      else if (!["interrupted", "canceled"].includes(error)) this.problem = "The browser has no voice that can read this aloud.";
      done(false);
    };
    this.waiting.push(utterance);
    speechSynthesis.speak(utterance);
  }

  // Stop, and return the number of characters that were spoken; null if everything was, or there is no voice.
  stop() {
    const spoken = this.isOn && this.turn >= 0 && this.spoken < this.length ? this.spoken : null;
    const { recent, isSpeaking } = this;
    this.forget();
    this.recent = recent;
    if (isSpeaking) speechSynthesis.cancel();
    return spoken;
  }
}

// Whether words that were recognised are the page's own voice: most of them were spoken just now, in this order.
export function isEcho(heard, spoken) {
  const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}\s]/gu, "").split(/\s+/).filter(Boolean);
  const words = plain(heard), said = plain(spoken);
  if (!words.length) return true;
  let found = 0;
  for (let at = 0, from = 0; at < words.length; at++) {
    const place = said.indexOf(words[at], from);
    if (place >= 0) {
      found++;
      from = place + 1;
    }
  }
  return found / words.length >= 0.6;
}

// Listens by push to talk or hands-free.
export class Ears {
  // `onWords(text, isFinal)` gets what was recognised, `onState()` is told of every change.
  constructor(onWords, onState) {
    this.onWords = onWords;
    this.onState = onState;
    this.isListening = false;
    this.isWanted = false;
    this.isLocal = false;
    this.problem = "";
    this.mayInstall = false;   // what recognises the language here may be downloaded once the user has pressed something
    this.lang = navigator.language || "en-US";
  }

  // Ask whether this machine can recognise the language by itself, without sending audio anywhere.
  async look() {
    this.isLocal = this.mayInstall = false;
    try {
      const state = await Recognition?.available?.({ langs: [this.lang], processLocally: true });
      this.mayInstall = state === "downloadable" && !navigator.userActivation?.hasBeenActive;
      if (!this.mayInstall && (state === "downloadable" || state === "downloading")) await Recognition.install?.({ langs: [this.lang], processLocally: true });
      this.isLocal = state === "available" || (await Recognition?.available?.({ langs: [this.lang], processLocally: true })) === "available";
    } catch {
      this.isLocal = false;
    }
    this.onState();
  }

  start(isContinuous) {
    this.isWanted = true;
    this.isContinuous = isContinuous;
    if (this.isListening || !canHear) return;
    if (this.mayInstall) this.look();   // for the next time: a download may take minutes
    this.problem = "";
    const ears = (this.ears = new Recognition());
    ears.lang = this.lang;
    ears.continuous = isContinuous;
    ears.interimResults = true;
    if (this.isLocal) ears.processLocally = true;
    this.held = "";
    ears.onresult = ({ results, resultIndex }) => {
      for (let at = resultIndex; at < results.length; at++) {
        const words = results[at][0].transcript.trim();
        if (!results[at].isFinal) this.onWords(`${this.held} ${words}`.trim(), false);
        else if (isContinuous) this.onWords(words, true);
        else this.held = `${this.held} ${words}`.trim();
      }
    };
    ears.onerror = ({ error }) => {
      if (error === "not-allowed" || error === "service-not-allowed") {
        this.isWanted = false;
        this.problem = "The browser does not let this page listen: allow the microphone for this address.";
      } else if (error === "network") this.problem = "The browser's speech recognition cannot be reached: type instead.";
      else if (error === "audio-capture") this.problem = "There is no microphone.";
    };
    ears.onend = () => {
      this.isListening = false;
      if (!isContinuous && this.held) this.onWords(this.held, true);
      this.held = "";
      if (this.isWanted && isContinuous) setTimeout(() => this.isWanted && this.start(true), 250);
      this.onState();
    };
    this.isListening = true;
    try {
      ears.start();
    } catch {
      this.isListening = false;
    }
    this.onState();
  }

  stop() {
    this.isWanted = false;
    this.ears?.stop();
  }

  // Forget what was said so far, as after an echo.
  drop() {
    this.ears?.abort();
  }
}
