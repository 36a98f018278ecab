// Keeps the page live: fetches it again every second and changes only what differs, so that nothing flickers and a
// selection or the focus stays. Without this script the page reloads itself.
"use strict";

const PERIOD_MS = 1000;
const TIMEOUT_MS = 5000;

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function copyAttributes(from, to) {
  for (const { name } of [...to.attributes]) {
    if (!from.hasAttribute(name)) to.removeAttribute(name);
  }
  for (const { name, value } of from.attributes) {
    if (to.getAttribute(name) !== value) to.setAttribute(name, value);
  }
}

// update makes the node "to" look like "from", keeping every node that can stay.
function update(from, to) {
  if (from.nodeType === Node.TEXT_NODE) {
    if (to.data !== from.data) to.data = from.data;
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) return;
  copyAttributes(from, to);
  const wanted = [...from.childNodes];
  wanted.forEach((node, i) => {
    const present = to.childNodes[i];
    if (!present) to.appendChild(document.importNode(node, true));
    else if (sameKind(node, present)) update(node, present);
    else to.replaceChild(document.importNode(node, true), present);
  });
  while (to.childNodes.length > wanted.length) to.lastChild.remove();
}

function show(text) {
  const next = new DOMParser().parseFromString(text, "text/html");
  const from = next.querySelector("main");
  const to = document.querySelector("main");
  if (from.dataset.build !== to.dataset.build) {
    location.reload();
    return;
  }
  update(from, to);
  document.title = next.title;
}

function markStale(stale) {
  const note = document.getElementById("stale");
  if (stale && note.hidden) {
    document.getElementById("stale-since").textContent = document.querySelector("main").dataset.at;
  }
  note.hidden = !stale;
  document.body.classList.toggle("old", stale);
}

async function refresh() {
  try {
    const answer = await fetch("/", {
      headers: { Accept: "text/html" },
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!answer.ok) throw new Error("status " + answer.status);
    show(await answer.text());
    markStale(false);
  } catch {
    markStale(true);
  }
}

async function live() {
  if (!document.hidden) await refresh();
  setTimeout(live, PERIOD_MS);
}

setTimeout(live, PERIOD_MS);
