// Everything that is said to the server, and how its failures are told to a person.

const LONGEST_LINE = 32e6; // characters of one event; a server that sends more is not ours

let key = "";

/** The key that is sent with every request from now on; empty for none. */
export function useKey(text) {
  key = text;
}

/** A request that failed: `title` and `advice` are for people, `kind` for the page. */
export class RequestError extends Error {
  constructor(kind, title, advice) {
    super(title);
    Object.assign(this, { kind, title, advice });
  }
}

/** The models: [{id, contextLength, about}]. */
export async function listModels() {
  const answer = await json(await request("v1/models"));
  const models = (Array.isArray(answer?.data) ? answer.data : []).filter((model) => typeof model?.id === "string");
  if (models.length === 0) throw new RequestError("server", "The server names no model.", "Start it again, with a model: halfbyte serve -m MODEL.");
  return models.map(({ id, context_length: length, architecture, chat_template: template }) => {
    const contextLength = Number.isInteger(length) && length > 0 ? length : null;
    const about = [architecture, contextLength && `context of ${contextLength} tokens`, template && `template ${template}`];
    return { id, contextLength, about: about.filter(Boolean).join(", ") };
  });
}

/** How many tokens a text has. */
export async function countTokens(text, signal) {
  const answer = await json(await request("tokenize", { content: text }, signal));
  const count = answer?.count ?? answer?.tokens?.length;
  if (!Number.isInteger(count)) throw malformed();
  return count;
}

/**
 * Asks for an answer and yields {text}, {finish} and {usage: {prompt, answer}} as they come.
 * Ends without an error only when the server has said that the answer is complete.
 */
export async function* streamAnswer(body, signal) {
  const response = await request("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  let finished = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const event = parse(data);
    if (event.error) throw failure(500, event.error);
    const choice = event.choices?.[0];
    const text = choice?.delta?.content;
    if (typeof text === "string" && text !== "") yield { text };
    if (choice?.finish_reason) {
      finished = true;
      yield { finish: choice.finish_reason };
    }
    const usage = event.usage;
    if (Number.isInteger(usage?.prompt_tokens)) yield { usage: { prompt: usage.prompt_tokens, answer: usage.completion_tokens ?? 0 } };
  }
  if (!finished) throw brokenOff();
}

/** The `data:` of each server-sent event. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = []; // of a line that is not complete; joined once, so that a long line costs no more than its length
  let length = 0;
  try {
    for (;;) {
      const { value, done } = await lostIsCut(reader.read());
      if (done) return;
      const lines = value.split("\n");
      for (const [at, line] of lines.entries()) {
        pieces.push(line);
        length += line.length;
        if (length > LONGEST_LINE) throw malformed();
        if (at === lines.length - 1) break;
        const whole = pieces.join("").trim();
        pieces = [];
        length = 0;
        if (whole.startsWith("data:")) yield whole.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // tells the server to stop working for us
  }
}

const brokenOff = () => new RequestError("cut", "The answer broke off.", "The connection to the server was lost. Try again.");

function lostIsCut(reading) {
  return reading.catch((error) => {
    if (error.name === "AbortError") throw error;
    throw brokenOff();
  });
}

async function request(path, body, signal) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("offline", "The server does not answer.", "Look whether halfbyte serve is still running, then try again.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw failure(response.status, said?.error ?? {}, response.headers.get("Retry-After"));
}

async function json(response) {
  return parse(await response.text());
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === "object") return value;
  } catch {
    // told below
  }
  throw malformed();
}

const malformed = () =>
  new RequestError("server", "The server's answer could not be read.", "Something else than halfbyte may be answering at this address.");

/** What a refusal means, by status. */
function failure(status, error, retryAfter = null) {
  const words = String((typeof error === "string" ? error : error?.message) ?? "").slice(0, 1000);
  const said = words && `It says: ${/[.!?]$/.test(words) ? words : `${words}.`}`;
  if (status === 401) {
    return new RequestError("key", "The server wants an API key.", "Enter the key that halfbyte serve was started with.");
  }
  const wait = /^\d{1,4}$/.test(retryAfter ?? "") ? `in ${retryAfter} s` : "in a moment";
  if (status === 429) return new RequestError("busy", "The server is busy.", `Others are being answered. Try again ${wait}.`);
  if (status === 503) return new RequestError("busy", "The server cannot answer now.", `${said} Try again ${wait}.`.trim());
  if (status === 413) {
    return new RequestError("refused", "This is too much text for the server.", "Send less of it, or start the server with a higher limit.");
  }
  if (error?.code === "context_length_exceeded") {
    return new RequestError("full", "This conversation no longer fits into the model's context.",
      "Leave out the oldest messages, shorten the last one, or start a new conversation.");
  }
  if (status >= 500) return new RequestError("server", "The server failed.", said || "Try again; its log says more.");
  return new RequestError("refused", "The server did not accept this.", said || `It answered with status ${status}.`);
}
