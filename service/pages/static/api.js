// The API as the page uses it: answers as objects, failures as sentences.
import { sentence } from "./names.js";

const TIMEOUT_SECONDS = 60;

/** A request that failed; the message is a sentence for people. */
export class Failure extends Error {}

async function request(path, body, headers = {}) {
  const aborter = new AbortController();
  const timer = setTimeout(() => aborter.abort(), TIMEOUT_SECONDS * 1000);
  let response, text;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal: aborter.signal });
    text = await response.text();
  } catch {
    throw new Failure(
      aborter.signal.aborted
        ? `The service did not answer within ${TIMEOUT_SECONDS} seconds: it may be busy, try again in a moment.`
        : "The service can't be reached: check that it runs and that you are connected, then try again.",
    );
  } finally {
    clearTimeout(timer);
  }
  const answer = parsed(text);
  if (response.ok && (answer !== null || response.status === 204)) return answer;
  throw new Failure(
    typeof answer?.detail === "string"
      ? sentence(answer.detail)
      : `The service could not answer (status ${response.status}): try again, or look at its log.`,
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value);
  return data;
}

export const models = () => request("models");

export const schema = () => request("docs.json");

/** One file's answer, with the map of one method. */
export const predict = (file, model, method) =>
  request("predict", form([["image", file], ["model", model], ["explain", method]]));

/** Tell the confirmed class of an answered request. */
export const feedback = (requestId, label) =>
  request("feedback", JSON.stringify({ request_id: requestId, label }), { "Content-Type": "application/json" });

/** [{index, prediction} or {index, error}] in the order of the files. */
export const predictBatch = async (files, model) =>
  (await request("predict_batch", form([...files.map(file => ["images", file]), ["model", model]]))).predictions;
