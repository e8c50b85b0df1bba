// Checks in this browser that an entry is in the log: the key signed a head (C2SP signed-note, tlog-checkpoint), and the entry's bytes lead
// to its root (RFC 9162 §2.1.3.2). Nothing that the server says is taken for granted but the key, where the person has not put in their own.

const text = new TextEncoder();
const subtle = globalThis.crypto && crypto.subtle; // only where the connection is secure: https, or localhost
const DASH = "\u2014 ";

async function sha256(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return new Uint8Array(await subtle.digest("SHA-256", whole));
}

function bytes(encoded) {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(encoded)) throw new Error("not base64");
  return Uint8Array.from(atob(encoded), (sign) => sign.charCodeAt(0));
}

function same(one, other) { return one.length === other.length && one.every((byte, place) => byte === other[place]); }
function hex(data) { return [...data].map((byte) => byte.toString(16).padStart(2, "0")).join(""); }

// A vkey: name+id+base64(type || key).
async function readKey(vkey) {
  const [, name, id, encoded] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(vkey.trim()) || [];
  if (!name) throw new Error("the key is none: NAME+ID+KEY is what `remit ledger key` prints");
  const data = bytes(encoded);
  if (data.length !== 33 || data[0] !== 1) throw new Error("the key is no Ed25519 key of a log");
  const own = (await sha256(text.encode(name + "\n"), data)).slice(0, 4);
  if (hex(own) !== id) throw new Error("the key is damaged: its id does not fit");
  return { name, id: own, key: data.slice(1) };
}

// Whether the key signed the note: "yes", "no", or "unable" where this browser has no Ed25519.
async function signed(note, key) {
  const end = note.lastIndexOf("\n\n");
  const said = note.slice(0, end + 1), lines = note.slice(end + 2).split("\n").filter(Boolean);
  const own = lines.filter((line) => line.startsWith(`${DASH}${key.name} `)).map((line) => bytes(line.slice(DASH.length + key.name.length + 1)))
    .filter((blob) => same(blob.slice(0, 4), key.id));
  if (end < 0 || !own.length) return "no";
  let imported;
  try { imported = await subtle.importKey("raw", key.key, "Ed25519", false, ["verify"]); } catch { return "unable"; }
  for (const blob of own) if (!await subtle.verify("Ed25519", imported, blob.slice(4), text.encode(said))) return "no";
  return "yes";
}

async function root(index, size, leaf, path) {
  let first = index, second = size - 1, running = leaf; // sizes stay far below 2^53: no shifts, which would cut them to 32 bits
  const half = (number) => Math.floor(number / 2);
  for (const part of path) {
    if (second === 0 || part.length !== 32) return null;
    if (first % 2 === 1 || first === second) {
      running = await sha256(Uint8Array.of(1), part, running);
      while (first % 2 === 0 && first !== 0) { first = half(first); second = half(second); }
    } else running = await sha256(Uint8Array.of(1), running, part);
    first = half(first); second = half(second);
  }
  return second === 0 ? running : null;
}

async function fetched(url) {
  const answer = await fetch(url, { credentials: "same-origin", redirect: "error" });
  if (!answer.ok) throw new Error(`the server does not give it (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function check(index, vkey) {
  const steps = [];
  const key = await readKey(vkey);
  const [entry, proof] = await Promise.all([fetched(`/console/ledger/${index}/bytes`), fetched(`/console/ledger/${index}/proof`)]);
  const leaf = await sha256(Uint8Array.of(0), entry);
  steps.push([true, `its ${entry.length} bytes hash to ${hex(leaf)}`]);
  const whole = new TextDecoder("utf-8", { fatal: true }).decode(proof), cut = whole.indexOf("\n\n");
  const [form, told, ...path] = whole.slice(0, cut).split("\n"), note = whole.slice(cut + 2);
  if (form !== "c2sp.org/tlog-proof@v1" || told !== `index ${index}`) throw new Error("the proof is not of this entry");
  const [origin, sizeText, rootText] = note.split("\n"), size = Number(sizeText);
  if (!/^(0|[1-9]\d{0,14})$/.test(sizeText) || index >= size) throw new Error("the head does not cover this entry");
  const state = await signed(note, key);
  const good = state !== "no" && origin === key.name;
  steps.push([state === "unable" ? null : good, state === "unable"
    ? "this browser has no Ed25519, so the signature was not checked: the root is only what the server says"
    : good ? `${key.name} signed the head of ${size.toLocaleString("en")} entries` : "the key did not sign this head"]);
  const led = await root(index, size, leaf, path.map(bytes));
  const fits = led !== null && same(led, bytes(rootText));
  steps.push([fits, fits ? `${path.length} hashes lead from it to the signed root ${hex(led)}` : "the entry does not lead to the signed root"]);
  return steps;
}

function verdict(steps) {
  if (steps.some(([good]) => good === false)) return ["bad", "NOT what was signed"];
  return steps.some(([good]) => good === null) ? ["partly", "In the tree; the signature was not checked"] : ["good", "In the log, as it was signed"];
}

async function show(index) {
  const place = document.querySelector(`[data-proof="${index}"]`), input = document.getElementById("vkey");
  place.className = place.className.replace(/ ?\b(good|bad|partly)\b/g, "");
  place.textContent = "checking…";
  let steps;
  try {
    if (!subtle) throw new Error("the browser checks nothing over a connection that is not secure: use https, or localhost");
    steps = await check(index, input.value);
  } catch (error) { steps = [[false, `it was not checked: ${error.message}`]]; }
  const [kind, words] = verdict(steps), whose = input.value.trim() === input.dataset.own ? ", by the key that the server shows" : ", by your key";
  place.classList.add(kind);
  place.textContent = words + (kind === "good" ? whose : "");
  const shown = "steps" in place.dataset || kind !== "good" ? steps : [];
  for (const [good, said] of shown) {
    const line = document.createElement("p");
    line.textContent = `${good === null ? "?" : good ? "✓" : "✗"} ${said}`;
    place.append(line);
  }
}

for (const button of document.querySelectorAll("[data-check]")) {
  button.hidden = false;
  button.addEventListener("click", () => show(Number(button.dataset.check)));
}
const all = document.getElementById("check-all");
if (all) {
  all.hidden = false;
  all.addEventListener("click", async () => {
    for (const button of document.querySelectorAll("[data-check]")) await show(Number(button.dataset.check));
  });
}
