// Charts as SVG. Every text comes in by textContent, so that no figure is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  fill(made, attributes, children);
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  fill(made, attributes, children);
  return made;
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 9.95) return `${value.toFixed(2)} s`;
  return `${value.toFixed(1)} s`;
}

export function age(value) {
  const whole = Math.floor(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function number(value) {
  return new Intl.NumberFormat("en").format(value);
}

function frame(box, height, label) {
  const width = Math.max(240, box.clientWidth);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  return [root, width];
}

function clock(time_s) {
  return new Date(time_s * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function nice(top) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(1, top)));
  return [1, 2, 5, 10].map((step) => step * unit).find((bound) => bound >= top);
}

// Values that end now: `rows` are [time in seconds, value], oldest first.
export function curve(box, rows, now_s, limit, span_s) {
  const height = 190, left = 44, bottom = 20;
  const values = rows.map((row) => row[1]);
  const most = nice(Math.max(2, ...values));
  const label = rows.length
    ? `Conversations: now ${values.at(-1)}, at most ${Math.max(...values)}` : "No samples yet";
  const [root, width] = frame(box, height, label);
  const x = (time_s) => left + (1 - (now_s - time_s) / span_s) * (width - left - 4);
  const y = (value) => 6 + (1 - value / most) * (height - bottom - 6);
  for (const share of [0, 0.5, 1]) {
    root.append(
      svg("line", { class: "grid", x1: left, x2: width, y1: y(most * share), y2: y(most * share) }),
      svg("text", { x: left - 6, y: y(most * share) + 4, "text-anchor": "end" }, number(most * share)),
    );
  }
  times(root, now_s, span_s, x, height);
  if (limit && limit <= most) root.append(svg("line", { class: "limit", x1: left, x2: width, y1: y(limit), y2: y(limit) }));
  if (rows.length) {
    const points = rows.map(([time_s, value]) => `${x(time_s).toFixed(1)},${y(value).toFixed(1)}`).join(" L");
    root.append(
      svg("path", { class: "area", d: `M${x(rows[0][0])},${y(0)} L${points} L${x(rows.at(-1)[0])},${y(0)} Z` }),
      svg("path", { class: "curve", d: `M${points}` }),
    );
  }
  if (values.every((value) => !value)) hint(root, width, height - bottom, "No conversation in this time.");
  box.replaceChildren(root);
}

function times(root, now_s, span_s, x, height) {
  const room = x(now_s) - x(now_s - span_s);
  for (const share of room > 420 ? [1, 0.75, 0.5, 0.25, 0] : [1, 0.5, 0]) {
    const anchor = share === 1 ? "start" : share === 0 ? "end" : "middle";
    const time_s = now_s - share * span_s;
    root.append(svg("text", { x: x(time_s), y: height - 4, "text-anchor": anchor }, clock(time_s)));
  }
}

function hint(root, width, height, text) {
  root.append(svg("text", { class: "hint", x: width / 2, y: height / 2, "text-anchor": "middle" }, text));
}

// `columns` are equal times, oldest first: an array of counts by bucket, or null where nothing is known.
export function heat(box, columns, bounds, now_s, span_s) {
  const height = 190, left = 44, bottom = 20;
  const most = Math.max(1, ...columns.flatMap((column) => column ?? [0]));
  const turns = columns.flatMap((column) => column ?? []).reduce((sum, count) => sum + count, 0);
  const [root, width] = frame(box, height, `Time to first text of ${turns} turns`);
  const cellWidth = (width - left - 4) / columns.length, cellHeight = (height - bottom - 6) / (bounds.length + 1);
  const y = (place) => 6 + (bounds.length - place) * cellHeight;
  for (const shown of [0.08, 0.64, 5.12, 40.96]) {
    const place = bounds.indexOf(shown);
    root.append(
      svg("line", { class: "grid", x1: left, x2: width, y1: y(place), y2: y(place) }),
      svg("text", { x: left - 6, y: y(place) + 4, "text-anchor": "end" }, shown < 1 ? `${shown * 1000} ms` : `${shown.toFixed(1)} s`),
    );
  }
  times(root, now_s, span_s, (time_s) => left + (1 - (now_s - time_s) / span_s) * (width - left - 4), height);
  columns.forEach((column, minute) => {
    (column ?? []).forEach((count, place) => {
      if (!count) return;
      const range = place < bounds.length ? `up to ${seconds(bounds[place])}` : `over ${seconds(bounds.at(-1))}`;
      root.append(svg(
        "rect",
        {
          class: "cell", x: (left + minute * cellWidth + 0.5).toFixed(1), y: (y(place) + 0.5).toFixed(1),
          width: Math.max(1, cellWidth - 1).toFixed(1), height: Math.max(1, cellHeight - 1).toFixed(1), rx: 1.5,
          "fill-opacity": (0.12 + 0.88 * Math.sqrt(count / most)).toFixed(3),
        },
        svg("title", {}, `${count} turns, ${range}`),
      ));
    });
  });
  if (!turns) hint(root, width, height - bottom, "No answer has begun yet.");
  box.replaceChildren(root);
}

// Bars of equal times; each is an array of counts, drawn one on the other, or null.
export function bars(box, columns, label) {
  const height = 96;
  const [root, width] = frame(box, height, label);
  const most = Math.max(1, ...columns.map((column) => (column ?? []).reduce((sum, count) => sum + count, 0)));
  const step = width / columns.length;
  root.append(svg("line", { class: "grid", x1: 0, x2: width, y1: height - 1, y2: height - 1 }));
  columns.forEach((column, minute) => {
    let base = height - 1;
    (column ?? []).forEach((count, place) => {
      if (!count) return;
      const tall = Math.max(1, (count / most) * (height - 6));
      base -= tall;
      root.append(svg("rect", {
        class: `c${place}`, x: (minute * step + 1).toFixed(1), y: base.toFixed(1), width: Math.max(1, step - 2).toFixed(1),
        height: tall.toFixed(1), rx: 1,
      }));
    });
  });
  box.replaceChildren(root);
}

// The parts of a time, one after the other on the same scale.
export function waterfall(box, parts) {
  const whole = parts.reduce((sum, [, value]) => sum + value, 0);
  if (!whole) {
    box.replaceChildren(el("p", { class: "empty" }, "No answer began in the last five minutes. Here the time to its first text is shown part by part."));
    return;
  }
  let before = 0;
  const rows = parts.map(([name, value], place) => {
    const bar = el("div", { class: `fill c${place}` });
    bar.style.left = `${(100 * before) / whole}%`;
    bar.style.width = `${(100 * value) / whole}%`;
    before += value;
    return el("div", { class: "bar" }, el("span", {}, name), el("div", { class: "track" }, bar), el("span", { class: "value" }, seconds(value)));
  });
  rows.push(el("div", { class: "bar total" }, el("span", {}, "first text"), el("span"), el("span", { class: "value" }, seconds(whole))));
  box.replaceChildren(...rows);
}

export function stack(parts) {
  const whole = parts.reduce((sum, value) => sum + value, 0) || 1;
  return el("div", { class: "stack" }, ...parts.map((value, place) => {
    const piece = el("i", { class: `c${place}` });
    piece.style.width = `${(100 * value) / whole}%`;
    return piece;
  }));
}

export function table(box, columns, rows, none) {
  if (!rows.length) {
    box.replaceChildren(el("tbody", {}, el("tr", {}, el("td", { class: "empty" }, none))));
    return;
  }
  const head = el("tr", {}, ...columns.map(([name, kind]) => el("th", { class: kind, scope: "col" }, name)));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell, place) => {
    const late = cell instanceof Object && cell.late ? " late" : "";
    return el("td", { class: (columns[place][1] ?? "") + late }, cell instanceof Object && "text" in cell ? cell.text : cell);
  })));
  box.replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
}

export function facts(box, rows, none) {
  box.replaceChildren(...(rows.length
    ? rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])
    : [el("dt", { class: "empty" }, none)]));
}

export function legend(box, names) {
  box.replaceChildren(...names.map((name, place) => el("li", {}, el("i", { class: `c${place}` }), name)));
}
