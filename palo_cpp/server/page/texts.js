// The texts of the page: one table, the language that is shown now, and the nodes that show it.

const response = await fetch(new URL("strings.json", import.meta.url));
const table = await response.json();

export const languages = table.languages;
let current = "en";

// Some browsers refuse storage altogether; the page then forgets, and works.
export function keep(storage, name, value) {
  try {
    if (value === null) window[storage].removeItem(name);
    else window[storage].setItem(name, value);
  } catch {}
}

export function kept(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

// The tab's own choice comes first, so that another tab does not change it.
function firstLanguage() {
  const wanted = [kept("sessionStorage", "palo.language"), kept("localStorage", "palo.language"), ...navigator.languages];
  const codes = wanted.map((tag) => (tag ?? "").toLowerCase().split("-")[0]);
  return codes.find((code) => Object.hasOwn(languages, code)) ?? "en";
}

export function language() {
  return current;
}

export function begin() {
  show(firstLanguage());
}

export function choose(code) {
  keep("sessionStorage", "palo.language", code);
  keep("localStorage", "palo.language", code);
  show(code);
}

function show(code) {
  current = code;
  document.documentElement.lang = code;
  document.documentElement.dir = languages[code].direction;
  document.title = text("title");
  update(document);
}

// Values may be of the other direction: they are isolated, so that they move nothing beside them.
export function text(key, values = {}) {
  return table.strings[key][current].replace(/\{(\w+)\}/g, (_, name) => `\u2068${shown(values[name])}\u2069`);
}

function shown(value) {
  return typeof value === "number" ? new Intl.NumberFormat(current).format(value) : value;
}

function quantity(value, unit) {
  const digits = { maximumFractionDigits: Number.isInteger(value) ? 0 : 2 };
  return new Intl.NumberFormat(current, unit ? { style: "unit", unit, ...digits } : digits).format(value);
}

// A node says in its `data-` attributes what it shows, so that it can change its language at any time.
export function refresh(node) {
  const { text: key, label, alt, placeholder, number, unit } = node.dataset;
  const values = node.dataset.values ? JSON.parse(node.dataset.values) : {};
  if (key) node.textContent = text(key, values);
  if (label) node.setAttribute("aria-label", text(label, values));
  if (alt) node.alt = text(alt, values);
  if (placeholder) node.placeholder = text(placeholder, values);
  if (number) node.textContent = quantity(Number(number), unit);
}

function update(root) {
  root.querySelectorAll("[data-text], [data-label], [data-alt], [data-placeholder], [data-number]").forEach(refresh);
}

// A new node: `attributes` are set on it, `data` says what it shows, `values` what its text has in it.
export function element(tag, { data = {}, values, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  Object.assign(node.dataset, data);
  if (values) node.dataset.values = JSON.stringify(values);
  node.append(...children);
  refresh(node);
  return node;
}
