// The scans of this visit, and every answer that was given on them.
import * as api from "./api.js";
import { NO_METHOD, sentence } from "./names.js";

const BATCH = 8; // files per request, so that progress shows
const BATCH_BYTES = 15e6; // of their files: the service takes 20 MB by default, and a form is larger than what it holds

/** A file and what networks said of it. `answers` and `failures` are by model. */
class Scan {
  constructor(id, file) {
    this.id = id;
    this.file = file;
    this.name = file.name;
    this.answers = new Map();
    this.confirmed = ""; // the class that somebody told the service
    this.failures = new Map();
    this.preview = /^image\/(png|jpeg)$/.test(file.type) ? URL.createObjectURL(file) : null;
  }

  /** The answer of a model with the map of `method`, if any; asks the service for what isn't known yet. */
  async explained(model, method) {
    const known = this.answers.get(model);
    // Answers of a batch have no request of their own.
    if (known?.explanations[method] || (method === NO_METHOD && known?.request_id)) return known;
    try {
      return this.learn(model, await api.predict(this.file, model, method));
    } catch (failure) {
      if (!known) this.failures.set(model, failure);
      throw failure;
    }
  }

  learn(model, answer) {
    const known = this.answers.get(model);
    const explanations = { ...known?.explanations, ...answer.explanations };
    // What the networks together said against it (consensus) still holds when another map is asked for.
    const reasons = [...answer.reasons];
    for (const reason of known?.reasons ?? []) if (!reasons.some(({ code }) => code === reason.code)) reasons.push(reason);
    const merged = { ...answer, scan: answer.scan ?? known?.scan, explanations, reasons, abstain: reasons.length > 0, time: new Date() };
    this.answers.set(model, merged);
    this.failures.delete(model);
    return merged;
  }
}

export const scans = [];

export function add(files) {
  const added = [...files].map((file, i) => new Scan(scans.length + i + 1, file));
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
      if (failure.status === 413 && part.length > 1) queue.unshift(...part.map(scan => [scan]));
      else for (const scan of part) scan.failures.set(model, failure);
    }
    progress();
  }
}

async function predictPart(part, model, wanted) {
  const predictions = await api.predictBatch(part.map(scan => scan.file), model, wanted);
  for (const { index, prediction, error } of predictions) {
    if (prediction) part[index].learn(model, prediction);
    else part[index].failures.set(model, new api.Failure(sentence(error.detail), api.UNREADABLE));
  }
}

/** Whether asking again would fail again, for the file is at fault. */
const isFinal = failure => failure?.status >= 400 && failure.status < 500;

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
