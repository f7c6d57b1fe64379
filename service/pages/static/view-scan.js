// One scan with the answer of one network.
import * as api from "./api.js";
import { announce, complain, make, stamp } from "./dom.js";
import { abstainSentence, className, count, drawnSentence, methodName, modelName, NO_METHOD, percent } from "./names.js";
import { chooseAmong, controls, display, hideMap, png, showMap, verdict } from "./parts.js";
import { facts, saveReport } from "./report.js";

export function scanView(scan, { about, model, wanted, changed }) {
  const [root, slots] = stamp("scan-view");
  slots.name.textContent = scan.name;
  slots.compare.href = `#/scan/${scan.id}/compare`;
  slots.compare.textContent = `Compare all ${count(about.models.length)}`;
  slots.print.addEventListener("click", () => print());
  slots.report.addEventListener("click", save);
  slots.drawn.textContent = drawnSentence(scan, about);
  chooseAmong(about.methods);
  const [switches, choose] = controls(about.methods, load);
  slots.controls.append(switches);
  slots.explained.hidden = about.methods.length === 0;
  let shown = null; // the method whose map is displayed
  load();
  return root;

  async function save() {
    complain("");
    try {
      await saveReport(scan, scan.answers.get(model), { ...display, method: shown });
    } catch {
      complain("The report can't be drawn: check that the service can be reached, then try again.");
    }
  }

  async function load() {
    const method = display.method;
    const isChosen = () => wanted() && method === display.method;
    complain("");
    slots.busy.textContent = `${modelName(model)} is looking at it …`;
    if (!scan.known(model, method)) hideMap(slots, `${methodName(method)} …`);
    try {
      const answer = await scan.explained(model, method, isChosen);
      if (isChosen()) show(answer, method);
    } catch (failure) {
      if (isChosen()) await giveUp(method, failure);
    }
  }

  /** Go back to the last method; before the first answer, to the first method, which is the cheapest. */
  async function giveUp(method, failure) {
    slots.busy.textContent = "";
    complain(failure.message);
    changed();
    const other = shown ?? (failure.status >= 500 ? about.methods[0] : method);
    if (!other || other === method) return;
    choose(other);
    await load();
    if (shown && wanted()) complain(`${methodName(method)} can't be shown. ${failure.message}`);
  }

  function show(answer, method) {
    shown = method;
    slots.busy.textContent = "";
    slots.answer.replaceChildren(verdict(answer));
    if (method === NO_METHOD) showFile();
    else {
      slots.plain.src = png(answer.scan);
      slots.plain.alt = `${scan.name}, cropped and scaled to the network's input`;
      showMap(slots, scan.name, answer, method);
    }
    slots.facts.replaceChildren(...facts(answer).map(([term, value]) => make("div", [make("dt", term), make("dd", value)])));
    slots.feedback.replaceChildren(feedback(scan, answer, about.classes));
    slots.compare.hidden = about.models.length < 2;
    slots.result.hidden = slots.report.hidden = slots.print.hidden = false;
    changed();
    announce(method === NO_METHOD ? spoken(answer) : `${spoken(answer)} Map: ${methodName(method)}.`);
  }

  /** Show the file itself, if the browser can: the network's input comes with maps only. */
  function showFile() {
    slots.viewer.hidden = !scan.preview;
    Object.assign(slots.plain, { src: scan.preview ?? "", alt: scan.name });
    slots.seen.textContent = "The file";
  }
}

/** Make the form that sends the confirmed class to the service. */
function feedback(scan, answer, classes) {
  const [root, slots] = stamp("feedback");
  const confirmed = () => scan.confirmed.get(answer.request_id) ?? "";
  const recorded = () => (slots.status.textContent = `Recorded: ${className(confirmed()).toLowerCase()}.`);
  for (const name of classes) slots.classes.append(new Option(className(name), name));
  // Nothing is preselected: a careless click on the network's own answer would count it as right.
  slots.classes.value = confirmed();
  const offer = () => (slots.tell.disabled = !slots.classes.value);
  slots.classes.addEventListener("change", offer);
  offer();
  if (confirmed()) recorded();
  root.addEventListener("submit", async event => {
    event.preventDefault();
    complain("");
    const label = slots.classes.value;
    try {
      await api.feedback(answer.request_id, label);
      scan.confirmed.set(answer.request_id, label);
      recorded();
      announce(slots.status.textContent);
    } catch (failure) {
      complain(failure.message);
    }
  });
  return root;
}

function spoken(answer) {
  if (answer.abstain) return abstainSentence(answer);
  return `${modelName(answer.model)}: ${className(answer.label)}, ${percent(answer.probabilities[answer.label])}.`;
}
