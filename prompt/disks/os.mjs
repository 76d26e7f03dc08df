// os, 2026.11.23
// Turns any piece into a bootable image: `os notepat`, `os:$39j`, `os @handle/piece`.
//
// It asks the image server behind /api/os, shows how far that is, and sends the
// browser to the image. README.md in isofs's prompt folder says what it needs.

const QUIET = 120_000; // ms without an event, after which the server counts as gone
const LONGEST_WAIT = 300; // s of a Retry-After that are waited for; more is only told
const LONGEST_FRAME = 65_536; // characters of one event; who sends more sends something else
const GLYPH = 6; // width of AC's default letters at size 1

let visit = null; // what was typed, and what boot was given
let attempt = null; // the request that counts; whatever an older one hears is ignored

// 🥾 Boot
function boot({ params, colon, net, api, jump, needsPaint }) {
  const typed = params?.[0] || colon?.[0] || "prompt";
  const host = (net ?? api?.net)?.host || "aesthetic.computer";
  const base = host.includes("://") ? host : "https://" + host;
  visit = {
    name: plain(typed),
    query: typed.startsWith("$") ? "code=" + encodeURIComponent(typed.slice(1)) : "piece=" + encodeURIComponent(typed),
    base: base.replace(/\/+$/, ""),
    host: base.replace(/^.*:\/\/|\/+$/g, ""),
    jump,
    needsPaint: needsPaint ?? (() => {}),
  };
  start(false);
}

// 🧮 Sim: the clock, the countdown and the sparkles go on by themselves.
function sim({ needsPaint }) {
  if (attempt?.state === "working" || attempt?.state === "waiting") needsPaint?.();
}

// 🎨 Paint
function paint({ wipe, ink, screen }) {
  const { width: w, height: h } = screen;
  wipe(26, 10, 46);
  sparkle(ink, w, h);
  if (!attempt) return;
  const a = attempt;
  let y = Math.max(22, Math.floor(h / 2) - 48);
  y = print(ink, [255, 120, 200], visit.name + " os", y, w, 2) + 8;
  if (a.state === "working") y = bar(ink, a, y, w) + 8;
  y = print(ink, a.state === "failed" ? [255, 150, 110] : [225, 205, 255], a.words, y, w, 1);
  if (a.hint) y = print(ink, [170, 140, 210], a.hint, y + 4, w, 1);
  print(ink, [150, 110, 190], footer(a), y + 8, w, 1);
}

// 🎪 Act
function act({ event: e }) {
  if (!attempt) return;
  if (e.is("keyboard:down:escape")) {
    if (attempt.state === "working" || attempt.state === "waiting") end("failed", "stopped");
  } else if (e.is("touch") || e.is("keyboard:down:enter")) {
    if (attempt.state === "failed") start(false);
    // A browser that did not let the first jump through does so for a gesture.
    else if (attempt.state === "done") visit.jump("out:" + attempt.address);
  }
}

// 👋 Leave
function leave() {
  release();
  attempt = null;
}

export const desc = "Turn any piece into a bootable image for a USB stick.";
export { boot, sim, paint, act, leave };

// 📚 Library: one attempt, from asking to the jump

// start asks anew. again says that it does so by itself, after the server was busy.
function start(again) {
  release();
  attempt = { state: "working", words: "asking for an image...", step: 0, steps: 0, since: Date.now(), again };
  const a = attempt;
  const streams = [globalThis.fetch, globalThis.AbortController, globalThis.TextDecoder];
  if (!streams.every((s) => typeof s === "function")) return download(address(""), "your image is on its way");
  a.abort = new AbortController();
  watch(a);
  follow(a).catch(() => lost(a, `the connection to ${visit.host} broke`));
  visit.needsPaint();
}

// follow sends the request and hears the stream out. It throws what reading the
// stream throws.
async function follow(a) {
  let response;
  try {
    response = await fetch(address("&format=stream"), {
      // isofs answers errors in the form that is asked for.
      headers: { Accept: "text/event-stream, application/json" },
      cache: "no-store",
      signal: a.abort.signal,
    });
  } catch {
    return lost(a, `could not reach ${visit.host}; is there a network?`);
  }
  if (a !== attempt || a.state !== "working") return;
  if (!response.ok) return refused(a, response);
  const type = (response.headers.get("content-type") ?? "").toLowerCase();
  if (!type.startsWith("text/event-stream")) {
    // AC's catch-all answers every path with a page.
    if (/^text\/|json/.test(type)) return lost(a, `${visit.host} answered /api/os with something that is no image`);
    return download(address(""), "your image is on its way"); // a server without progress
  }
  if (!response.body?.getReader) return download(address(""), "your image is on its way");
  await hear(a, response);
}

async function hear(a, response) {
  const feed = events((type, data) => heard(a, type, data, response.url));
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (a !== attempt || a.state !== "working") return;
    if (done) return lost(a, `${visit.host} stopped talking before the image was ready`);
    feed(decoder.decode(value, { stream: true }));
  }
}

// heard is told every event of the stream.
function heard(a, type, data, from) {
  if (a !== attempt || a.state !== "working") return;
  watch(a);
  const said = parse(data);
  if (type === "error") return lost(a, plain(said.error) || "the server failed and did not say why");
  if (type === "complete") {
    const to = resolve(said.downloadUrl, from);
    if (!to) return lost(a, "the server named no address that can be downloaded from");
    return download(to, plain(said.message) || "your image is ready");
  }
  if (type !== "progress") return;
  a.words = plain(said.message) || plain(said.stage) || a.words;
  const [step, steps] = [Number(said.step), Number(said.totalSteps)];
  if (steps > 0 && step >= 0) [a.step, a.steps] = [Math.min(step, steps), steps];
  visit.needsPaint();
}

// refused has the server's no: said in its own words, or waited for once.
async function refused(a, response) {
  const busy = response.status === 429 || response.status === 503;
  const wait = busy ? seconds(response.headers.get("retry-after")) : null;
  if (wait !== null && wait <= LONGEST_WAIT && !a.again) return pause(wait);
  let said = {};
  try {
    said = parse(await response.text());
  } catch {
    // The status has to be enough.
  }
  const words = plain(said.error) || `${visit.host} answered with status ${response.status}`;
  lost(a, words, wait === null ? examples(said.usage) : `it asks for ${clock(wait * 1000)} of patience`);
}

function pause(wait) {
  end("waiting", `${visit.host} is busy`);
  attempt.until = Date.now() + wait * 1000;
  attempt.alarm = setTimeout(() => start(true), wait * 1000);
}

function download(to, words) {
  end("done", words);
  attempt.address = to;
  visit.jump("out:" + to);
}

// lost ends an attempt with words, unless it is over or no longer the one that counts.
function lost(a, words, hint) {
  if (a === attempt && a.state === "working") end("failed", words, hint);
}

// watch gives the server QUIET from now on to say something.
function watch(a) {
  clearTimeout(a.alarm);
  a.alarm = setTimeout(() => lost(a, `${visit.host} has been silent for ${QUIET / 1000} seconds`), QUIET);
}

function end(state, words, hint) {
  release();
  Object.assign(attempt, { state, words, hint });
  visit.needsPaint();
}

// release lets go of what an attempt holds: its request and its alarm.
function release() {
  clearTimeout(attempt?.alarm);
  attempt?.abort?.abort();
}

// 📚 Library: what goes over the wire

function address(more) {
  return `${visit.base}/api/os?${visit.query}${more}`;
}

// resolve makes a whole address of a downloadUrl, or null of what is not on the web.
// A relative one is relative to whoever answered, which after a redirect is not AC.
function resolve(to, from) {
  if (typeof to !== "string" || to === "") return null;
  try {
    const url = new URL(to, from || visit.base);
    // The server's own /os is /api/os here; AC's /os is this piece again.
    if (url.origin === new URL(visit.base).origin && url.pathname === "/os") url.pathname = "/api/os";
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// events returns what takes the text of a stream, cut anywhere, and tells of its events.
function events(tell) {
  let [rest, type, data, size, cr] = ["", "", [], 0, false];
  const line = (l) => {
    if (l === "") {
      if (data.length > 0) tell(type, data.join("\n"));
      [type, data, size] = ["", [], 0];
      return;
    }
    const colon = l.indexOf(":");
    const field = colon < 0 ? l : l.slice(0, colon); // "" in a comment, such as a heartbeat
    const value = colon < 0 ? "" : l.slice(colon + 1).replace(/^ /, "");
    if (field === "event") type = value;
    if (field === "data") data.push(value);
    if (field !== "") size += l.length;
  };
  return (text) => {
    if (text === "") return;
    // A \n after a \r that ended the chunk before belongs to that line end.
    if (cr && text[0] === "\n") text = text.slice(1);
    cr = text.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    lines.forEach(line);
    if (rest.length + size > LONGEST_FRAME) throw new Error("an event without an end");
  };
}

// parse reads a JSON object; anything else is an empty one.
function parse(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

// seconds reads a Retry-After, a number or a date; null is none.
function seconds(header) {
  if (!header) return null;
  const n = /^\d+$/.test(header) ? Number(header) : Math.ceil((Date.parse(header) - Date.now()) / 1000);
  return Number.isFinite(n) ? Math.max(1, n) : null;
}

// examples says in AC's way what a usage like {javascript: "/os?piece=notepat"} says.
function examples(usage) {
  const found = [];
  for (const u of Object.values(Object(usage))) {
    const [, key, name] = /[?&](piece|code)=([^&]+)/.exec(String(u)) ?? [];
    if (key) found.push("os:" + (key === "code" ? "$" : "") + name);
  }
  return found.length > 0 ? "for example " + found.join(" or ") : undefined;
}

// plain makes one short line of what a server said, and nothing of what is no text.
function plain(text) {
  if (typeof text !== "string") return "";
  // AC reads \color\ in what it writes; a server does not choose the colours here.
  return text.replace(/[\s\u0000-\u001f\u007f\\]+/g, " ").trim().slice(0, 240);
}

// 📚 Library: pixels

function footer(a) {
  if (a.state === "working") return `${clock(Date.now() - a.since)} - Escape stops it`;
  if (a.state === "waiting") return `trying again in ${Math.max(0, Math.ceil((a.until - Date.now()) / 1000))} s`;
  if (a.state === "failed") return "tap or press Enter to try again";
  return "flash it to a stick and boot! no download? tap or press Enter";
}

function clock(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

// print writes centred lines that fit, and returns where the next one would be.
function print(ink, color, text, y, w, size) {
  if (text.length * GLYPH * size > w - 12) size = 1;
  for (const l of wrap(text, Math.max(8, Math.floor((w - 12) / GLYPH / size)))) {
    ink(...color).write(l, { center: "x", y, size });
    y += 11 * size;
  }
  return y;
}

function wrap(text, width) {
  const lines = [""];
  for (let word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last !== "" && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = last + " " + word;
      continue;
    }
    for (; word.length > width; word = word.slice(width)) lines.push(word.slice(0, width));
    lines.push(word);
  }
  return lines.filter((l) => l !== "");
}

// bar is as full as the steps say; without steps, a block wanders.
function bar(ink, a, y, w) {
  const width = Math.max(8, Math.min(240, w - 24));
  const x = Math.floor((w - width) / 2);
  ink(70, 35, 110).box(x, y, width, 10);
  if (a.steps > 0) {
    const full = Math.floor(((width - 4) * a.step) / a.steps);
    ink(255, 90, 180).box(x + 2, y + 2, full, 6);
    if (full > 2) ink(255, 220, 245).box(x + full, y + 2, 2, 6);
  } else {
    const block = Math.floor(width / 8);
    const room = Math.max(1, width - 4 - block);
    const at = Math.floor(Date.now() / 12) % (2 * room);
    ink(255, 90, 180).box(x + 2 + (at < room ? at : 2 * room - at), y + 2, block, 6);
  }
  return y + 10;
}

// sparkle is confetti that twinkles in place.
function sparkle(ink, w, h) {
  const beat = Math.floor(Date.now() / 300);
  for (let i = 0; i < 14; i++) {
    const size = (i + beat) % 5 === 0 ? 2 : 1;
    ink(...(i % 3 === 0 ? [255, 150, 220] : [110, 70, 170])).box((i * 7919) % w, (i * 104729) % h, size, size);
  }
}
