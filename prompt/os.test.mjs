// The piece in a fake of AC. Time is the tests' own: what takes seconds is told so.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { AC, Clock, Stream, answers, event, json, os, settle } from "./rig.mjs";

const realFetch = globalThis.fetch;
const api = "https://ac.test/api/os?piece=notepat";

let clock;
beforeEach(() => (clock = new Clock(1_000_000_000)));
afterEach(() => {
  os.leave();
  const left = clock.alarms;
  clock.restore();
  globalThis.fetch = realFetch;
  assert.equal(left, 0, "leaving takes every alarm along");
});

const notepat = (screen) => new AC(screen).boot({ colon: ["notepat"] });

test("exports what AC calls", () => {
  for (const f of ["boot", "sim", "paint", "act", "leave"]) assert.equal(typeof os[f], "function", f);
  assert.match(os.desc, /image/);
});

test("what is typed becomes the request", () => {
  const rows = [
    [{ colon: ["notepat"] }, "piece=notepat"],
    [{ params: ["notepat"] }, "piece=notepat"],
    [{ params: ["notepat"], colon: ["native"] }, "piece=notepat"],
    [{ params: ["notepat", "more"] }, "piece=notepat"],
    [{ colon: ["$39j"] }, "code=39j"],
    [{ params: ["$39j"] }, "code=39j"],
    [{ params: ["@jeffrey/blank"] }, "piece=%40jeffrey%2Fblank"],
    [{ params: ["a&code=x#y"] }, "piece=a%26code%3Dx%23y"],
    [{}, "piece=prompt"],
    [{ params: [""], colon: [""] }, "piece=prompt"],
    [{ params: undefined, colon: undefined }, "piece=prompt"],
  ];
  for (const [typed, query] of rows) {
    const s = new Stream();
    new AC().boot(typed);
    assert.equal(s.requests[0].url, `https://ac.test/api/os?${query}&format=stream`);
    os.leave();
  }
});

test("the host is read from net, from api.net, or is AC's", () => {
  const rows = [
    [{ net: { host: "localhost:8888" } }, "https://localhost:8888/"],
    [{ net: undefined, api: { net: { host: "local.test" } } }, "https://local.test/"],
    [{ net: { host: "http://127.0.0.1:80/" } }, "http://127.0.0.1:80/"],
    [{ net: {} }, "https://aesthetic.computer/"],
    [{ net: undefined, needsPaint: undefined }, "https://aesthetic.computer/"],
  ];
  for (const [given, base] of rows) {
    const s = new Stream();
    new AC().boot(given);
    assert.equal(s.requests[0].url, base + "api/os?piece=prompt&format=stream");
    os.leave();
  }
});

test("stages are painted, complete jumps", async () => {
  const s = new Stream();
  const ac = notepat();
  await settle();
  assert.match(ac.text, /notepat os.*asking/);
  const widest = () => Math.max(...ac.paint().boxes.filter((b) => b[3] === 6).map((b) => b[2]));
  await s.say(event("progress", { stage: "name", message: "a name", step: 1, totalSteps: 4 }));
  assert.match(ac.text, /a name/);
  const quarter = widest();
  await s.say(event("progress", { stage: "warm", message: "", step: 4, totalSteps: 4 }));
  assert.match(ac.text, /warm/);
  assert.equal(widest(), 236, "a full bar, in its frame of 240");
  assert.equal(quarter, 236 / 4);
  clock.tick(7_000);
  assert.match(ac.text, /0:07/);
  await s.say(event("complete", { message: "ready", downloadUrl: "https://cdn.test/s/1/notepat-os.iso" }));
  assert.deepEqual(ac.jumps, ["out:https://cdn.test/s/1/notepat-os.iso"]);
  assert.match(ac.text, /ready/);
  assert.ok(s.requests[0].signal.aborted, "the stream is let go of");
  ac.press("touch"); // a browser that refused the first
  assert.equal(ac.jumps.length, 2);
  assert.equal(s.requests.length, 1);
});

test("a stream is understood however it is cut", async () => {
  const text =
    "\ufeff: hello\r\n\r\nevent: progress\r\ndata: {\"message\":\r\ndata: \"f\u00fcr \ud83c\udfb9\"}\r\n\r\n: heartbeat\r\n\r\n" +
    "event:progress\rdata:{\"stage\":\"warm\"}\rid: 7\rretry: 10\r\r" +
    "event: unknown\ndata: {}\n\ndata: {\"message\":\"untyped\"}\n\n" +
    "event: complete\ndata: {\"downloadUrl\":\"https://cdn.test/\u00fc\"}\n\n";
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const s = new Stream();
    const ac = notepat();
    await settle();
    const seen = new Set();
    for (let i = 0; i < bytes.length; i += size) {
      await s.say(bytes.slice(i, i + size)).catch((e) => assert.equal(ac.jumps.length, 1, e));
      seen.add(ac.text);
      if (ac.jumps.length > 0) break;
    }
    assert.deepEqual(ac.jumps, ["out:https://cdn.test/%C3%BC"], `chunks of ${size}`);
    if (size > 3) continue;
    assert.ok([...seen].some((t) => t.includes("f\u00fcr \ud83c\udfb9")), "over two data lines");
    assert.ok([...seen].some((t) => t.includes("warm")), "with \\r line ends");
    assert.ok(![...seen].some((t) => t.includes("untyped")), "events without a type are not ours");
  }
});

test("a half event at the end is none", async () => {
  const s = new Stream();
  const ac = notepat();
  await settle();
  await s.say('event: complete\ndata: {"downloadUrl":"https://cdn.test/x"}\n');
  await s.close();
  assert.match(ac.text, /stopped talking before the image was ready.*try again/);
  assert.deepEqual(ac.jumps, []);
});

test("only the web is jumped to", async () => {
  const rows = [
    ["/s/1/a.iso", "https://ac.test/s/1/a.iso"],
    ["/os?piece=notepat&density=8", "https://ac.test/api/os?piece=notepat&density=8"],
    ["http://cdn.test/a.iso", "http://cdn.test/a.iso"],
    ["//cdn.test/a.iso", "https://cdn.test/a.iso"],
    ["https://cdn.test/os?piece=a", "https://cdn.test/os?piece=a"],
    ["javascript:alert(1)", null],
    ["data:text/html,x", null],
    ["file:///etc/passwd", null],
    ["https://", null],
    ["", null],
    [undefined, null],
    [7, null],
  ];
  for (const [downloadUrl, want] of rows) {
    const s = new Stream();
    const ac = notepat();
    await settle();
    await s.say(event("complete", { downloadUrl }));
    assert.deepEqual(ac.jumps, want ? ["out:" + want] : [], String(downloadUrl));
    if (!want) assert.match(ac.text, /no address/);
    os.leave();
  }
});

test("a relative address is relative to who answered", async () => {
  const s = new Stream();
  const inner = globalThis.fetch;
  globalThis.fetch = async (...a) => Object.defineProperty(await inner(...a), "url", { value: "https://iso.test/os?piece=notepat" });
  const ac = notepat();
  await settle();
  await s.say(event("complete", { downloadUrl: "/s/1/a.iso" }));
  assert.deepEqual(ac.jumps, ["out:https://iso.test/s/1/a.iso"]);
});

test("an error of the stream is said, and asked anew by a tap or Enter", async () => {
  const s = new Stream();
  const ac = notepat();
  await settle();
  await s.say(event("error", { error: "no piece \\red\\called\u0007 notepat" }));
  assert.match(ac.text, /no piece red called notepat.*tap or press Enter/);
  for (const key of ["touch", "keyboard:down:enter"]) {
    const before = s.requests.length;
    ac.press(key);
    await settle();
    assert.equal(s.requests.length, before + 1, key);
    assert.match(ac.text, /asking/);
    await s.say("event: error\ndata: nonsense\n\n");
    assert.match(ac.text, /did not say why/);
  }
  ac.press("keyboard:down:a");
  assert.equal(s.requests.length, 3);
  assert.deepEqual(ac.jumps, []);
});

test("a refusal is said in the server's words, with its usage in AC's", async () => {
  const usage = { kidlisp: "/os?code=39j", javascript: "/os?piece=notepat" };
  const rows = [
    [json(400, { error: "Missing 'piece'.", usage }), /Missing 'piece'\. for example os:\$39j or os:notepat tap/],
    [json(404, { error: "no such piece" }), /no such piece tap/],
    [json(500, null), /ac\.test answered with status 500/],
    [() => new Response("<h1>no", { status: 502 }), /ac\.test answered with status 502/],
    [json(503, { error: "full house" }), /full house/],
    [json(429, { error: "slow down" }, { "retry-after": "900" }), /slow down it asks for 15:00 of patience/],
    [() => Promise.reject(new TypeError("fetch failed")), /could not reach ac\.test; is there a network\?/],
    [() => new Response("<html>", { headers: { "content-type": "text/html; charset=utf-8" } }), /no image/],
  ];
  for (const [answer, want] of rows) {
    answers(answer);
    const ac = notepat();
    await settle();
    assert.match(ac.text, want);
    assert.deepEqual(ac.jumps, []);
    os.leave();
  }
});

test("a busy server is waited for, once", async () => {
  const busy = json(429, { error: "slow down" }, { "retry-after": "3" });
  const date = json(503, {}, { "retry-after": new Date(1_000_000_000 + 90_000).toUTCString() });
  for (const [first, wait] of [[busy, 3], [date, 90]]) {
    clock.now = 1_000_000_000;
    const urls = answers(first, busy);
    const ac = notepat();
    await settle();
    assert.match(ac.text, new RegExp(`ac.test is busy trying again in ${wait} s`));
    clock.tick(1_000);
    assert.match(ac.text, new RegExp(`in ${wait - 1} s`));
    ac.press("touch");
    clock.tick((wait - 1) * 1_000 - 1);
    assert.equal(urls.length, 1, "no tap and no impatience shortens it");
    clock.tick(1);
    await settle();
    assert.equal(urls.length, 2);
    assert.match(ac.text, /slow down.*try again/, "the second no is final");
    clock.tick(600_000);
    await settle();
    assert.equal(urls.length, 2);
    os.leave();
  }
});

test("Escape ends the wait for a busy server", async () => {
  const urls = answers(json(429, {}, { "retry-after": "3" }));
  const ac = notepat();
  await settle();
  ac.press("keyboard:down:escape");
  assert.match(ac.text, /stopped/);
  clock.tick(10_000);
  await settle();
  assert.equal(urls.length, 1);
});

test("silence of 120 s is said", async () => {
  const s = new Stream();
  const ac = notepat();
  await settle();
  clock.tick(119_999);
  await s.say(event("progress", { message: "slow" }));
  clock.tick(119_000);
  await s.say(": heartbeat\n\n"); // alive, and yet nothing has happened
  assert.match(ac.text, /slow/);
  clock.tick(1_000);
  assert.match(ac.text, /silent for 120 seconds.*try again/);
  assert.ok(s.requests[0].signal.aborted);

  globalThis.fetch = () => new Promise(() => {}); // nobody answers at all
  ac.press("touch");
  clock.tick(120_000);
  assert.match(ac.text, /silent/);
});

test("Escape and leaving let go of the request", async () => {
  const s = new Stream();
  const ac = notepat();
  await settle();
  ac.press("keyboard:down:escape");
  assert.ok(s.requests[0].signal.aborted);
  await settle();
  assert.match(ac.text, /stopped.*try again/, "and the broken stream is not told as an error");
  ac.press("touch");
  await settle();
  os.leave();
  assert.ok(s.requests[1].signal.aborted);
  await settle();
  ac.press("touch");
  clock.tick(600_000);
  assert.equal(s.requests.length, 2);
  assert.deepEqual(ac.jumps, []);
});

test("an attempt that is over is not listened to", async () => {
  let answer;
  globalThis.fetch = () => new Promise((r) => (answer = r));
  const ac = notepat();
  const late = answer;
  ac.press("keyboard:down:escape");
  const s = new Stream();
  ac.press("touch");
  late(new Response("image", { headers: { "content-type": "application/octet-stream" } }));
  await settle();
  assert.deepEqual(ac.jumps, []);
  await s.say(event("progress", { message: "the second" }));
  assert.match(ac.text, /the second/);
});

test("a connection that breaks, and an event without an end", async () => {
  for (const bad of [(c) => c.error(new TypeError("cut")), (c) => c.enqueue(new Uint8Array(70_000).fill(97))]) {
    answers(() => new Response(new ReadableStream({ start: bad }), { headers: { "content-type": "text/event-stream" } }));
    const ac = notepat();
    await settle();
    assert.match(ac.text, /the connection to ac\.test broke/);
    os.leave();
  }
});

test("without progress the browser is sent to the image itself", async (t) => {
  const image = { "content-type": "application/octet-stream" };
  answers(() => new Response("disk", { headers: image }));
  const old = notepat();
  await settle();
  assert.deepEqual(old.jumps, ["out:" + api]);

  answers(() => ({ ok: true, headers: new Headers({ "content-type": "text/event-stream" }), url: "" }));
  const bodiless = notepat();
  await settle();
  assert.deepEqual(bodiless.jumps, ["out:" + api]);

  for (const name of ["fetch", "AbortController", "TextDecoder"]) {
    const kept = globalThis[name];
    t.after(() => (globalThis[name] = kept));
    globalThis[name] = undefined;
    assert.deepEqual(notepat().jumps, ["out:" + api], name);
    globalThis[name] = kept;
  }
});

test("it is painted on every screen, in every state", async () => {
  assert.doesNotThrow(() => os.paint({ wipe() {}, ink: () => ({ box() {}, write() {} }), screen: { width: 1, height: 1 } }));
  for (const [width, height] of [[48, 48], [128, 128], [320, 200], [1920, 1080]]) {
    const s = new Stream();
    const ac = new AC({ width, height }).boot({ params: ["@somebody/a-piece-with-quite-a-long-name"] });
    await settle();
    const frames = [ac.paint()];
    await s.say(event("progress", { message: "words ".repeat(60), step: 99, totalSteps: 7 }));
    frames.push(ac.paint());
    await s.say(event("error", { error: "x".repeat(1000) }));
    frames.push(ac.paint());
    for (const f of frames) {
      assert.equal(f.wiped, 1);
      for (const [x, , w] of f.boxes) assert.ok(x >= 0 && w >= 0 && x + w <= width + 1, `${x}+${w} of ${width}`);
    }
    assert.ok(frames[2].text.length < 500);
    os.leave();
  }
});

test("sim asks for frames as long as something moves", async () => {
  const s = new Stream();
  notepat();
  let asked = 0;
  os.sim({ needsPaint: () => asked++ });
  assert.equal(asked, 1);
  await settle();
  await s.say(event("error", { error: "no" }));
  os.sim({ needsPaint: () => asked++ });
  assert.equal(asked, 1);
});
