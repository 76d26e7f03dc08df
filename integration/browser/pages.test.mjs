// The pages in a browser. No test waits for time to pass: gates hold the oven's
// answers, and the tests set the page's clock.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessible, browser, control, fits, leak, packed, readQR, sha256, site, state, stopClock, withPage, words } from './rig.mjs';

after(() => browser.close());

test('from a name in the box to the bytes of the image', () => withPage({}, async page => {
  await control('/hold?piece=gated');
  await page.goto(site + '/');
  await accessible(page, 'index');
  await fits(page, 'index');
  await page.getByLabel('Which piece?').fill('note');
  assert.deepEqual(await page.locator('.pieces li:visible .piece').allInnerTexts(), ['os:notepat']);
  await page.getByLabel('Which piece?').fill('gated');
  assert.match(await words(page, 'count'), /none fits/);
  // The page records its stages in window.seen.
  await page.addInitScript(() => {
    window.seen = [];
    document.addEventListener('DOMContentLoaded', () => new MutationObserver(records => {
      for (const r of records) if (r.oldValue === 'now') window.seen.push(r.target.dataset.stage);
    }).observe(document.getElementById('stages') ?? document.body, { subtree: true, attributeFilter: ['class'], attributeOldValue: true }));
  });
  await page.keyboard.press('Enter');
  await page.waitForURL(site + '/os:gated');
  await page.waitForSelector('#stages [data-stage=bundle].now');
  const bar = page.getByRole('progressbar');
  const half = await bar.evaluate(b => b.value / b.max);
  assert.ok(half > 0 && half < 1, `the bar is at ${half}`);
  assert.match(await words(page, 'say'), /bundle/i);
  assert.equal(await page.locator('#download').getAttribute('href'), '/gated-os.iso'); // always there
  await accessible(page, 'progress');
  await fits(page, 'progress');
  const downloading = page.waitForEvent('download');
  await control('/open?piece=gated');
  const download = await downloading;
  await state(page, 'done');
  assert.deepEqual(await page.evaluate(() => window.seen), ['name', 'bundle', 'volume', 'digest', 'warm']); // the stages before the last
  assert.equal(await page.locator('#stages .now').textContent(), 'done');
  assert.equal(download.suggestedFilename(), 'gated-os.iso');
  assert.equal(await words(page, 'title'), 'a gated piece');
  const shown = await words(page, 'sha256');
  assert.equal(await sha256(await download.path()), shown);
  const published = await page.request.get(download.url() + '.sha256');
  assert.equal(await published.text(), `${shown}  gated-os.iso\n`);
  assert.equal(await words(page, 'check'), `echo '${shown}  gated-os.iso' | sha256sum -c`);
  await accessible(page, 'done');
  await fits(page, 'done');
}));

test('the image is the one that isofs pack makes; a reload does not download it again', () => withPage({ permissions: ['clipboard-read', 'clipboard-write'] }, async page => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.goto(site + '/os:notepat')]);
  assert.equal(await sha256(await download.path()), packed);
  let more = 0;
  page.on('download', d => { more++; d.cancel(); });
  await page.reload();
  await state(page, 'done');
  assert.match(await words(page, 'say'), /was downloaded from here before/);
  assert.equal(more, 0);
  const [again] = await Promise.all([page.waitForEvent('download'), page.locator('#download').click()]);
  assert.equal(again.url(), download.url());

  await page.locator('[data-copy=sha256]').click();
  await page.getByText('Copied SHA-256').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), packed);
  await page.locator('[data-copy=wget]').focus();
  await page.keyboard.press('Enter');
  await page.getByText('Copied the wget command').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `wget -c '${download.url()}'`);
  const etcher = await page.getByText('Flash with Etcher').getAttribute('href');
  assert.deepEqual(JSON.parse(decodeURIComponent(etcher.slice('etcher://'.length))), { url: download.url() });
  assert.equal(await readQR(page.locator('.qr')), page.url());
  // Etcher gets the link as the browser normalizes it.
  assert.equal(await page.getByText('Flash with Etcher').evaluate(a => a.href), etcher);
}));

for (const [piece, heading, says, advice, retries] of [
  ['unknown', 'No such piece', /no piece named unknown/, /spelling/, false],
  ['huge', 'Too large', /larger than the [0-9]+ bytes/, /smaller/, false],
  ['broken', 'The oven does not answer', /does not deliver/, /tried again by itself/, true],
  ['dead', 'The oven does not answer', /does not deliver/, /tried again by itself/, true],
  ['busy', 'Busy', /oven.*busy/, /tried again by itself/, true],
]) {
  test(`the error page of a piece: ${piece}`, () => withPage({}, async page => {
    await stopClock(page);
    await page.goto(`${site}/os:${piece}`);
    await state(page, 'failed');
    assert.equal(await words(page, 'heading'), heading);
    assert.match(await words(page, 'trouble'), says);
    assert.match(await words(page, 'advice'), advice);
    assert.ok(await page.getByRole('button', { name: 'Try again' }).isVisible());
    assert.equal(await page.locator('#download').isVisible(), retries);
    assert.equal(await page.locator('#wait').isVisible(), retries);
    if (retries) await retriesWhenTold(page, piece === 'busy' ? 77 : 30);
    if (piece === 'unknown' || piece === 'busy') {
      await page.clock.resume();
      await accessible(page, piece);
      await fits(page, piece);
    }
  }));
}

/** Checks that the page retries when its wait is over. The wait is at most that long: some seconds may have passed on the server. */
async function retriesWhenTold(page, most) {
  const wait = Number(/Next try in (\d+) s/.exec(await words(page, 'wait'))[1]);
  assert.ok(wait > 0 && wait <= most, `the wait is ${wait} s`);
  // The page sends its next request when the wait is over, and not before.
  let asked = 0;
  page.on('request', r => { if (r.url().includes('/os?')) asked++; });
  await page.clock.runFor((wait - 1) * 1000);
  assert.equal(await words(page, 'wait'), 'Next try in 1 s.');
  assert.equal(asked, 0);
  const next = page.waitForRequest(/\/os\?/);
  await page.clock.runFor(1000);
  await next;
  await state(page, 'failed');
  assert.match(await words(page, 'wait'), /Next try/);
}

test('a page that has to wait succeeds without a click', () => withPage({}, async page => {
  await stopClock(page);
  let first = true;
  await page.route(/\/os\?/, route => first ? (first = false, route.fulfill({
    status: 429, headers: { 'Retry-After': '9' }, contentType: 'application/json', body: '{"error":"too many requests"}',
  })) : route.continue());
  await page.goto(site + '/os:ripple');
  await state(page, 'failed');
  assert.equal(await words(page, 'heading'), 'Too many at once');
  assert.match(await words(page, 'wait'), /in 9 s/);
  const downloading = page.waitForEvent('download');
  await page.clock.runFor(9_000);
  await (await downloading).cancel();
  await state(page, 'done');
}));

test('a connection that is lost, before and while the image is made', () => withPage({}, async (page, context) => {
  await stopClock(page);
  await page.route(/\/os\?/, route => route.fulfill({ // as a proxy that gives up
    contentType: 'text/event-stream', body: 'event: progress\ndata: {"stage":"name","message":"x","step":1,"totalSteps":6}\n\n: heartbeat\n\n',
  }));
  await page.goto(site + '/os:lost');
  await state(page, 'failed');
  assert.equal(await words(page, 'heading'), 'Connection lost');
  assert.match(await words(page, 'wait'), /in 2 s/);
  await page.unroute(/\/os\?/);
  await context.setOffline(true);
  await page.getByRole('button', { name: 'Try again' }).click();
  await state(page, 'failed');
  assert.equal(await words(page, 'heading'), 'Connection lost');
  const downloading = page.waitForEvent('download');
  await context.setOffline(false); // the browser notifies the page, which sends a request at once
  await (await downloading).cancel();
  await state(page, 'done');
}));

test('a wrong name gets an explanation', () => withPage({}, async page => {
  await page.goto(site + '/');
  await page.getByLabel('Which piece?').fill('not a piece');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').waitFor();
  assert.match(await words(page, 'problem'), /cannot be in it/);
  assert.equal(await page.getByLabel('Which piece?').inputValue(), 'not a piece');
  assert.ok(await page.getByText('Names look like this').isVisible());
  await accessible(page, 'misspelt');
  const answer = await page.goto(site + '/os:@jeffrey');
  assert.equal(answer.status(), 400);
  await accessible(page, 'no-name');
  await fits(page, 'no-name');
}));

test('names in all forms', () => withPage({}, async page => {
  for (const [typed, path] of [['$abc', '/os:$abc'], ['@Jeffrey/tone', '/os:@jeffrey/tone'], ['os:notepat', '/os:notepat']]) {
    await page.goto(site + '/');
    await page.getByLabel('Which piece?').fill(typed);
    const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Enter')]);
    await download.cancel();
    assert.equal(page.url(), site + path);
    await state(page, 'done');
  }
  await page.setViewportSize({ width: 360, height: 740 });
  await page.goto(site + '/os:@sixteen.letters1/a-piece-with-the-longest-name-that-one-may-have-on-this-computer');
  await state(page, 'done');
  await fits(page, 'long');
}));

test('without JavaScript', () => withPage({ javaScriptEnabled: false }, async page => {
  await page.goto(site + '/');
  await page.getByLabel('Which piece?').fill('clock');
  await page.keyboard.press('Enter');
  await page.waitForURL(site + '/os:clock');
  // The server has no build of it yet, and the page shows no endless progress.
  assert.equal(await page.locator('#build').isVisible(), false);
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#download').click()]);
  const sum = await sha256(await download.path());
  await page.reload();
  assert.equal(await words(page, 'sha256'), sum);
  assert.match(await page.locator('#download').getAttribute('href'), /^\/s\/[0-9a-f]{32}\/clock-os\.iso$/);
  assert.equal(await page.locator('button:visible').count(), 0); // a button would do nothing
}));

test('a preview is a stranger', () => withPage({ hostile: true }, async page => {
  // First, the spy does see a request.
  await fetch(leak.http + '/from-the-test');
  assert.deepEqual((await control('/leaks')).requests, ['/from-the-test']);
  await control('/forget');
  await page.context().addCookies([{ name: 'secret', value: 'crumbs', url: site }]);
  const [download] = await Promise.all([page.waitForEvent('download'), page.goto(site + '/os:hostile')]);
  await download.cancel();
  await state(page, 'done');
  await page.locator('iframe').waitFor(); // the page opens it on a screen of this size
  const frame = await (await page.locator('iframe').elementHandle()).contentFrame();
  await frame.waitForFunction(() => window.tried);
  const tried = await frame.evaluate(() => window.tried);
  assert.equal(tried.ran, 'yes'); // its scripts do run
  assert.equal(tried.origin, 'null');
  for (const [what, outcome] of Object.entries(tried)) {
    if (!['ran', 'origin'].includes(what)) assert.match(outcome, /^refused/, what);
  }
  assert.ok(Object.keys(tried).length > 12);
  const left = page.waitForEvent('framenavigated', f => f === frame);
  await frame.evaluate(to => { location = to; }, leak.http + '/itself');
  await left;
  assert.equal(frame.url(), 'chrome-error://chromewebdata/');
  assert.equal(page.url(), site + '/os:hostile');
  assert.equal(page.context().pages().length, 1);
  assert.deepEqual(await control('/leaks'), { requests: [], connections: 0, packets: 0 });
  // It does not open as a page, in which it could navigate anywhere.
  const source = await page.locator('iframe').getAttribute('src');
  await page.goto(site + source);
  assert.equal(page.url(), site + '/os:hostile');
}));

test('a preview waits to be opened where it may be a burden', () => withPage({ reducedMotion: 'reduce' }, async page => {
  const asked = [];
  page.on('request', r => { if (r.url().endsWith('/preview')) asked.push(r.url()); });
  const [download] = await Promise.all([page.waitForEvent('download'), page.goto(site + '/os:prompt')]);
  await download.cancel();
  await state(page, 'done');
  assert.equal(await page.locator('iframe').isVisible(), false);
  assert.deepEqual(asked, []);
  await page.locator('#preview summary').focus();
  await page.keyboard.press('Enter');
  const frame = await (await page.locator('iframe').elementHandle()).contentFrame();
  await frame.waitForLoadState();
  assert.equal(asked.length, 1);
}));
