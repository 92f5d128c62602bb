// Requests to the server that this page came from, and to no other.

import { keep, kept } from "./texts.js";

// A request that brought no answer; `kind` is one of the page's texts, `detail` the server's own sentence.
export class Refused extends Error {
  constructor(kind, { detail = "", retryAfter = 0 } = {}) {
    super(kind);
    this.kind = kind;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

export function setKey(key) {
  keep("sessionStorage", "palo.key", key);
}

function kindOf(status, code, message) {
  if (status === 401) return "keyMissing";
  if (status === 503 || code === "busy") return "busy";
  if (status === 413) return "tooLarge";
  if (code === "context_length_exceeded") return "tooLong";
  if (code === "invalid_image") return /pixel/.test(message) ? "tooLarge" : "notPicture";
  return "failed";
}

function refusal(status, error, retryAfter = 0) {
  const message = error?.message ?? "";
  return new Refused(kindOf(status, error?.code, message), { detail: message, retryAfter });
}

async function request(path, body, signal) {
  const headers = { Accept: "application/json, text/event-stream" };
  const key = kept("sessionStorage", "palo.key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused("notReached");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw refusal(response.status, said.error, Number(response.headers.get("Retry-After")) || 0);
}

// The models that the server has.
export async function models(signal) {
  const response = await request("/v1/models", null, signal);
  return (await response.json()).data;
}

// The data of server-sent events as they come; throws where the answer ends before its end.
export async function* events(path, body, signal) {
  const response = await request(path, body, signal);
  let isComplete = false;
  for await (const line of lines(response.body, signal)) {
    isComplete ||= line === "data: [DONE]";
    if (isComplete || !line.startsWith("data: ")) continue;
    const found = JSON.parse(line.slice(6));
    if (found.error) throw refusal(0, found.error);
    yield found;
  }
  if (!isComplete) throw new Refused("lost");
}

async function* lines(body, signal) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let isRead = false;
  try {
    while (!isRead) {
      const { done, value } = await reader.read();
      isRead = done;
      const found = (rest + decoder.decode(value, { stream: !done })).split("\n");
      rest = found.pop();
      yield* found;
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused("lost");
  } finally {
    if (!isRead) reader.cancel().catch(() => {});
  }
}
