// The session's results as a table for other programs: a row for each answer, or for each file that has none.

const FACTS = ["model", "model_version", "dataset", "data_version", "request_id"];

/** Download the answers of all networks for these scans. classes: the names of all classes. */
export function saveTable(scans, classes) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table(scans, classes)], { type: "text/csv" }));
  link.download = "results.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function table(scans, classes) {
  const head = ["file", "label", "abstain", "reasons", "set", ...classes.map(name => `p_${name}`), ...FACTS, "confirmed", "error"];
  return [head, ...scans.flatMap(scan => rows(scan, classes))].map(row => `${row.map(cell).join(",")}\r\n`).join("");
}

function rows(scan, classes) {
  const answered = [...scan.answers.values()].map(answer => [
    scan.name,
    answer.label,
    answer.abstain,
    answer.reasons.map(reason => reason.code).join(" "),
    answer.set.join(" "),
    ...classes.map(name => answer.probabilities[name]),
    ...FACTS.map(name => answer[name]),
    scan.confirmed.get(answer.request_id) ?? "",
    "",
  ]);
  const failed = [...scan.failures].map(([model, failure]) => [
    scan.name, ...Array(4 + classes.length).fill(""), model, ...Array(FACTS.length).fill(""), failure.message,
  ]);
  return [...answered, ...failed];
}

/** Quote a cell; a name that a spreadsheet would take for a formula becomes text. */
function cell(value) {
  const text = String(value);
  return `"${(/^[=+\-@\t]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
