// One series with the answer of one network: its verdict, its slices with the map, and the probabilities along it.
import { announce, complain, make, stamp } from "./dom.js";
import { abstainSentence, className, modelName, percent, worthSentence } from "./names.js";
import { display, opacitySlider, png, verdict } from "./parts.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600, HEIGHT = 120; // of the curve, in its own units

export function seriesView(series, { model, wanted, changed }) {
  const [root, slots] = stamp("series-view");
  slots.name.textContent = series.name;
  load();
  return root;

  async function load() {
    complain("");
    slots.busy.textContent = `${modelName(model)} is looking at the series …`;
    try {
      const answer = await series.answered(model, wanted);
      if (answer && wanted()) show(answer);
    } catch (failure) {
      if (wanted()) complain(failure.message);
    }
    if (wanted()) slots.busy.textContent = "";
    changed();
  }

  function show(answer) {
    const judged = verdict({ ...answer, set: [] });
    judged.querySelector("[data-slot=set]").textContent = pooled(answer);
    slots.answer.replaceChildren(judged);
    slots.curve.replaceChildren(curve(answer, at => go(at)));
    slots.slice.max = answer.slices.length - 1;
    slots.slice.addEventListener("input", () => go(Number(slots.slice.value)));
    opacitySlider(slots);
    slots.keys.replaceChildren(...answer.key_slices.map(at => jump(at)));
    slots.explained.hidden = !answer.slices[0].overlay;
    slots.facts.replaceChildren(...facts(answer).map(text => make("li", text)));
    slots.result.hidden = false;
    go(answer.key_slices[0]);
    announce(`${answer.abstain ? abstainSentence(answer) : `${className(answer.label)}.`} ${slots.caption.textContent}`);

    function jump(at) {
      const button = make("button", `Slice ${at + 1}`, { type: "button" });
      button.addEventListener("click", () => go(at));
      return make("li", button);
    }

    function go(at) {
      const one = answer.slices[at];
      slots.slice.value = at;
      slots.scan.src = png(one.scan);
      slots.scan.alt = `Slice ${at + 1} of ${series.name}`;
      slots.map.alt = `Grad-CAM for ${className(answer.label).toLowerCase()}`;
      if (one.overlay) slots.map.src = png(one.overlay);
      slots.map.style.opacity = display.opacity / 100;
      const place = one.position === null ? "" : `, at ${one.position.toFixed(0)} mm`;
      slots.worth.textContent = one.overlay ? `Grad-CAM for ${className(answer.label).toLowerCase()}. ${worthSentence(answer)}` : "";
      slots.caption.textContent = `Slice ${at + 1} of ${answer.slices.length}${place}: ${sliceSays(one)}`;
      slots.slice.setAttribute("aria-valuetext", slots.caption.textContent);
      slots.curve.querySelector(".cursor").setAttribute("d", `M${across(at, answer)} 0V${HEIGHT}`);
    }
  }
}

const sliceSays = one =>
  one.abstain
    ? `abstains, most probable ${className(one.label).toLowerCase()}, ${percent(one.probabilities[one.label])}`
    : `${className(one.label).toLowerCase()}, ${percent(one.probabilities[one.label])}`;

function pooled(answer) {
  const n = answer.slices.length;
  if (n === 1) return "One slice: its answer is the verdict.";
  return answer.fitted
    ? `Pooled from ${n} slices, as fits validation patients best.`
    : `The mean of ${n} slices: those above and below a tumour speak for “no tumour”.`;
}

function facts(answer) {
  const spacing = answer.spacing === null ? "" : `, ${answer.spacing.toFixed(1)} mm apart`;
  const lines = [`${answer.slices.length} ${answer.plane} slices${spacing}`.replace("  ", " ")];
  for (const { reason, count } of answer.left_out) lines.push(`Left out: ${count} × ${reason}`);
  return [...lines, ...answer.notes];
}

const across = (at, answer) => (WIDTH * (at + 0.5)) / answer.slices.length;

/** Draw each class's probability along the slices, that of the verdict thickest; a click goes to a slice. */
function curve(answer, go) {
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  root.setAttribute("preserveAspectRatio", "none");
  root.setAttribute("role", "img");
  root.setAttribute("aria-label", `Probability of ${className(answer.label).toLowerCase()} along the slices, from 0 to 1`);
  for (const name of Object.keys(answer.probabilities)) {
    const points = answer.slices.map((one, at) => `${across(at, answer)},${HEIGHT * (1 - one.probabilities[name])}`);
    root.append(shape("polyline", { points: points.join(" "), class: name === answer.label ? "most" : "" }));
  }
  root.append(shape("path", { class: "cursor" }));
  root.addEventListener("click", event => {
    const { left, width } = root.getBoundingClientRect();
    go(Math.min(answer.slices.length - 1, Math.floor((answer.slices.length * (event.clientX - left)) / width)));
  });
  return root;
}

function shape(kind, attributes) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
