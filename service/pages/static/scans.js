// The scans of this visit, and every answer that was given on them.
import * as api from "./api.js";
import { NO_METHOD, sentence } from "./names.js";

const BATCH = 8; // files per request, so that progress shows
const BATCH_BYTES = 15e6; // of their files: the service takes 20 MB by default, and a form is larger than what it holds
const CHEAP = new Set([NO_METHOD, "gradcam"]); // the service explains otherwise for a few at a time only
const DISAGREE = "models_disagree";

let turn = Promise.resolve();
let latest = 0; // the number of the scan that came last; none is given twice, as addresses in the history name them

/** Do `task` when those before it are done: one page alone never fills the places that a service has for all. */
function inTurn(task) {
  const done = turn.then(task);
  turn = done.catch(() => {});
  return done;
}

/** A file and what networks said of it. `answers` and `failures` are by model. drawn: whether it is the page's sample. */
class Scan {
  constructor(id, file, drawn) {
    this.id = id;
    this.file = file;
    this.drawn = drawn;
    this.name = file.name;
    this.answers = new Map();
    this.confirmed = new Map(); // by request, the class that somebody told the service
    this.failures = new Map();
    this.preview = /^image\/(png|jpeg)$/.test(file.type) ? URL.createObjectURL(file) : null;
  }

  /** The answer of a model with the map of `method`, if that is known; null otherwise. */
  known(model, method) {
    const answer = this.answers.get(model);
    return answer?.explanations[method] || (method === NO_METHOD && answer) ? answer : null;
  }

  /** The same, asking the service for what isn't known yet; null where that was no longer `wanted()`. */
  async explained(model, method, wanted) {
    const ask = async () => {
      if (this.known(model, method) || !wanted()) return this.known(model, method);
      return this.learn(model, await api.predict(this.file, model, method, this.answers.has(model), wanted));
    };
    try {
      return await (CHEAP.has(method) || this.known(model, method) ? ask() : inTurn(ask));
    } catch (failure) {
      if (!this.answers.has(model)) this.failures.set(model, failure);
      throw failure;
    }
  }

  learn(model, answer) {
    const known = this.answers.get(model);
    const explanations = { ...known?.explanations, ...answer.explanations };
    // The first request on a file is the one that counts, and that feedback is about.
    const request_id = known?.request_id ?? answer.request_id;
    this.answers.set(model, { ...answer, request_id, scan: answer.scan ?? known?.scan, explanations, time: new Date() });
    this.failures.delete(model);
    this.disagreement ??= answer.reasons.find(({ code }) => code === DISAGREE);
    // That the networks disagree (consensus) speaks against each of them, whichever was asked and whatever is asked next.
    if (this.disagreement) for (const [name, one] of this.answers) this.answers.set(name, doubted(one, this.disagreement));
    return this.answers.get(model);
  }
}

function doubted(answer, reason) {
  const others = answer.reasons.filter(({ code }) => code !== reason.code);
  return { ...answer, reasons: [...others, reason], abstain: true };
}

export const scans = [];

export function add(files, drawn = false) {
  const added = [...files].map(file => new Scan(++latest, file, drawn));
  scans.push(...added);
  return added;
}

export function find(id) {
  return scans.find(scan => scan.id === id);
}

export function clear() {
  for (const scan of scans) if (scan.preview) URL.revokeObjectURL(scan.preview);
  scans.length = 0;
}

/**
 * Ask for every scan that `model` has said nothing of, and again for those where the service was at fault; calls
 * `progress` after each part. Stops when `wanted()` is false.
 */
export async function predictAll(model, progress, wanted) {
  const waiting = scans.filter(scan => !scan.answers.has(model) && !isFinal(scan.failures.get(model)));
  for (const scan of waiting) scan.failures.delete(model);
  const queue = parts(waiting);
  while (queue.length && wanted()) {
    const part = queue.shift();
    try {
      await predictPart(part, model, wanted);
    } catch (failure) {
      // A service with a lower limit may still take each file on its own.
      if (failure.status === api.TOO_LARGE && part.length > 1) queue.unshift(...part.map(scan => [scan]));
      else for (const scan of part) scan.failures.set(model, failure);
    }
    progress();
  }
}

async function predictPart(part, model, wanted) {
  const predictions = await api.predictBatch(part.map(scan => scan.file), model, wanted);
  for (const { index, request_id, prediction, error } of predictions) {
    if (prediction) part[index].learn(model, { ...prediction, request_id });
    else part[index].failures.set(model, new api.Failure(sentence(error.detail), api.UNREADABLE));
  }
}

/** Whether asking again would fail again, for the file is at fault. */
const isFinal = failure => [api.UNREADABLE, api.TOO_LARGE].includes(failure?.status);

/** The scans in parts, none with too many files or bytes. */
function parts(waiting) {
  const found = [];
  let bytes = 0;
  for (const scan of waiting) {
    bytes += scan.file.size;
    if (found.length && found.at(-1).length < BATCH && bytes <= BATCH_BYTES) found.at(-1).push(scan);
    else {
      found.push([scan]);
      bytes = scan.file.size;
    }
  }
  return found;
}
