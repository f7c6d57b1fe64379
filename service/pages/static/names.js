// How classes, networks, methods and numbers are written.

const CLASSES = { notumor: "No tumour" };
const MODELS = {
  resnet50: "ResNet50",
  resnet101: "ResNet101",
  efficientnet_b0: "EfficientNet-B0",
  efficientnet_b1: "EfficientNet-B1",
};
const METHODS = {
  gradcam: ["Grad-CAM", "Regions that raise the score of the class, at the coarse grid of the last layer."],
  guided_backprop: ["Guided Backprop", "Pixels whose change would raise the score; fine, but it follows edges of any kind."],
  guided_gradcam: ["Guided Grad-CAM", "Guided Backprop inside the regions of Grad-CAM."],
  consensus: ["Consensus", "One map of all networks, each weighed by how sure it is of the class they agree on."],
};
const COUNTS = ["no", "one", "two", "three", "four", "five", "six"];

const capital = text => text.charAt(0).toUpperCase() + text.slice(1);

export const className = name => CLASSES[name] ?? capital(name.replaceAll("_", " "));
export const modelName = name => MODELS[name] ?? name;
export const methodName = name => METHODS[name]?.[0] ?? capital(name.replaceAll("_", " "));
export const NO_METHOD = "none"; // what a network answers that can't be explained
export const methodAbout = name => METHODS[name]?.[1] ?? "";
export const count = n => COUNTS[n] ?? String(n);
export const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;

/** "a", "a and b", "a, b and c". */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** What the prediction set says, as a sentence. */
export function setSentence(answer) {
  const names = answer.set.map(name => className(name).toLowerCase());
  const all = Object.keys(answer.probabilities).length;
  const promise = `It holds the true class for ${percent(answer.coverage).replace(".0", "")} of scans like the training data.`;
  if (names.length === 0) return `Prediction set: empty, for no class is probable enough. ${promise}`;
  if (names.length === all) return `Prediction set: every class, for none can be ruled out. ${promise}`;
  return `Prediction set: ${list(names)}${names.length === 1 ? " alone" : ""}. ${promise}`;
}

/** What has to be said of a sample whose networks know scans; "" elsewhere. `answer` may be what GET /models says. */
export function drawnSentence(scan, answer) {
  if (!scan.drawn || answer.synthetic) return "";
  return "This sample is drawn, not scanned. This service learned from real scans, so its answer here means little.";
}

/** Why a network abstains, as sentences. */
export function abstainSentence(answer) {
  const reasons = answer.reasons.map(reason => sentence(reason.detail));
  return `${modelName(answer.model)} abstains. ${reasons.join(" ")}`.trim();
}

/** Text with a capital and a full stop. */
export function sentence(text) {
  const trimmed = capital(text.trim());
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
