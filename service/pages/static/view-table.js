// All scans of the session with the chosen network's answers.
import { UNREADABLE } from "./api.js";
import { announce, make, renew, stamp } from "./dom.js";
import { className, drawnSentence, modelName, percent } from "./names.js";
import { abstainTag, failureTag } from "./parts.js";
import { predictAll, scans } from "./scans.js";

export function tableView({ model, wanted, changed }, cleared) {
  const [root, slots] = stamp("table-view");
  slots.clear.addEventListener("click", cleared);
  load();
  return root;

  async function load() {
    const done = predictAll(model, () => wanted() && refresh(), wanted);
    refresh(); // scans that are asked about again show as waiting
    await done;
    if (!wanted()) return;
    announce(slots.summary.textContent);
  }

  function refresh() {
    const answers = scans.map(scan => scan.answers.get(model)).filter(Boolean);
    const failures = scans.map(scan => scan.failures.get(model)).filter(Boolean);
    slots.progress.max = scans.length;
    slots.progress.value = answers.length + failures.length;
    slots.progress.hidden = answers.length + failures.length === scans.length;
    renew(slots.rows, scans.map(scan => row(scan, model)));
    slots.summary.textContent = summary(answers, failures, model);
    changed();
  }
}

function row(scan, model) {
  const [root, slots] = stamp("row");
  const answer = scan.answers.get(model);
  const failure = scan.failures.get(model);
  slots.name.textContent = scan.name;
  slots.name.href = `#/scan/${scan.id}`;
  if (scan.preview) Object.assign(slots.thumb, { src: scan.preview, hidden: false });
  slots.thumb.addEventListener("error", () => (slots.thumb.hidden = true));
  if (answer) {
    slots.label.append(...label(answer));
    slots.probability.textContent = percent(answer.probabilities[answer.label]);
    slots.set.textContent = answer.set.map(className).join(", ") || "none";
    slots.remark.textContent = [...answer.reasons.map(reason => reason.detail), drawnSentence(scan, answer)].join(" ").trim();
  } else if (failure) {
    slots.label.append(failureTag(failure));
    slots.remark.textContent = failure.message;
  } else {
    slots.label.append(make("span", "waiting", { className: "hint" }));
  }
  return root;
}

/** Make the class, or a tag where the network abstains. */
function label(answer) {
  if (!answer.abstain) return [make("span", className(answer.label), { className: "answered" })];
  return [abstainTag(), make("span", `most probable: ${className(answer.label).toLowerCase()}`, { className: "doubted" })];
}

function summary(answers, failures, model) {
  const counts = new Map();
  const sure = answers.filter(answer => !answer.abstain);
  for (const { label } of sure) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${className(label).toLowerCase()} ${n}`);
  const unreadable = failures.filter(failure => failure.status === UNREADABLE).length;
  if (answers.length > sure.length) parts.push(`abstains on ${answers.length - sure.length}`);
  if (unreadable) parts.push(`unreadable ${unreadable}`);
  if (failures.length > unreadable) parts.push(`failed ${failures.length - unreadable}`);
  return `${modelName(model)} on ${scans.length} ${scans.length === 1 ? "file" : "files"}: ${parts.join(", ") || "asking"}.`;
}
