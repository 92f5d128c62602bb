// A conversation: what was said, and how the next question is answered.

import { askForKey, notice } from "./notices.js";
import { Picture, limits } from "./pictures.js";
import { Refused, events } from "./server.js";
import { Speaker, announce } from "./speech.js";

const N_TRIES = 6;

function contentOf({ text, picture }) {
  const parts = picture ? [{ type: "image_url", image_url: { url: picture.data } }] : [];
  return text ? [...parts, { type: "text", text }] : parts;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

// One question, before, while and after it is answered.
export class Turn {
  constructor(fields) {
    Object.assign(this, fields); // text, picture, code, isAll, codes, view
    this.answer = "";
  }
}

export class Talk {
  constructor() {
    this.said = [];
    this.pictures = new Set();
    this.stopper = new AbortController();
  }

  // A picture for the next question.
  async picture(file, name) {
    const shown = this.said.filter((turn) => turn.picture);
    if (shown.length >= limits.nImages) throw new Refused("tooMany");
    const taken = shown.reduce((sum, turn) => sum + turn.picture.data.length, 0);
    const picture = new Picture(file, name);
    this.pictures.add(picture);
    await picture.read(limits.bodyBytes * 0.95 - taken);
    return picture;
  }

  // One that was not asked about.
  drop(picture) {
    picture.close();
    this.pictures.delete(picture);
  }

  stop() {
    this.stopper.abort();
  }

  end() {
    this.stop();
    this.pictures.forEach((picture) => picture.close());
  }

  // Answer a question; throws `Refused` where there is no answer.
  async ask(turn) {
    this.stopper = new AbortController();
    turn.begunAt = performance.now();
    turn.answer = "";
    for (let nTries = 1; ; nTries += 1) {
      turn.views = turn.view.begin(turn.codes);
      try {
        await (turn.isAll ? this.describe(turn) : this.complete(turn));
        return;
      } catch (error) {
        this.close(turn);
        if (!(error instanceof Refused) || !(await this.isWorthAnother(turn, error, nTries))) throw error;
      }
    }
  }

  elapsed(turn) {
    return (performance.now() - turn.begunAt) / 1000;
  }

  async complete(turn) {
    const messages = this.said.flatMap((before) => [
      { role: "user", content: contentOf(before) },
      { role: "assistant", content: before.answer },
    ]);
    messages.push({ role: "user", content: contentOf(turn) });
    const view = turn.views.get(turn.code);
    const speaker = new Speaker(turn.code);
    const body = { messages, lang: turn.code, stream: true };
    try {
      for await (const { choices } of events("/v1/chat/completions", body, this.stopper.signal)) {
        const piece = choices[0]?.delta?.content;
        if (piece) {
          view.add(piece);
          speaker.add(piece);
        }
        if (choices[0]?.palo) view.end(choices[0].palo, this.elapsed(turn));
      }
    } finally {
      turn.answer = view.text;
      speaker.end();
      if (view.text) this.remember(turn);
    }
  }

  // An answer that was stopped counts as far as it came; one that is asked for again comes last.
  remember(turn) {
    this.said = [...this.said.filter((other) => other !== turn), turn];
  }

  async describe(turn) {
    const body = { image: turn.picture.data, lang: turn.codes, stream: true };
    if (turn.text) body.question = turn.text;
    const speaker = new Speaker(turn.code);
    for await (const { lang, delta, answer } of events("/v1/describe", body, this.stopper.signal)) {
      const view = turn.views.get(lang);
      if (delta) view.add(delta);
      if (delta && lang === turn.code) speaker.add(delta);
      if (answer) view.end(answer, this.elapsed(turn));
      if (answer && lang === turn.code) speaker.end();
    }
    announce("allDone");
  }

  close(turn) {
    for (const view of turn.views.values()) if (!view.isDone) view.end(null, this.elapsed(turn));
  }

  async isWorthAnother(turn, { kind, retryAfter }, nTries) {
    if (nTries >= N_TRIES || turn.answer) return false;
    if (kind === "keyMissing") return askForKey();
    if (kind === "tooLarge") return this.shrink(turn);
    if (kind !== "busy") return false;
    const seconds = Math.max(1, retryAfter);
    turn.view.note("busyWait", { seconds });
    await pause(seconds, this.stopper.signal);
    return true;
  }

  // Whether a picture could be made smaller.
  async shrink(turn) {
    const large = [...this.said, turn].map(({ picture }) => picture).filter((picture) => picture && !picture.isScaled);
    for (const picture of new Set(large)) {
      await picture.shrink();
      const { width, height } = picture;
      notice("pictureScaled", { width, height });
    }
    return large.length > 0;
  }
}
