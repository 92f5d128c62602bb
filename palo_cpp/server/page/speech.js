// What screen readers say: messages of the page, and answers, sentence by sentence.

import { languages, text } from "./texts.js";

const N_MESSAGES = 4;

const said = document.getElementById("said");
const spoken = document.getElementById("spoken");

// Two equal messages in a row are both said, and two at once as well: each is a node of its own, and stays a while.
export function announce(key, values) {
  const message = document.createElement("p");
  message.textContent = text(key, values);
  said.append(message);
  if (said.childElementCount > N_MESSAGES) said.firstElementChild.remove();
}

// Says the whole sentences of an answer as it grows.
export class Speaker {
  constructor(code) {
    this.code = code;
    this.rest = "";
    this.segmenter = "Segmenter" in Intl ? new Intl.Segmenter(code, { granularity: "sentence" }) : null;
    spoken.replaceChildren();
  }

  add(piece) {
    this.rest += piece;
    const sentences = this.sentences();
    // The last one may go on.
    this.rest = sentences.pop() ?? "";
    sentences.forEach((sentence) => this.say(sentence));
  }

  end() {
    this.say(this.rest);
    this.rest = "";
  }

  sentences() {
    if (this.segmenter) return Array.from(this.segmenter.segment(this.rest), (found) => found.segment);
    return this.rest.split(/(?<=[.!?\u0964\u06d4\u061f\u3002\uff01\uff1f]["\u201d\u300d)]?\s*)(?=\S)/u);
  }

  say(sentence) {
    if (!sentence.trim()) return;
    const node = document.createElement("p");
    node.lang = this.code;
    node.dir = languages[this.code].direction;
    node.textContent = sentence.trim();
    spoken.append(node);
  }
}
