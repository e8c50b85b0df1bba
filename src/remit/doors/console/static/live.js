// Keeps an open page as the ledger is: fetches it again when there is more, and puts the parts with data-live in place of the old ones.
// What somebody is typing in, has opened or has the focus in is left alone. Without this script a page is whole, and is reloaded by hand.

const main = document.querySelector("main[data-follow]");
const state = document.getElementById("live-state");
const LEAST_MS = 1500;
const ends = new WeakMap(); // when a countdown is over, in this page's own ticks
let fetching = false, again = false, next = 0;

function tell(text) { if (state && state.textContent !== text) state.textContent = text; }

function left(seconds) {
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60, rest = String(seconds % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function count() {
  for (const time of document.querySelectorAll("time[data-left]")) {
    if (!ends.has(time)) ends.set(time, performance.now() + Number(time.dataset.left) * 1000);
    time.textContent = left(Math.max(0, Math.round((ends.get(time) - performance.now()) / 1000)));
  }
}

function busy(part) {
  const at = document.activeElement;
  return (at && at !== document.body && part.contains(at) && at.matches("input, textarea, select, button")) || part.querySelector("details[open]");
}

function put(fresh) {
  const parts = new Map([...fresh.querySelectorAll("[data-live]")].map((part) => [part.id, part]));
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = parts.get(part.id);
    if (!next) { if (!busy(part)) part.replaceChildren(); continue; }
    if (!busy(part) && part.innerHTML !== next.innerHTML) part.replaceWith(document.importNode(next, true));
  }
  count();
}

async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    await new Promise((done) => setTimeout(done, Math.max(0, next - performance.now())));
    const begun = performance.now();
    const answer = await fetch(location.href, { headers: { "X-Remit-Live": "1" }, credentials: "same-origin" });
    if (answer.redirected) { location.reload(); return; }
    next = performance.now() + Math.max(LEAST_MS, 5 * (performance.now() - begun)); // a page that costs much is fetched seldom
    if (answer.ok) { put(new DOMParser().parseFromString(await answer.text(), "text/html")); tell(""); }
  } catch { tell("remit does not answer; what you see may be old."); }
  finally {
    fetching = false;
    if (again) { again = false; refresh(); }
  }
}

if (main && document.querySelector("[data-live]")) {
  const stream = new EventSource(`/console/live?task=${encodeURIComponent(main.dataset.follow)}&after=-1`);
  stream.addEventListener("open", refresh); // what fell between this page and its stream, and while it was away
  stream.addEventListener("grown", refresh);
  stream.addEventListener("over", () => { stream.close(); location.reload(); });
  stream.addEventListener("error", () => tell("remit does not answer; what you see may be old."));
}
count();
setInterval(count, 1000);
