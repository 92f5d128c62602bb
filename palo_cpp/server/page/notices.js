// Messages about the page as a whole, at its top until they are closed, and the question for a key.

import { kept } from "./texts.js";
import { setKey } from "./server.js";
import { announce } from "./speech.js";
import { element } from "./texts.js";

const place = document.getElementById("notices");

export function notice(key, values, kind = "") {
  withdraw(key);
  const close = element("button", { type: "button", class: "close", data: { label: "dismiss" } }, "\u00d7");
  close.addEventListener("click", () => withdraw(key));
  const said = element("span", { data: { text: key }, values });
  place.append(element("p", { class: `notice ${kind}`, id: `notice-${key}` }, said, close));
  place.hidden = false;
  announce(key, values);
}

// Whether it was there.
export function withdraw(key) {
  const found = document.getElementById(`notice-${key}`);
  if (found?.contains(document.activeElement)) document.getElementById("question").focus();
  found?.remove();
  place.hidden = !place.childElementCount;
  return Boolean(found);
}

const dialog = document.getElementById("key");
const input = document.getElementById("key-text");
let asking = null;

// Whether the user has given a key; two requests that are refused at once ask once.
export function askForKey() {
  asking ??= new Promise((resolve) => {
    document.getElementById("key-wrong").hidden = !kept("sessionStorage", "palo.key");
    setKey(null);
    input.value = "";
    dialog.onclose = () => {
      asking = null;
      resolve(Boolean(kept("sessionStorage", "palo.key")));
    };
    dialog.showModal();
    input.focus();
  });
  return asking;
}

document.getElementById("key-cancel").addEventListener("click", () => dialog.close());
document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(input.value.trim());
  dialog.close();
});
