// One scan and what every network says of it, side by side; last, the map that they make together.
import { announce, complain, make, stamp } from "./dom.js";
import { className, count, list, modelName } from "./names.js";
import { chooseAmong, controls, display, showMap, verdict } from "./parts.js";

const TOGETHER = "consensus";

export function compareView(scan, { about, model, wanted }) {
  const [root, slots] = stamp("compare-view");
  const methods = about.methods.filter(method => method !== TOGETHER);
  chooseAmong(methods);
  slots.name.textContent = scan.name;
  slots.back.href = `#/scan/${scan.id}`;
  slots.print.addEventListener("click", () => print());
  slots.controls.append(controls(methods, load));
  slots.controls.hidden = methods.length === 0;
  const cards = about.models.map(({ name }) => card(modelName(name)));
  const joint = about.methods.includes(TOGETHER) ? card("Consensus") : null;
  slots.cards.append(...[...cards, joint].filter(Boolean).map(([element]) => element));
  load();
  if (joint) fillJoint();
  return root;

  async function load() {
    const method = display.method;
    complain("");
    const answers = await Promise.all(about.models.map(({ name }, i) => fill(cards[i][1], name, method)));
    if (!wanted() || !answers.every(Boolean)) return;
    slots.verdict.textContent = agreement(answers);
    announce(slots.verdict.textContent);
  }

  async function fill(card, name, method) {
    const answer = await explained(card, name, method);
    if (!answer || !wanted() || method !== display.method) return answer;
    card.answer.replaceChildren(verdict(answer, ""));
    card.frame.hidden = !answer.scan;
    showMap(card, scan.name, answer, method);
    return answer;
  }

  async function fillJoint() {
    const answer = await explained(joint[1], model, TOGETHER);
    if (!answer || !wanted()) return;
    const { target, agreement } = answer.explanations[TOGETHER];
    showMap(joint[1], scan.name, answer, TOGETHER);
    joint[1].map.alt = `Map of all networks together for ${className(target).toLowerCase()}`;
    joint[1].answer.append(
      make("p", `One map of all networks, for ${className(target).toLowerCase()}.`, { className: "set" }),
      make("p", agreement === null ? "Too few of them are sure of it to measure agreement." :
        `They agree on where to look by ${agreement.toFixed(2)}: 1 when all point to the same pixels, 0 when no two do.`,
      { className: "set" }),
    );
  }

  /** The answer, or null with the failure written on the card. */
  async function explained(card, name, method) {
    card.busy.textContent = "is looking at it …";
    try {
      const answer = await scan.explained(name, method);
      card.busy.textContent = "";
      return answer;
    } catch (failure) {
      card.busy.textContent = failure.message;
      if (wanted()) complain(failure.message);
      return null;
    }
  }
}

function card(title) {
  const [element, slots] = stamp("card");
  slots.title.textContent = title;
  return [element, slots];
}

function agreement(answers) {
  const voters = new Map();
  for (const { label, model } of answers) voters.set(label, [...(voters.get(label) ?? []), modelName(model)]);
  const abstaining = answers.filter(answer => answer.abstain).map(answer => modelName(answer.model));
  const abstains = abstaining.length ? ` ${list(abstaining)} ${abstaining.length === 1 ? "abstains" : "abstain"}.` : "";
  if (voters.size === 1) return `All ${count(answers.length)} find ${className(answers[0].label).toLowerCase()} most probable.${abstains}`;
  const parts = [...voters].map(([label, names]) => `${className(label).toLowerCase()} (${list(names)})`);
  return `The networks disagree: ${list(parts)}.${abstains}`;
}
