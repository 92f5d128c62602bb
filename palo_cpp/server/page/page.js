// The page: what its buttons do.

import { askForKey, notice, withdraw } from "./notices.js";
import { limits } from "./pictures.js";
import { Refused, models } from "./server.js";
import { announce } from "./speech.js";
import { Talk, Turn } from "./talk.js";
import { begin, choose, element, keep, kept, language, languages, text } from "./texts.js";
import { TurnView } from "./turns.js";

const RETRY_MS = 3000;

const at = (id) => document.getElementById(id);
const question = at("question");

let talk = new Talk();
let codes = Object.keys(languages);
let picture = null;
let reading = Promise.resolve();
let isAnswering = false;
let isAnswerLanguageChosen = false;
let isLookingForServer = false;
let metModel = null;

// The languages

function option(code) {
  const { name, direction } = languages[code];
  return element("option", { value: code, lang: code, dir: direction }, name);
}

function showAnswerLanguages() {
  const select = at("answer-language");
  const before = isAnswerLanguageChosen ? select.value : language();
  select.replaceChildren(...codes.map(option));
  select.value = codes.includes(before) ? before : codes[0];
  markLanguage(select);
}

// A closed picker shows a word of the language that is chosen.
function markLanguage(select) {
  select.lang = select.value;
}

at("language").append(...codes.map(option));
at("language").addEventListener("change", (event) => {
  choose(event.target.value);
  markLanguage(event.target);
  showAnswerLanguages();
});
at("answer-language").addEventListener("change", (event) => {
  isAnswerLanguageChosen = true;
  markLanguage(event.target);
});

// Pictures

function showPicture(found) {
  if (picture && picture !== found && !picture.isAsked) talk.drop(picture);
  picture = found;
  at("pending").hidden = !found;
  at("thumbnail").hidden = !found?.width;
  if (!found) return;
  at("thumbnail").src = found.url;
  at("pending-name").textContent = found.name;
}

function addPicture(file, name = file.name) {
  const into = talk;
  reading = (async () => {
    try {
      const found = await into.picture(file, name);
      if (into !== talk) return;
      showPicture(found);
      const { isScaled, width, height } = found;
      if (isScaled) notice("pictureScaled", { width, height });
      else announce("pictureAdded", { name });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      notice(error.kind, { count: limits.nImages }, "error");
    }
  })();
  return reading;
}

function addFirst(files, name) {
  if (!files?.length) return false;
  addPicture(files[0], name);
  question.focus();
  return true;
}

for (const [button, input] of [["pick", "file"], ["photo", "camera"]]) {
  at(button).addEventListener("click", () => at(input).click());
  at(input).addEventListener("change", (event) => {
    addFirst(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  });
}
at("remove").addEventListener("click", () => {
  showPicture(null);
  announce("removed");
  question.focus();
});
at("example").addEventListener("click", async () => {
  const file = await fetch("/page/example.png").then((response) => response.blob());
  await addPicture(file, text("exampleName"));
  question.focus();
});
document.addEventListener("paste", (event) => {
  if (addFirst(event.clipboardData?.files, text("pastedName"))) event.preventDefault();
});

const hasFiles = (event) => Boolean(event.dataTransfer?.types.includes("Files"));

document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  at("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  at("drop").hidden = true;
  addFirst(event.dataTransfer.files);
});

// Questions

function showAnswering(isIt) {
  const focused = document.activeElement;
  const isOnStart = focused === at("ask") || focused === at("ask-all") || focused.classList.contains("retry");
  isAnswering = isIt;
  at("ask").hidden = isIt;
  at("stop").hidden = !isIt;
  at("ask-all").disabled = isIt;
  for (const button of document.querySelectorAll(".retry")) button.disabled = isIt;
  // Whoever pressed a button finds the next one there; on a phone, the question would open the keyboard.
  if (isIt && isOnStart) at("stop").focus();
  if (!isIt && focused === at("stop")) at("ask").focus();
}

async function ask(isAll) {
  if (isAnswering) return;
  await reading;
  const asked = { text: question.value.trim(), picture, code: at("answer-language").value, isAll };
  if (isAll && !asked.picture) asked.picture = talk.said.findLast((turn) => turn.picture)?.picture;
  const missing = isAll ? !asked.picture && "needPicture" : !asked.text && !asked.picture && "needQuestion";
  if (missing) {
    notice(missing);
    question.focus();
    return;
  }
  withdraw("needPicture");
  withdraw("needQuestion");
  withdraw("reloaded");
  if (asked.picture) asked.picture.isAsked = true;
  const turn = new Turn({ ...asked, codes: isAll ? codes : [asked.code], view: new TurnView(asked) });
  question.value = "";
  if (!isAll) showPicture(null);
  keep("sessionStorage", "palo.talked", "yes");
  await run(turn);
}

async function run(turn) {
  if (isAnswering) return;
  const into = talk;
  showAnswering(true);
  if (!turn.isAll && picture === turn.picture) showPicture(null);
  at("intro").hidden = true;
  at("talk").hidden = false;
  at("talk").append(turn.view.node);
  turn.view.node.scrollIntoView();
  announce("answering");
  try {
    await into.ask(turn);
  } catch (error) {
    if (into === talk) fail(turn, error);
  } finally {
    if (into === talk) showAnswering(false);
  }
}

function fail(turn, error) {
  if (!turn.isAll && !talk.said.includes(turn) && !picture) showPicture(turn.picture ?? null);
  if (error.name === "AbortError") {
    turn.view.note("stopped");
    if (!turn.isAll && !turn.answer) question.value ||= turn.text;
    return;
  }
  const shown = error instanceof Refused ? error : new Refused("failed", { detail: String(error) });
  turn.view.fail(shown, () => run(turn));
  turn.view.notes.scrollIntoView({ block: "nearest" });
  if (shown.kind === "notReached" || shown.kind === "lost") lookForServer();
}

function beginNew() {
  talk.end();
  talk = new Talk();
  showPicture(null);
  showAnswering(false);
  question.value = "";
  at("talk").replaceChildren();
  at("talk").hidden = true;
  at("intro").hidden = false;
  keep("sessionStorage", "palo.talked", null);
  withdraw("reloaded");
  announce("newBegun");
  question.focus();
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(false);
});
question.addEventListener("keydown", (event) => {
  // While a word is being composed (Japanese, Chinese), Enter ends the word and not the question.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  ask(false);
});
at("ask-all").addEventListener("click", () => ask(true));
at("stop").addEventListener("click", () => talk.stop());
at("new").addEventListener("click", beginNew);

// The answer stays in sight while it grows, unless the reader has gone elsewhere.
let isAtEnd = true;
const page = document.documentElement;
window.addEventListener("scroll", () => {
  isAtEnd = page.scrollHeight - innerHeight - scrollY < 80;
});
new ResizeObserver(() => {
  if (isAnswering && isAtEnd) window.scrollTo(0, page.scrollHeight);
}).observe(at("talk"));

// The server

async function lookForServer() {
  if (isLookingForServer) return;
  isLookingForServer = true;
  while (!(await meetServer())) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  isLookingForServer = false;
}

// Whether there is nothing more to find out.
async function meetServer() {
  try {
    const [model] = await models();
    if (withdraw("offline")) announce("online");
    showModel(model);
    return true;
  } catch (error) {
    if (error.kind === "keyMissing") return !(await askForKey());
    if (error.kind !== "notReached") notice("failed", {}, "error");
    else if (!document.getElementById("notice-offline")) notice("offline", {}, "error");
    return false;
  }
}

function showModel(model) {
  codes = model.languages.filter((code) => Object.hasOwn(languages, code));
  showAnswerLanguages();
  limits.nImages = model.n_images;
  for (const id of ["pick", "photo", "ask-all"]) at(id).hidden = !model.n_images;
  at("example").hidden = !model.is_demo;
  if (model.is_demo && model.id !== metModel) notice("demo", { model: model.id });
  metModel = model.id;
}

begin();
at("language").value = language();
markLanguage(at("language"));
showAnswerLanguages();
at("page").hidden = false;
if (kept("sessionStorage", "palo.talked")) {
  keep("sessionStorage", "palo.talked", null);
  notice("reloaded");
}
lookForServer();
