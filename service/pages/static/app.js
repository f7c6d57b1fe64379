// The classifier: chooses the view, takes in files, and holds the chosen model.
import * as api from "./api.js";
import { complain, make, renew } from "./dom.js";
import { className, modelName } from "./names.js";
import { abstainTag, failureTag } from "./parts.js";
import * as session from "./scans.js";
import { compareView } from "./view-compare.js";
import { scanView } from "./view-scan.js";
import { startView } from "./view-start.js";
import { tableView } from "./view-table.js";

const SAMPLES = ["glioma", "meningioma", "notumor", "pituitary"];
const $ = id => document.getElementById(id);
let about; // the answer of GET /models
let shown; // the context of the current view: work that ends later for another one is dropped

async function start() {
  try {
    about = { ...(await api.models()), notice: $("notice").textContent };
  } catch (failure) {
    complain(failure.message);
    return;
  }
  $("synthetic").hidden = !about.synthetic;
  $("drawn").hidden = about.synthetic;
  $("trained").textContent = `Trained on: ${about.dataset}${about.synthetic ? " (synthetic)" : ""}, version ${about.data_version}`;
  for (const { name } of about.models) {
    const text = name === about.default ? `${modelName(name)} (default)` : modelName(name);
    $("model").append(new Option(text, name, name === about.default, name === about.default));
  }
  $("model").addEventListener("change", show);
  addEventListener("hashchange", show);
  // The address names the view, so it can't name a place within the page.
  document.querySelector(".skip").addEventListener("click", event => {
    event.preventDefault();
    $("main").focus();
  });
  show();
}

/** Show what the address asks for: #/, #/results, #/scan/N or #/scan/N/compare. */
function show() {
  const [, page, id, mode] = location.hash.split("/");
  const scan = page === "scan" && session.find(Number(id));
  const model = $("model").value;
  const context = { about, model, wanted: () => shown === context, changed: listScans };
  shown = context;
  complain("");
  describeModel(model);
  let element;
  if (scan && mode === "compare") element = compareView(scan, context);
  else if (scan) element = scanView(scan, context);
  else if (page === "results" && session.scans.length) element = tableView(context, forget);
  else element = startView(about);
  const moved = $("view").childElementCount > 0;
  $("view").replaceChildren(element);
  document.title = `${scan ? `${scan.name} – ` : ""}Brain-tumour MRI classifier`;
  listScans();
  // After a change of view the focus goes to its heading; after a change of model it stays on the list.
  if (moved && document.activeElement !== $("model")) {
    const heading = element.querySelector("h1");
    heading.focus({ preventScroll: true });
    heading.scrollIntoView();
  }
}

function describeModel(name) {
  const model = about.models.find(one => one.name === name);
  $("model-facts").textContent = `Sees ${model.size_px} × ${model.size_px} pixels, ${model.size_mb.toFixed(0)} MB, ${model.precision}`;
}

function take(files, drawn = false) {
  if (!about || !files.length) return;
  const added = session.add(files, drawn);
  go(added.length === 1 ? `#/scan/${added[0].id}` : "#/results");
}

function go(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

function forget() {
  session.clear();
  go("#/");
}

function listScans() {
  const model = $("model").value;
  $("session").hidden = session.scans.length === 0;
  const items = session.scans.map(scan => {
    const link = make("a", scan.name, { href: `#/scan/${scan.id}` });
    if (/^#\/scan\/(\d+)/.exec(location.hash)?.[1] === String(scan.id)) link.setAttribute("aria-current", "page");
    return make("li", [link, remark(scan.answers.get(model), scan.failures.get(model))]);
  });
  renew($("scans"), items);
}

function remark(answer, failure) {
  if (answer?.abstain) return abstainTag();
  if (answer) return make("span", className(answer.label), { className: "hint" });
  return failure ? failureTag(failure) : "";
}

function sampleItem(name) {
  const image = make("img", "", { src: `ui/samples/${name}.png`, alt: "", width: 64, height: 64 });
  const button = make("button", [image, make("span", className(name))], { type: "button" });
  button.setAttribute("aria-label", `Synthetic sample: ${className(name)}`);
  button.addEventListener("click", async () => {
    try {
      take([new File([await api.file(image.src)], `synthetic-${name}.png`, { type: "image/png" })], true);
    } catch (failure) {
      complain(failure.message);
    }
  });
  return make("li", button);
}

function acceptFiles() {
  $("choose").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    take($("files").files);
    $("files").value = ""; // so that the same file can be chosen again
  });
  // Files may be dropped anywhere: outside the zone, the browser would otherwise leave the page to show them.
  addEventListener("dragover", event => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", event => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  addEventListener("drop", event => {
    event.preventDefault();
    $("drop").classList.remove("over");
    take(event.dataTransfer.files);
  });
}

for (const name of SAMPLES) $("samples").append(sampleItem(name));
acceptFiles();
start();
