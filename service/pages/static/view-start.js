// The view before the first scan: an introduction and the networks.
import { make, stamp } from "./dom.js";
import { modelName } from "./names.js";

export function startView(about) {
  const [root, slots] = stamp("start-view");
  for (const model of about.models) {
    const name = make("th", modelName(model.name), { scope: "row" });
    if (model.name === about.default) name.append(" ", make("span", "default", { className: "tag" }));
    slots.rows.append(
      make("tr", [
        name,
        number(score(model.test?.accuracy)),
        number(score(model.test?.macro_f1)),
        number(String(model.size_px)),
        number(model.size_mb.toFixed(0)),
        make("td", model.precision),
      ]),
    );
  }
  slots.data.textContent =
    `Trained and tested on: ${about.dataset}, version ${about.data_version}. In brackets: 95 % intervals.` +
    (about.synthetic ? " Scores on synthetic images show that the pipeline works; they say nothing about patients." : "");
  return root;
}

const number = text => make("td", text, { className: "number" });
const share = value => (100 * value).toFixed(1);
const score = estimate => (estimate ? `${share(estimate.value)} % [${share(estimate.low)}, ${share(estimate.high)}]` : "–");
