// All scans of the session and what the chosen network says of them.
import { announce, complain, make, stamp } from "./dom.js";
import { className, modelName, percent } from "./names.js";
import { predictAll, scans } from "./scans.js";

export function tableView({ model, wanted, changed }, cleared) {
  const [root, slots] = stamp("table-view");
  slots.clear.addEventListener("click", cleared);
  refresh();
  load();
  return root;

  async function load() {
    try {
      await predictAll(model, () => wanted() && refresh(), wanted);
      if (wanted()) announce(slots.summary.textContent);
    } catch (failure) {
      if (wanted()) complain(failure.message);
    }
    if (wanted()) slots.progress.hidden = true;
  }

  function refresh() {
    const answers = scans.map(scan => scan.answers.get(model)).filter(Boolean);
    const failed = scans.filter(scan => scan.failures.has(model)).length;
    slots.progress.max = scans.length;
    slots.progress.value = answers.length + failed;
    slots.progress.hidden = answers.length + failed === scans.length;
    slots.rows.replaceChildren(...scans.map(scan => row(scan, model)));
    slots.summary.textContent = summary(answers, failed, model);
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
    slots.label.append(make("span", className(answer.label), { className: answer.abstain ? "doubted" : "answered" }));
    slots.probability.textContent = percent(answer.probabilities[answer.label]);
    slots.set.textContent = answer.set.map(className).join(", ") || "none";
    if (answer.abstain) slots.remark.append(make("span", "abstains", { className: "tag warn" }), " ", answer.reasons.map(reason => reason.detail).join(" "));
  } else if (failure) {
    slots.label.append(make("span", "no answer", { className: "tag bad" }));
    slots.remark.textContent = failure;
  } else {
    slots.label.append(make("span", "waiting", { className: "hint" }));
  }
  return root;
}

function summary(answers, failed, model) {
  const counts = new Map();
  for (const { label } of answers) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${className(label).toLowerCase()} ${n}`);
  const abstaining = answers.filter(answer => answer.abstain).length;
  if (abstaining) parts.push(`abstained on ${abstaining} of them`);
  if (failed) parts.push(`unreadable ${failed}`);
  return `${modelName(model)} on ${scans.length} ${scans.length === 1 ? "file" : "files"}: ${parts.join(", ") || "asking"}.`;
}
