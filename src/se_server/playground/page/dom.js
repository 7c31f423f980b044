// Small helpers: elements, times, and the difference of two texts.

export const by = (id) => document.getElementById(id);

// Make an element: a name with classes, properties, and children. Text is always text, never markup.
export function el(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.00095) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`;
}

// Return the words of both texts: [how, text], where how is "", "ins" or "del".
export function difference(before, after) {
  const a = before.match(/\s+|\S+/g) ?? [], b = after.match(/\s+|\S+/g) ?? [];
  if (a.length * b.length > 400_000) return before === after ? [["", after]] : [["del", before], ["ins", after]];
  const rows = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      rows[i][j] = a[i] === b[j] ? rows[i + 1][j + 1] + 1 : Math.max(rows[i + 1][j], rows[i][j + 1]);
  const found = [];
  const add = (how, text) => (found.at(-1)?.[0] === how ? (found.at(-1)[1] += text) : found.push([how, text]));
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) add("", a[i++]), j++;
    else if (i < a.length && (j >= b.length || rows[i + 1][j] >= rows[i][j + 1])) add("del", a[i++]);
    else add("ins", b[j++]);
  }
  return found;
}

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser refuses";
  }
  setTimeout(() => (button.textContent = before), 1500);
}
