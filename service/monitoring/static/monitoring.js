// The dashboard: draws the figures of /api/monitoring every few seconds.

import { className } from "/ui/names.js";
import { bars, lines, short } from "./charts.js";

const REFRESH = 10_000;
const at = (id) => document.getElementById(id);
const percent = (value) => (value === null || value === undefined ? "–" : `${+(100 * value).toPrecision(3)} %`);
const ms = (value) => (value === null || value === undefined ? "–" : `${short(value)} ms`);
const moment = (seconds) => new Date(1000 * seconds).toLocaleString(undefined,
  { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
let timer = 0, asked = 0;

function tile(name, value, more = "", bad = false) {
  const box = document.createElement("div");
  box.className = bad ? "tile bad" : "tile";
  for (const [style, text] of [["name", name], ["value", value], ["more", more]]) {
    const part = document.createElement("div");
    part.className = style;
    part.textContent = text;
    box.append(part);
  }
  return box;
}

function driftTile(drift) {
  if (!drift) return tile("Drift", "–", "no reference is packaged");
  if (!drift.windows.length && !drift.alarms.length) {
    return tile("Drift", "–", `${drift.waiting} of ${drift.window} predictions for the first window`);
  }
  if (drift.alarms.length) return tile("Drift", "alarm", drift.alarms.join(", "), true);
  return tile("Drift", "none", `of ${drift.model}, every ${drift.window} predictions`);
}

function tiles(summary) {
  const t = summary.totals, a = t.accuracy;
  const range = a ? `${percent(a.low)} to ${percent(a.high)}, ${a.n} confirmed` : "no confirmed classes yet";
  const list = [
    tile("Requests", short(t.requests), `${short(t.predictions)} predictions`),
    tile("Errors", percent(t.error_rate), `${t.errors} failures, ${t.refused} refused`, t.errors > 0),
    tile("Abstained", percent(t.abstention_rate), `${short(t.abstained)} predictions`),
    tile("Latency", ms(t.latency_ms?.p50), `p95 ${ms(t.latency_ms?.p95)}, p99 ${ms(t.latency_ms?.p99)}`),
    tile("Confidence", percent(t.confidence?.p50), `lowest tenth below ${percent(t.confidence?.p10)}`),
    driftTile(summary.drift),
    tile("Accuracy", a ? percent(a.value) : "–", range),
  ];
  if (summary.lost) list.push(tile("Not recorded", short(summary.lost), "requests since the store was created", true));
  at("tiles").replaceChildren(...list);
}

function charts(summary) {
  const { since, until, series } = summary;
  const middle = (until - since) / series.length / 2;
  const over = (pick) => series.map((part) => [part.time + middle, pick(part) ?? null]);
  const classes = [...new Set(series.flatMap((part) => Object.keys(part.classes)))].sort();
  const drift = summary.drift;
  const list = [
    bars("Requests", since, until, series.map((part) => ({ time: part.time, values: [part.predictions, part.refused, part.errors] })),
      [["answered", "s0"], ["refused", "refused"], ["failed", "errors"]]),
    lines("Latency, ms", since, until, ["p50", "p95", "p99"].map((p) => ({ name: p, points: over((part) => part.latency_ms?.[p]) }))),
    bars("Predicted classes", since, until,
      series.map((part) => ({ time: part.time, values: classes.map((name) => (part.classes[name] ?? 0) / (part.predictions || 1)) })),
      classes.map((name, i) => [className(name).toLowerCase(), `s${i % 4}`]), { top: 1, format: percent }),
    lines("Confidence", since, until, [["median", "p50"], ["lowest tenth", "p10"]].map(([name, p]) => ({ name, points: over((part) => part.confidence?.[p]) })),
      { top: 1, format: percent }),
    lines("Errors and abstentions", since, until, [
      { name: "abstained", points: over((part) => part.abstention_rate) },
      { name: "errors", points: over((part) => part.error_rate) }], { format: percent }),
  ];
  if (drift) {
    const names = ["classes", "confidence", "image", "features"];
    list.push(lines(`Drift of ${drift.model}`, since, until,
      names.map((name) => ({ name, points: drift.windows.map((window) => [window.time, window.strengths[name]]) })),
      { limit: true, note: "alarm: two windows in a row above the dashed line" }));
  }
  at("charts").replaceChildren(...list);
}

function table(id, head, rows, empty) {
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    for (const text of cells) {
      const cell = document.createElement(kind);
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  };
  at(id).replaceChildren(line(head, "th"), ...(rows.length ? rows.map((cells) => line(cells, "td")) : [line([empty], "td")]));
}

function tables(summary) {
  table("models", ["model", "predictions", "p50", "p95", "confidence", "abstained", "accuracy"],
    Object.entries(summary.models).map(([name, f]) => [name, short(f.predictions), ms(f.latency_ms?.p50), ms(f.latency_ms?.p95),
      percent(f.confidence?.p50), percent(f.abstention_rate),
      f.accuracy ? `${percent(f.accuracy.value)} [${percent(f.accuracy.low)}, ${percent(f.accuracy.high)}]` : "–"]),
    "nothing was predicted");
  table("errors", ["time", "status", "error", "model"],
    summary.recent_errors.map((e) => [moment(e.time), e.status, e.error ?? "–", e.model ?? "–"]), "none");
}

function choices(names) {
  const select = at("model");
  if (select.options.length === names.length + 1) return;
  const chosen = select.value;
  select.replaceChildren(new Option("all", ""), ...names.map((name) => new Option(name, name)));
  select.value = names.includes(chosen) ? chosen : "";
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++asked;
  const query = new URLSearchParams({ hours: at("hours").value, model: at("model").value });
  try {
    const answer = await fetch(`/api/monitoring?${query}`);
    const summary = await answer.json();
    if (mine !== asked) return; // another range was chosen meanwhile
    if (!answer.ok) throw new Error(summary.detail);
    choices(summary.packaged);
    at("synthetic").hidden = !summary.synthetic;
    tiles(summary);
    charts(summary);
    tables(summary);
    at("error").textContent = "";
    at("updated").textContent = `updated ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    if (mine === asked) at("error").textContent = `No figures: ${error.message}`;
  }
  if (mine === asked) timer = setTimeout(refresh, REFRESH);
}

for (const id of ["hours", "model"]) at(id).addEventListener("change", refresh);
refresh();
