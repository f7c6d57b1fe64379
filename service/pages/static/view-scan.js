// One scan and what one network says of it.
import { announce, complain, make, stamp } from "./dom.js";
import { abstainSentence, className, count, methodName, modelName, percent } from "./names.js";
import { controls, display, png, showMap, verdict } from "./parts.js";
import { facts, saveReport } from "./report.js";

export function scanView(scan, { about, model, wanted, changed }) {
  const [root, slots] = stamp("scan-view");
  slots.name.textContent = scan.name;
  slots.compare.href = `#/scan/${scan.id}/compare`;
  slots.compare.textContent = `Compare all ${count(about.models.length)}`;
  slots.print.addEventListener("click", () => print());
  slots.report.addEventListener("click", () => saveReport(scan, scan.answers.get(model), display));
  slots.controls.append(controls(about.methods, load));
  load();
  return root;

  async function load() {
    const method = display.method;
    slots.busy.textContent = `${modelName(model)} is looking at it …`;
    complain("");
    try {
      const answer = await scan.explained(model, method);
      if (wanted() && method === display.method) show(answer, method);
    } catch (failure) {
      if (!wanted()) return;
      complain(failure.message);
      changed();
    } finally {
      slots.busy.textContent = "";
    }
  }

  function show(answer, method) {
    slots.answer.replaceChildren(verdict(answer));
    slots.plain.src = png(answer.scan);
    slots.plain.alt = `${scan.name}, cropped and scaled as the network saw it`;
    showMap(slots, scan.name, answer, method);
    slots.caption.textContent = caption(answer, method);
    slots.facts.replaceChildren(...facts(answer).map(([term, value]) => make("div", [make("dt", term), make("dd", value)])));
    slots.compare.hidden = about.models.length < 2;
    slots.result.hidden = slots.report.hidden = slots.print.hidden = false;
    changed();
    announce(`${spoken(answer)} Map: ${methodName(method)}.`);
  }
}

function caption(answer, method) {
  const { target, agreement } = answer.explanations[method];
  const agreed = agreement === null || agreement === undefined ? "" : `, agreement ${agreement.toFixed(2)} of 1`;
  return `${methodName(method)} for ${className(target).toLowerCase()}${agreed}`;
}

function spoken(answer) {
  if (answer.abstain) return abstainSentence(answer);
  return `${modelName(answer.model)}: ${className(answer.label)}, ${percent(answer.probabilities[answer.label])}.`;
}
