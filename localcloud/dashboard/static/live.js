// Keeps a page up to date: fetches it again while it says so (data-refresh, in seconds) and changes only what differs, so that
// focus, selection, scrolling and opened details stay. Without this script everything works, a page just has to be reloaded.
"use strict";

function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, place) => (place < before.length ? update(before[place], child) : old.append(child)));
  before.slice(after.length).forEach((child) => child.remove());
}

function say(text) {
  const line = document.getElementById("connection");
  if (line.textContent !== text) line.textContent = text;
}

async function refresh() {
  const main = document.getElementById("main");
  const seconds = Number(main.dataset.refresh);
  if (!seconds) return;
  let wait = seconds;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.status === 401 || answer.status === 404) {
        say(answer.status === 401 ? "No longer signed in: run odcloud open." : "This page is there no more.");
        return;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      update(main, document.adoptNode(fresh.getElementById("main")));
      say("");
    } catch {
      say("The local cloud does not answer; trying again.");
      wait = 5;
    }
  }
  setTimeout(refresh, wait * 1000);
}

setTimeout(refresh, 1000);
