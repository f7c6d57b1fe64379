// The API's client: answers become objects, failures become sentences.
import { sentence } from "./names.js";

const TIMEOUT_SECONDS = 60; // for a request with all its repetitions
export const UNREADABLE = 422, TOO_LARGE = 413;
const UNREACHABLE = "The service can't be reached: check that it runs and that you are connected, then try again.";
const RETRIES = 4, LONGEST_PAUSE_SECONDS = 10;

/** A failed request; the message is a sentence for people. status: of the answer, 0 without an answer. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Return the answer as an object. A busy service is asked again after pauses that double, while `wanted()`. */
async function request(path, body, { headers = {}, wanted = () => true } = {}) {
  const aborter = new AbortController();
  const timer = setTimeout(() => aborter.abort(), TIMEOUT_SECONDS * 1000);
  const options = { method: body ? "POST" : "GET", body, headers, signal: aborter.signal };
  try {
    let response = await send(path, options);
    for (let retry = 0; retry < RETRIES && response.pause <= LONGEST_PAUSE_SECONDS; retry++) {
      await sleep(response.pause * 2 ** retry);
      if (!wanted()) break;
      response = await send(path, options);
    }
    return answerOf(response);
  } finally {
    clearTimeout(timer);
  }
}

/** Return a file of the service as a blob. */
export async function file(address) {
  const response = await fetch(address).catch(() => { throw new Failure(UNREACHABLE); });
  if (!response.ok) throw new Failure(`The service could not send ${address.split("/").at(-1)} (status ${response.status}): try again.`);
  return response.blob();
}

/** Return {ok, status, text, pause}; pause: seconds until a busy service may be asked again, or NaN. */
async function send(path, options) {
  try {
    const response = await fetch(path, options);
    const { ok, status, headers } = response;
    return { ok, status, text: await response.text(), pause: status === 503 ? parseFloat(headers.get("Retry-After")) : NaN };
  } catch {
    throw new Failure(
      options.signal.aborted
        ? `The service did not answer within ${TIMEOUT_SECONDS} seconds: it may be busy, try again in a moment.`
        : UNREACHABLE,
    );
  }
}

const sleep = seconds => new Promise(done => setTimeout(done, 1000 * seconds));

function answerOf({ ok, status, text }) {
  const answer = parsed(text);
  if (ok && (answer !== null || status === 204)) return answer;
  throw new Failure(
    typeof answer?.detail === "string"
      ? sentence(answer.detail)
      : `The service could not answer (status ${status}): try again, or look at its log.`,
    status,
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

/** Return the answer for a file, with the map of one method. again: whether this model answered for it before. */
export const predict = (file, model, method, again, wanted) =>
  request("predict", form([["image", file], ["model", model], ["explain", method], ["again", again]]), { wanted });

/** Send the confirmed class of an answered request. */
export const feedback = (requestId, label) =>
  request("feedback", JSON.stringify({ request_id: requestId, label }), { headers: { "Content-Type": "application/json" } });

/** Return [{index, prediction} or {index, error}] in the order of the files. */
export const predictBatch = async (files, model, wanted) => {
  const body = form([...files.map(file => ["images", file]), ["model", model]]);
  return (await request("predict_batch", body, { wanted })).predictions;
};
