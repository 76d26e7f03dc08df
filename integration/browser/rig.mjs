// The tests share one browser, and pages that report what they should not do.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import jsQR from 'jsqr';
import { chromium } from 'playwright-core';

const env = name => process.env[name] ?? assert.fail(`${name} is not set; integration.TestBrowser sets it`);

export const site = env('ISOFS_URL');
/** Asks the Go side of the test: it opens the oven's gates, and says what reached the spy. */
export const control = async path => (await fetch(env('ISOFS_CONTROL') + path)).json();
export const packed = env('ISOFS_PACKED_SHA256'); // of notepat's image, as isofs pack makes it
export const leak = { http: env('ISOFS_LEAK'), udp: env('ISOFS_LEAK_UDP') };
const shots = env('ISOFS_SCREENSHOTS');
mkdirSync(shots, { recursive: true });

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const browser = await chromium.launch({
  executablePath: env('ISOFS_CHROMIUM'),
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

/**
 * Opens a page for a test and closes it after. The test fails if the page tries
 * what its policy forbids, or if its script has an error.
 */
export async function withPage(options, use) {
  const context = await browser.newContext({ colorScheme: 'dark', viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(60_000); // only so that no test hangs
  const complaints = [];
  const page = await context.newPage();
  page.on('pageerror', e => complaints.push(`error: ${e.message}`));
  page.on('console', m => { if (/content security policy|violates|refused to/i.test(m.text()) && !options.hostile) complaints.push(m.text()); });
  try {
    const result = await use(page, context);
    assert.deepEqual(complaints, []);
    return result;
  } finally {
    await context.close();
  }
}

/** Stops the page's clock. Its timers then run only by page.clock.runFor. */
export async function stopClock(page) {
  await page.clock.install({ time: 0 });
  await page.clock.pauseAt(1000);
}

/** Waits for the page of a piece to be in a state. */
export const state = (page, name) => page.waitForSelector(`main[data-state="${name}"]`);

export const words = (page, id) => page.locator(`#${id}`).innerText();

/** Checks in both colour schemes that axe finds no serious or critical problem. */
export async function accessible(page, what) {
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(source => { if (!window.axe) (0, eval)(source); }, axe).catch(() => page.evaluate(axe));
    const { violations } = await page.evaluate(() => axe.run(document, { iframes: false, resultTypes: ['violations'] }));
    const bad = violations.filter(v => ['serious', 'critical'].includes(v.impact));
    assert.deepEqual(bad.map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 200)).join('; ')}`), [], `${what} in ${colorScheme}`);
    await page.screenshot({ path: join(shots, `${what}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'dark' });
}

/** Checks that the page is not wider than a small phone. */
export async function fits(page, what) {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, `${what} scrolls sideways`);
  await page.screenshot({ path: join(shots, `${what}-phone.png`), fullPage: true });
  await page.setViewportSize(before);
}

/** Returns the text of the QR code in an element. */
export async function readQR(locator) {
  const png = (await locator.screenshot()).toString('base64');
  const context = await browser.newContext();
  try {
    const { data, width, height } = await (await context.newPage()).evaluate(async png => {
      const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
      const canvas = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
      canvas.drawImage(picture, 0, 0);
      const { data, width, height } = canvas.getImageData(0, 0, picture.width, picture.height);
      return { data: [...data], width, height };
    }, png);
    return jsQR(Uint8ClampedArray.from(data), width, height)?.data;
  } finally {
    await context.close();
  }
}

export async function sha256(path) {
  const sum = createHash('sha256');
  for await (const chunk of createReadStream(path)) sum.update(chunk);
  return sum.digest('hex');
}
