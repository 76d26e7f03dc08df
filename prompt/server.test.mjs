// The piece and a server over real HTTP, with Netlify's part played as netlify.toml
// describes it: /api/os passed through, relative addresses redirected.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { pipeline } from "node:stream";
import { afterEach, test } from "node:test";
import { AC, event, os, serve } from "./rig.mjs";

afterEach(() => os.leave());

// The rules of netlify.toml, first match first, with the server under test as their host.
function rules(target) {
  const text = readFileSync(new URL("netlify.toml", import.meta.url), "utf8").replace(/^#.*$/gm, "");
  return text.split("[[redirects]]").slice(1).map((block) => {
    const { from, to, status, ...more } = Object.fromEntries([...block.matchAll(/^(\w+) = "?([^"\n]+)"?$/gm)].map((m) => [m[1], m[2]]));
    assert.deepEqual(more, {}, "a rule has no more than from, to and status");
    return { from, to: to.replace("https://isofs.example", target), status: Number(status) };
  });
}

function netlify(t, target) {
  const all = rules(target);
  return serve(t, (req, res) => {
    const { pathname, search } = new URL(req.url, "http://x");
    const rule = all.find((r) => (r.from.endsWith("*") ? pathname.startsWith(r.from.slice(0, -1)) : pathname === r.from));
    if (!rule) return void res.writeHead(200, { "content-type": "text/html" }).end("<p>AC"); // the catch-all
    const url = rule.to.replace(":splat", pathname.slice(rule.from.length - 1)) + search;
    if (rule.status !== 200) return void res.writeHead(rule.status, { location: url }).end();
    const on = http.get(url, { headers: { accept: req.headers.accept } }, (up) => {
      res.writeHead(up.statusCode, up.headers);
      pipeline(up, res, () => {}); // which breaks the one when the other breaks
    });
    on.on("error", () => res.destroy());
    res.on("close", () => on.destroy());
  });
}

// A server that speaks the contract, event by event, when it is told to.
function contract(t, say) {
  return serve(t, (req, res) => {
    const url = new URL(req.url, "http://x");
    if (url.pathname !== "/os") return void res.writeHead(req.method === "HEAD" ? 200 : 404).end();
    res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no" });
    say(url, res, req);
  });
}

const stages = ["name", "bundle", "volume", "digest", "warm", "done"];

test("stages arrive one by one, and the image is there", async (t) => {
  let asked;
  const opened = new Promise((resolve) => {
    asked = (url, res, req) => resolve({ url, accept: req.headers.accept, res });
  });
  const host = await netlify(t, await contract(t, asked));
  const ac = new AC({ host }).boot({ colon: ["notepat"] });
  const { url, accept, res: out } = await opened;
  assert.equal(url.search, "?piece=notepat&format=stream");
  assert.match(accept, /text\/event-stream/);
  for (const [i, stage] of stages.entries()) {
    out.write(event("progress", { stage, message: `now ${stage}`, step: i + 1, totalSteps: stages.length }));
    await ac.until(new RegExp(`now ${stage}`)); // it is seen before the next one is sent
  }
  out.write(": heartbeat\n\n");
  out.write(event("complete", { message: "ready to fly", downloadUrl: "/s/1/notepat-os.iso", cached: false }));
  await ac.until(/ready to fly/);
  const [to] = ac.jumps;
  assert.equal(to, `out:${host}/s/1/notepat-os.iso`);
  assert.equal((await fetch(to.slice("out:".length), { method: "HEAD" })).status, 200);
});

test("Escape is noticed by the server", async (t) => {
  let opened, closed;
  const open = new Promise((r) => (opened = r));
  const close = new Promise((r) => (closed = r));
  const host = await contract(t, (url, res) => {
    res.flushHeaders();
    res.on("close", closed);
    res.write(event("progress", { message: "for ever" }));
    opened();
  });
  // Here the piece talks to the server itself, as after a redirect of Netlify.
  const ac = new AC({ host: await serve(t, (req, res) => res.writeHead(302, { location: host + req.url.slice(4) }).end()) });
  ac.boot({ colon: ["notepat"] });
  await open;
  await ac.until(/for ever/);
  ac.press("keyboard:down:escape");
  await close;
  assert.match(ac.text, /stopped/);
});

test("a server that dies in between, and one that is not there", async (t) => {
  const host = await contract(t, (url, res) => {
    res.write(event("progress", { message: "soon" }));
    res.socket.destroySoon();
  });
  await new AC({ host: await netlify(t, host) }).boot({ colon: ["notepat"] }).until(/broke|stopped talking/);
  const gone = await new Promise((resolve) => {
    const s = http.createServer().listen(0, "127.0.0.1", () => {
      const { port } = s.address();
      s.close(() => resolve(`http://127.0.0.1:${port}`));
    });
  });
  const ac = new AC({ host: gone }).boot({ colon: ["notepat"] });
  await ac.until(/could not reach/);
  assert.deepEqual(ac.jumps, []);
});

test("against a running isofs", { skip: process.env.ISOFS_URL ? false : "needs ISOFS_URL, where isofs serves" }, async (t) => {
  const isofs = process.env.ISOFS_URL.replace(/\/+$/, "");
  const raw = await fetch(`${isofs}/os?piece=notepat&format=stream`);
  assert.equal(raw.status, 200);
  assert.match(raw.headers.get("content-type"), /^text\/event-stream/);
  const frames = (await raw.text()).split("\n\n").filter((f) => f.startsWith("event: "));
  const [progress, last] = [frames.slice(0, -1), frames.at(-1)];
  const seen = progress.map((f) => JSON.parse(f.slice(f.indexOf("data: ") + 6)));
  // An image that is there already has no bundle to wait for.
  const { cached } = JSON.parse(last.slice(last.indexOf("data: ") + 6));
  const want = cached ? stages.filter((s) => !["bundle", "volume", "digest"].includes(s)) : stages;
  assert.deepEqual([...new Set(seen.map((p) => p.stage))].filter((s) => s !== "signature"), want);
  for (const p of seen) assert.ok(p.message && p.step >= 1 && p.step <= p.totalSteps, JSON.stringify(p));
  assert.match(last, /^event: complete\n/);

  const ac = new AC({ host: await netlify(t, isofs) }).boot({ colon: ["notepat"] });
  await ac.until(/flash it to a stick|try again/);
  assert.equal(ac.jumps.length, 1, ac.text);
  const image = await fetch(ac.jumps[0].slice("out:".length), { method: "HEAD" });
  assert.equal(image.status, 200);
  assert.match(image.headers.get("content-disposition"), /notepat-os\.iso/);

  const none = new AC({ host: await netlify(t, isofs) }).boot({ colon: ["no such piece"] });
  await none.until(/try again/);
  assert.deepEqual(none.jumps, []);
});
