// The display names of classes, networks and methods, and the form of numbers.

const CLASSES = { notumor: "No tumour" };
const MODELS = {
  resnet50: "ResNet50",
  resnet101: "ResNet101",
  efficientnet_b0: "EfficientNet-B0",
  efficientnet_b1: "EfficientNet-B1",
};
const METHODS = {
  gradcam: ["Grad-CAM", "Regions that raise the score of the class, at the coarse grid of the last layer."],
  guided_backprop: ["Guided Backprop", "Pixels whose change would raise the score: fine detail, but it follows edges of any kind."],
  guided_gradcam: ["Guided Grad-CAM", "Guided Backprop inside the regions of Grad-CAM."],
  consensus: ["Consensus", "One map of all networks, each weighted by its confidence in the class they agree on."],
};
const COUNTS = ["no", "one", "two", "three", "four", "five", "six"];

const capital = text => text.charAt(0).toUpperCase() + text.slice(1);

export const className = name => CLASSES[name] ?? capital(name.replaceAll("_", " "));
export const modelName = name => MODELS[name] ?? name;
export const methodName = name => METHODS[name]?.[0] ?? capital(name.replaceAll("_", " "));
export const NO_METHOD = "none"; // for networks without explanations
export const methodAbout = name => METHODS[name]?.[1] ?? "";
export const count = n => COUNTS[n] ?? String(n);
export const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;

/** "a", "a and b", "a, b and c". */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Return the prediction set as a sentence. */
export function setSentence(answer) {
  const names = answer.set.map(name => className(name).toLowerCase());
  const all = Object.keys(answer.probabilities).length;
  const promise = `It holds the true class for ${percent(answer.coverage).replace(".0", "")} of scans like the training data.`;
  if (names.length === 0) return `Prediction set: empty, as no class is probable enough. ${promise}`;
  if (names.length === all) return `Prediction set: every class, as none can be ruled out. ${promise}`;
  return `Prediction set: ${list(names)}${names.length === 1 ? " alone" : ""}. ${promise}`;
}

/** Return the warning for a sample where the networks were trained on scans, otherwise "". answer: or that of GET /models. */
export function drawnSentence(scan, answer) {
  if (!scan.drawn || answer.synthetic) return "";
  return "This sample is drawn, not scanned. This service learned from real scans, so its answer here means little.";
}

/** Return why a network abstains, as sentences. */
export function abstainSentence(answer) {
  const reasons = answer.reasons.map(reason => sentence(reason.detail));
  return `${modelName(answer.model)} abstains. ${reasons.join(" ")}`.trim();
}

/** Return text with a capital letter and a full stop. */
export function sentence(text) {
  const trimmed = capital(text.trim());
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
