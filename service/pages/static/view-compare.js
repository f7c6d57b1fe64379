// One scan with the answers of all networks side by side, and their consensus last.
import { announce, complain, make, stamp } from "./dom.js";
import { className, count, drawnSentence, list, methodName, modelName, NO_METHOD } from "./names.js";
import { chooseAmong, controls, display, hideMap, showMap, verdict } from "./parts.js";

const TOGETHER = "consensus", BUSY = "is looking at it …";

export function compareView(scan, { about, model, wanted, changed }) {
  const [root, slots] = stamp("compare-view");
  const methods = about.methods.filter(method => method !== TOGETHER);
  const names = about.models.map(({ name }) => name);
  chooseAmong(methods);
  slots.name.textContent = scan.name;
  slots.drawn.textContent = drawnSentence(scan, about);
  slots.back.href = `#/scan/${scan.id}`;
  slots.print.addEventListener("click", () => print());
  slots.controls.append(controls(methods, load)[0]);
  slots.controls.hidden = methods.length === 0;
  const cards = names.map(name => card(modelName(name)));
  const joint = about.methods.includes(TOGETHER) ? card("Consensus") : null;
  slots.cards.append(...[...cards, joint].filter(Boolean).map(([element]) => element));
  load();
  if (joint) fillJoint(joint[1]);
  return root;

  function load() {
    complain("");
    names.forEach((name, i) => fill(cards[i][1], name, display.method));
  }

  async function fill(card, name, method) {
    const isChosen = () => wanted() && method === display.method;
    card.explained.hidden = method === NO_METHOD;
    card.busy.textContent = scan.answers.has(name) ? "" : BUSY;
    if (!scan.known(name, method)) hideMap(card, `${methodName(method)} …`);
    try {
      const answer = await scan.explained(name, method, isChosen);
      if (!isChosen()) return;
      card.busy.textContent = "";
      showMap(card, scan.name, answer, method);
    } catch (failure) {
      if (!isChosen()) return;
      fail(card, scan.answers.get(name), `No map by ${methodName(method)}.`, failure);
    }
    update();
  }

  async function fillJoint(card) {
    card.busy.textContent = BUSY;
    try {
      const answer = await scan.explained(model, TOGETHER, wanted);
      if (!wanted()) return;
      card.busy.textContent = "";
      showJoint(card, answer);
      update();
    } catch (failure) {
      if (wanted()) fail(card, null, "No map.", failure);
    }
  }

  function showJoint(card, answer) {
    const { target, agreement } = answer.explanations[TOGETHER];
    showMap(card, scan.name, answer, TOGETHER);
    card.map.alt = `Map of all networks together for ${className(target).toLowerCase()}`;
    card.caption.textContent = `Consensus for ${className(target).toLowerCase()}`; // their agreement is shown beside it
    card.answer.append(
      make("p", "One map of all networks, each weighted by its confidence in that class.", { className: "set" }),
      make("p", agreement === null ? "Too few of them are confident to measure agreement." :
        `Agreement on where to look: ${agreement.toFixed(2)} (1 if all maps point to the same pixels, 0 if no two do).`,
      { className: "set" }),
    );
  }

  /** Update every verdict: each answer may show that the networks disagree. */
  function update() {
    const answers = names.map(name => scan.answers.get(name));
    answers.forEach((answer, i) => answer && cards[i][1].answer.replaceChildren(verdict(answer, "")));
    changed();
    if (!answers.every(Boolean) || slots.verdict.textContent === agreement(answers)) return;
    slots.verdict.textContent = agreement(answers);
    announce(slots.verdict.textContent);
  }
}

function fail(card, answer, what, failure) {
  hideMap(card, answer ? `${what} ${failure.message}` : what);
  card.busy.textContent = answer ? "" : failure.message;
  complain(failure.message);
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
  const who = abstaining.length > 1 && abstaining.length === answers.length ? `All ${count(answers.length)}` : list(abstaining);
  const abstains = abstaining.length ? ` ${who} ${abstaining.length === 1 ? "abstains" : "abstain"}.` : "";
  if (voters.size === 1) return `All ${count(answers.length)} find ${className(answers[0].label).toLowerCase()} most probable.${abstains}`;
  const parts = [...voters].map(([label, names]) => `${className(label).toLowerCase()} (${list(names)})`);
  return `The networks disagree: ${list(parts)}.${abstains}`;
}
