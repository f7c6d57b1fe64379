// Parts that several views share: a network's verdict, and the controls of the map.
import { UNREADABLE } from "./api.js";
import { make, stamp } from "./dom.js";
import { abstainSentence, className, methodAbout, methodName, modelName, NO_METHOD, percent, setSentence } from "./names.js";

/** How maps are displayed; kept when the view changes. */
export const display = { method: "gradcam", opacity: 60 };

/** Keep the chosen method if it is among those offered, otherwise choose the first. */
export function chooseAmong(methods) {
  if (!methods.includes(display.method)) display.method = methods[0] ?? NO_METHOD;
}

export const png = base64 => `data:image/png;base64,${base64}`;

/** Make a network's answer: class, reasons to abstain, probabilities, set. */
export function verdict(answer, heading = modelName(answer.model)) {
  const [root, slots] = stamp("answer");
  const top = answer.probabilities[answer.label];
  slots.who.textContent = heading;
  slots.label.textContent = answer.abstain ? "No answer" : className(answer.label);
  slots.probability.textContent = answer.abstain ? `most probable: ${className(answer.label).toLowerCase()}, ${percent(top)}` : percent(top);
  root.classList.toggle("abstained", answer.abstain);
  slots.abstains.hidden = !answer.abstain;
  slots.why.textContent = answer.abstain ? abstainSentence(answer) : "";
  for (const [name, share] of Object.entries(answer.probabilities)) slots.bars.append(bar(answer, name, share));
  slots.set.textContent = setSentence(answer);
  return root;
}

function bar(answer, name, share) {
  const [root, slots] = stamp("bar");
  const isIn = answer.set.includes(name);
  slots.class.textContent = className(name);
  slots.fill.style.width = `${100 * share}%`;
  slots.percent.textContent = percent(share);
  slots.in.hidden = !isIn;
  root.classList.toggle("in-set", isIn);
  root.classList.toggle("most", name === answer.label);
  return root;
}

/** Show the map of `method` over the scan, for elements {scan, map, caption}; without a method there is none. */
export function showMap(slots, name, answer, method) {
  if (method === NO_METHOD) return;
  const explanation = answer.explanations[method];
  slots.scan.src = png(answer.scan);
  slots.scan.alt = `${name}, below the map`;
  slots.map.src = png(explanation.overlay);
  slots.map.alt = `${methodName(method)} of ${modelName(answer.model)} for ${className(explanation.target).toLowerCase()}`;
  slots.map.style.opacity = display.opacity / 100;
  slots.caption.textContent = caption(explanation, method);
}

/** Remove the map, so that it isn't seen under another name, and show why in its place. */
export function hideMap(slots, why) {
  slots.map.removeAttribute("src");
  slots.map.alt = "";
  slots.caption.textContent = why;
}

function caption({ target, agreement }, method) {
  const agreed = agreement === null || agreement === undefined ? "" : `, agreement ${agreement.toFixed(2)} of 1`;
  return `${methodName(method)} for ${className(target).toLowerCase()}${agreed}`;
}

/** Make a tag that says whether the file or the service is at fault. */
export const failureTag = failure => make("span", failure.status === UNREADABLE ? "unreadable" : "failed", { className: "tag bad" });

export const abstainTag = () => make("span", "abstains", { className: "tag warn" });

/** Make the method switch, the opacity slider and the legend, and a function that sets the method. changed: runs when a person does. */
export function controls(methods, changed) {
  const [root, slots] = stamp("controls");
  const inputs = new Map();
  root.hidden = methods.length === 0;
  const choose = method => {
    // Arrow keys move on from the focused method, so it must be the chosen one.
    if ([...inputs.values()].includes(document.activeElement)) inputs.get(method).focus();
    inputs.get(method).checked = true;
    display.method = method;
    slots.about.textContent = methodAbout(method);
  };
  for (const method of methods) {
    const input = make("input", "", { type: "radio", name: "method", value: method });
    input.addEventListener("change", () => {
      choose(method);
      changed();
    });
    inputs.set(method, input);
    slots.methods.append(make("label", [input, make("span", methodName(method))]));
  }
  if (methods.length) choose(display.method);
  slots.opacity.value = display.opacity;
  const show = () => {
    display.opacity = Number(slots.opacity.value);
    slots.percent.textContent = `${display.opacity} %`;
    slots.opacity.setAttribute("aria-valuetext", `${display.opacity} per cent`);
    for (const map of document.querySelectorAll("#view .map")) map.style.opacity = display.opacity / 100;
  };
  slots.opacity.addEventListener("input", show);
  show();
  return [root, choose];
}
