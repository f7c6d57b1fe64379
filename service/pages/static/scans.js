// The scans of this visit, and every answer that was given on them.
import * as api from "./api.js";
import { NO_METHOD, sentence } from "./names.js";

const BATCH = 8; // files per request, so that progress shows and no request grows large

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
      if (!known) this.failures.set(model, failure.message);
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

/** Ask for every scan that `model` has said nothing of; calls `progress` after each part. Stops when `wanted()` is false. */
export async function predictAll(model, progress, wanted) {
  const waiting = scans.filter(scan => !scan.answers.has(model) && !scan.failures.has(model));
  for (let start = 0; start < waiting.length && wanted(); start += BATCH) {
    const part = waiting.slice(start, start + BATCH);
    const predictions = await api.predictBatch(part.map(scan => scan.file), model);
    for (const { index, prediction, error } of predictions) {
      if (prediction) part[index].learn(model, prediction);
      else part[index].failures.set(model, sentence(error.detail));
    }
    progress();
  }
}
