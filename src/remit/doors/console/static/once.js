// A form is sent once: a second press before the next page is here would take the place of the first, and be told that it came too late.

const AGAIN_MS = 3000;
const sent = new WeakMap();

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  const before = sent.get(event.target);
  if (before !== undefined && performance.now() - before < AGAIN_MS) event.preventDefault();
  else sent.set(event.target, performance.now());
});
