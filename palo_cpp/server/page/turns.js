// How a question and its answers are shown.

import { announce } from "./speech.js";
import { element, languages, refresh } from "./texts.js";

let nTurns = 0;

// One answer, in one language.
export class AnswerView {
  constructor(code, isNamed) {
    this.code = code;
    this.written = document.createTextNode("");
    this.waiting = element("span", { class: "waiting", data: { text: "answering" } });
    this.body = element("p", { class: "written", "aria-busy": "true" }, this.written);
    this.setLanguage(code);
    this.notes = element("div", { class: "notes" });
    this.node = element(isNamed ? "li" : "div", { class: "answer" }, this.waiting, this.body, this.notes);
    if (isNamed) this.node.prepend(element("h3", { lang: code, dir: languages[code].direction }, languages[code].name));
    this.isNamed = isNamed;
    this.isDone = false;
  }

  get text() {
    return this.written.data;
  }

  setLanguage(code) {
    this.body.lang = code;
    this.body.dir = languages[code].direction;
  }

  add(piece) {
    this.waiting.remove();
    this.written.appendData(piece);
  }

  // `told` is what the server says of the answer; null where it was stopped.
  end(told, elapsed) {
    this.isDone = true;
    this.waiting.remove();
    this.body.removeAttribute("aria-busy");
    if (told && Object.hasOwn(languages, told.language_detected ?? "")) this.setLanguage(told.language_detected);
    if (told?.finish_reason === "length") this.note("cutOff");
    if (told?.n_turns_dropped) this.note("turnsDropped");
    if (told?.language_ok === false) this.note("otherLanguage");
    if (this.text) this.node.append(element("div", { class: "tools" }, this.copyButton(), details(told, elapsed)));
  }

  note(key) {
    this.notes.append(element("p", { data: { text: key } }));
  }

  copyButton() {
    const label = this.isNamed ? "copyIn" : "copyLabel";
    const values = { language: languages[this.code].name };
    const button = element("button", { type: "button", class: "copy", data: { text: "copy", label }, values });
    button.addEventListener("click", async () => announce((await copied(this.text)) ? showCopied(button) : "copyFailed"));
    return button;
  }
}

function showCopied(button) {
  button.dataset.text = "copied";
  refresh(button);
  setTimeout(() => {
    button.dataset.text = "copy";
    refresh(button);
  }, 2000);
  return "copied";
}

// Browsers have a clipboard only for pages of this machine or over https; the old way works elsewhere.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {}
  const before = document.activeElement;
  const area = element("textarea", { class: "unseen", readonly: "", "aria-hidden": "true" }, text);
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return isCopied;
}

function details(told, elapsed) {
  const rows = [["totalTime", elapsed, "second"]];
  if (told) {
    rows.push(["firstToken", told.first_token_s, "second"]);
    if (told.decode_s > 0) rows.push(["speed", told.n_generated / told.decode_s]);
    rows.push(["promptTokens", told.n_prompt_tokens], ["cachedTokens", told.n_cached_tokens]);
    if (told.n_repeated_tokens) rows.push(["repeatedTokens", told.n_repeated_tokens]);
    rows.push(["answerTokens", told.n_generated], ["picturesEncoded", told.n_images_encoded]);
  }
  const list = element("dl");
  for (const [key, number, unit] of rows) {
    const data = unit ? { number, unit } : { number };
    list.append(element("div", {}, element("dt", { data: { text: key } }), element("dd", { data })));
  }
  return element("details", {}, element("summary", { data: { text: "details" } }), list);
}

// A question, and the answers to it.
export class TurnView {
  constructor({ text, picture, isAll }) {
    const id = `turn-${(nTurns += 1)}`;
    const title = text ? element("h2", { id, dir: "auto" }, text) : element("h2", { id, data: { text: "describe" } });
    const asked = element("div", { class: "asked" }, title);
    if (picture?.width) {
      const data = { alt: "pictureAlt" };
      asked.prepend(element("img", { src: picture.url, data, values: { name: picture.name } }));
    } else if (picture) asked.prepend(element("p", { dir: "auto", class: "file" }, picture.name));
    this.answers = element(isAll ? "ul" : "div", { class: isAll ? "answers side-by-side" : "answers" });
    this.notes = element("div", { class: "notes" });
    this.node = element("article", { class: "turn", "aria-labelledby": id }, asked, this.answers, this.notes);
    this.isAll = isAll;
  }

  // Begin, or begin once more.
  begin(codes) {
    const views = codes.map((code) => new AnswerView(code, this.isAll));
    this.answers.replaceChildren(...views.map((view) => view.node));
    this.notes.replaceChildren();
    return new Map(codes.map((code, i) => [code, views[i]]));
  }

  note(key, values) {
    this.notes.replaceChildren(element("p", { data: { text: key }, values }));
    announce(key, values);
  }

  fail({ kind, detail }, retry) {
    const button = element("button", { type: "button", class: "retry", data: { text: "retry" } });
    button.addEventListener("click", retry);
    this.note(kind);
    this.notes.firstChild.classList.add("error");
    if (detail) {
      const summary = element("summary", { data: { text: "serverSaid" } });
      this.notes.append(element("details", {}, summary, element("p", { lang: "en", dir: "ltr" }, detail)));
    }
    this.notes.append(button);
  }
}
