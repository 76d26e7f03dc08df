// What the tests of the piece run it in: a fake of AC that keeps what is painted and
// where is jumped to, answers that are cut as a test likes, and a small server.
import http from "node:http";
import { setImmediate as turn } from "node:timers/promises";
import * as os from "./disks/os.mjs";

// AC runs the piece as AC does: an api for each function, and no more than README.md lists.
export class AC {
  jumps = [];
  #waiting = [];

  constructor({ host = "ac.test", width = 320, height = 200 } = {}) {
    this.host = host;
    this.screen = { width, height };
  }

  boot(typed = {}) {
    os.boot({
      params: [],
      colon: [],
      net: { host: this.host },
      jump: (to) => this.jumps.push(to),
      needsPaint: () => this.#look(),
      ...typed,
    });
    return this;
  }

  press(event) {
    os.act({ event: { is: (e) => e === event } });
  }

  // paint returns the text and the boxes of one frame.
  paint() {
    const frame = { text: "", boxes: [], wiped: 0 };
    const ink = () => ({
      write: (text, at) => {
        if (typeof text !== "string" || !Number.isFinite(at.y)) throw new Error(`write(${text}, ${at})`);
        frame.text += (frame.text && " ") + text;
      },
      box: (...b) => {
        if (b.length !== 4 || !b.every(Number.isFinite)) throw new Error(`box(${b})`);
        frame.boxes.push(b);
      },
    });
    os.paint({ wipe: () => frame.wiped++, ink, screen: this.screen });
    return frame;
  }

  get text() {
    return this.paint().text;
  }

  // until waits for a frame whose text matches, or for the jump.
  until(what) {
    return new Promise((resolve) => {
      this.#waiting.push({ what, resolve });
      this.#look();
    });
  }

  #look() {
    const text = this.text;
    this.#waiting = this.#waiting.filter((w) => !(w.what.test(text) && (w.resolve(text), true)));
  }
}

// settle lets everything happen that waits for nothing.
export async function settle() {
  for (let i = 0; i < 20; i++) await turn();
}

// Stream is a fetch whose answer the test gives bit by bit.
export class Stream {
  requests = [];
  #out;

  constructor(headers = {}, status = 200) {
    globalThis.fetch = async (url, { signal, headers: asked }) => {
      this.requests.push({ url, signal, asked });
      signal.throwIfAborted();
      const body = new ReadableStream({
        start: (c) => {
          this.#out = c;
          signal.addEventListener("abort", () => c.error(signal.reason));
        },
      });
      return new Response(body, { status, headers: { "content-type": "text/event-stream", ...headers } });
    };
  }

  async say(bytes) {
    this.#out.enqueue(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    await settle();
  }

  async close() {
    this.#out.close();
    await settle();
  }
}

// answers makes fetch give these answers, one after the other.
export function answers(...list) {
  const urls = [];
  globalThis.fetch = async (url) => {
    urls.push(url);
    const next = list.shift();
    if (!next) throw new Error("one request too many");
    return next();
  };
  return urls;
}

// Clock is a time that only a test moves on.
export class Clock {
  #real = { setTimeout, clearTimeout, now: Date.now };
  #alarms = new Map();
  #ids = 0;

  constructor(now) {
    this.now = now;
    globalThis.setTimeout = (f, ms) => (this.#alarms.set(++this.#ids, { f, at: this.now + ms }), this.#ids);
    globalThis.clearTimeout = (id) => this.#alarms.delete(id);
    Date.now = () => this.now;
  }

  tick(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#alarms].filter(([, a]) => a.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#alarms.delete(due[0]);
      this.now = due[1].at;
      due[1].f();
    }
    this.now = end;
  }

  get alarms() {
    return this.#alarms.size;
  }

  restore() {
    globalThis.setTimeout = this.#real.setTimeout;
    globalThis.clearTimeout = this.#real.clearTimeout;
    Date.now = this.#real.now;
  }
}

export const event = (type, data) => `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

export const json = (status, body, headers) => () =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });

// serve runs a server for one test, and says where.
export function serve(t, handler) {
  const server = http.createServer(handler);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

export { os };
