// The scans that the page was given since it was loaded, with all answers for them.
import * as api from "./api.js";
import { NO_METHOD, sentence } from "./names.js";

const BATCH = 8; // files per request, so that progress shows
const BATCH_BYTES = 15e6; // of their files: the service takes forms of 20 MB by default, and a form is larger than its files
const CHEAP = new Set([NO_METHOD, "gradcam"]); // the service limits how many others it explains at a time
const DISAGREE = "models_disagree";

let turn = Promise.resolve();
let latest = 0; // the newest scan's number; none is used twice, as addresses in the history name them

/** Run `task` after those before it: one page alone never takes all of the service's slots. */
function inTurn(task) {
  const result = turn.then(task);
  turn = result.catch(() => {});
  return result;
}

/** A file with the networks' answers. `answers` and `failures` are by model. drawn: whether it is one of the samples. */
class Scan {
  constructor(id, file, drawn) {
    this.id = id;
    this.file = file;
    this.drawn = drawn;
    this.name = file.name;
    this.answers = new Map();
    this.confirmed = new Map(); // by request id: the class that was sent as feedback
    this.failures = new Map();
    this.preview = /^image\/(png|jpeg)$/.test(file.type) ? URL.createObjectURL(file) : null;
  }

  /** Return a model's answer if it has the map of `method`, otherwise null. */
  known(model, method) {
    const answer = this.answers.get(model);
    return answer?.explanations[method] || (method === NO_METHOD && answer) ? answer : null;
  }

  /** The same, but ask the service for what is missing; null if it was no longer `wanted()`. */
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
    // The first request for a file is the one that counts, and that feedback is for.
    const request_id = known?.request_id ?? answer.request_id;
    this.answers.set(model, { ...answer, request_id, scan: answer.scan ?? known?.scan, explanations, time: new Date() });
    this.failures.delete(model);
    this.disagreement ??= answer.reasons.find(({ code }) => code === DISAGREE);
    // Disagreement of the networks (consensus) is a reason against each answer, earlier and later ones too.
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
 * Ask `model` about every scan without its answer, except where the file was at fault. Calls `progress` after each
 * part, and stops when `wanted()` is false.
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
      // A service with a lower limit may still take the files one by one.
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

/** Whether another request would fail as well, because of the file. */
const isFinal = failure => [api.UNREADABLE, api.TOO_LARGE].includes(failure?.status);

/** Divide scans into parts without too many files or bytes. */
function parts(waiting) {
  const batches = [];
  let bytes = 0;
  for (const scan of waiting) {
    bytes += scan.file.size;
    if (batches.length && batches.at(-1).length < BATCH && bytes <= BATCH_BYTES) batches.at(-1).push(scan);
    else {
      batches.push([scan]);
      bytes = scan.file.size;
    }
  }
  return batches;
}
