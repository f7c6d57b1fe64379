// Small charts as SVG. Colours are classes of monitoring.css; text goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480, HEIGHT = 170, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22;

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Return a round number of at least `value` whose half is round as well. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((n) => n * power).find((n) => n >= value * 0.9999);
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (Math.abs(value) >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return `${+value.toPrecision(3)}`;
}

function clock(seconds, span) {
  const time = new Date(1000 * seconds);
  return span > 2 * 86400
    ? time.toLocaleDateString(undefined, { day: "numeric", month: "short" })
    : time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

function frame(label, since, until, top, format) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const x = (time) => LEFT + ((time - since) / (until - since)) * (WIDTH - LEFT - RIGHT);
  for (const part of [0, 0.5, 1]) {
    svg.append(draw("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(part * top), y2: y(part * top) }));
    svg.append(draw("text", { x: LEFT - 6, y: y(part * top) + 4, "text-anchor": "end" }, format(part * top)));
  }
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const time = since + part * (until - since);
    svg.append(draw("text", { x: x(time), y: HEIGHT - 6, "text-anchor": anchor }, clock(time, until - since)));
  }
  return { svg, x, y };
}

function panel(title, svg, names, note) {
  const box = document.createElement("div");
  box.className = "panel chart";
  const heading = document.createElement("h2");
  heading.textContent = title;
  const legend = document.createElement("div");
  legend.className = "legend";
  for (const [name, style] of names) {
    const entry = document.createElement("span");
    entry.append(draw("svg", { viewBox: "0 0 12 10", "aria-hidden": "true" },
      draw("rect", { class: `bar ${style}`, width: 12, height: 10, rx: 2 })), name);
    legend.append(entry);
  }
  if (note) legend.append(note);
  box.append(heading, svg, legend);
  return box;
}

/** Draw lines over time. series: [{name, points: [[time, value or null], ...]}]. limit: draws a dashed line at 1. */
export function lines(title, since, until, series, { format = short, top = null, limit = false, note = "" } = {}) {
  const values = series.flatMap((one) => one.points.map((point) => point[1])).filter((value) => value !== null);
  const height = top ?? roundUp(Math.max(limit ? 1.2 : 0, ...values));
  const last = series.map((one) => `${one.name} ${format(one.points.findLast((p) => p[1] !== null)?.[1])}`).join(", ");
  const { svg, x, y } = frame(`${title}; latest: ${last}`, since, until, height, format);
  if (limit) svg.append(draw("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: y(1), y2: y(1) }));
  series.forEach((one, i) => {
    let path = "", drawing = false;
    for (const [time, value] of one.points) {
      if (value === null) { drawing = false; continue; }
      path += `${drawing ? "L" : "M"}${x(time).toFixed(1)} ${y(Math.min(value, height)).toFixed(1)}`;
      drawing = true;
    }
    svg.append(draw("path", { class: `line s${i % 4}`, d: path }));
    const known = one.points.filter((point) => point[1] !== null);
    if (known.length <= 30) {
      for (const [time, value] of known) {
        svg.append(draw("circle", { class: `dot s${i % 4}`, cx: x(time), cy: y(Math.min(value, height)), r: 2.5 }));
      }
    }
  });
  return panel(title, svg, series.map((one, i) => [one.name, `s${i % 4}`]), note);
}

/** Draw stacked bars over time. parts: [{time, values: [..]}]; names: [[name, class], ...]. */
export function bars(title, since, until, parts, names, { format = short, top = null } = {}) {
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const height = top ?? roundUp(Math.max(0, ...parts.map((part) => sum(part.values))));
  const total = names.map(([name], i) => `${name} ${short(sum(parts.map((part) => part.values[i])))}`).join(", ");
  const { svg, x, y } = frame(`${title}; ${total}`, since, until, height, format);
  const width = ((WIDTH - LEFT - RIGHT) / parts.length) * 0.8;
  for (const part of parts) {
    let below = 0;
    part.values.forEach((value, i) => {
      if (!value) return;
      const box = { x: x(part.time), y: y(below + value), width, height: y(below) - y(below + value) };
      svg.append(draw("rect", { class: `bar ${names[i][1]}`, ...box }));
      below += value;
    });
  }
  return panel(title, svg, names, "");
}
