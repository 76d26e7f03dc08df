'use strict';
// What the pages do beyond being read. Each works without.
(() => {
  const $ = id => document.getElementById(id);

  // Copying is offered where it can be done: not everywhere without TLS.
  function offerCopies() {
    for (const b of document.querySelectorAll('[data-copy]')) b.hidden = !navigator.clipboard;
  }
  document.addEventListener('click', async event => {
    const b = event.target.closest('[data-copy]');
    if (!b) return;
    const text = b.firstChild;
    try {
      await navigator.clipboard.writeText($(b.dataset.copy).textContent);
      text.data = 'Copied';
      $('copied').textContent = 'Copied.';
    } catch {
      getSelection().selectAllChildren($(b.dataset.copy));
      text.data = 'Selected';
    }
    setTimeout(() => { text.data = 'Copy'; $('copied').textContent = ''; }, 2000);
  });
  offerCopies();

  // The index: the list shows what fits what is typed.
  const list = document.querySelector('.pieces'), box = $('piece');
  if (list && box) box.addEventListener('input', () => {
    const said = box.value.trim().replace(/^os:/, '').toLowerCase();
    let shown = 0;
    for (const li of list.children) {
      li.hidden = !li.dataset.piece.toLowerCase().includes(said);
      if (!li.hidden) shown++;
    }
    $('count').textContent = !said ? '' : shown ? `${shown} fit` : 'none fits: Go asks for it all the same';
  });

  const main = document.querySelector('.os-page');
  if (!main) return;
  const { query, piece, file } = main.dataset;
  const here = location.pathname;
  const quietAfter = 60_000; // the server says something at least every 15 s
  const mostTries = 8;

  // Opens the preview by itself where that costs nobody anything.
  function openPreview() {
    const weak = matchMedia('(prefers-reduced-motion: reduce), (max-width: 50rem)').matches ||
      navigator.connection?.saveData || (navigator.deviceMemory ?? 8) < 4;
    const details = document.querySelector('#preview details');
    if (details && !weak) details.open = true;
  }

  function show(state, heading) {
    main.dataset.state = state;
    $('heading').textContent = heading;
    $('build').hidden = false;
    $('bar').hidden = $('stages').hidden = state !== 'working';
    const failed = state === 'failed';
    $('retry').hidden = !failed;
    $('advice').hidden = $('wait').hidden = !failed;
    if (!failed) $('trouble').textContent = $('advice').textContent = $('wait').textContent = '';
  }

  function progress({ stage, message, step, totalSteps }) {
    $('bar').max = totalSteps;
    $('bar').value = step;
    $('say').textContent = message;
    let passed = true;
    for (const li of $('stages').children) {
      const now = li.dataset.stage === stage;
      if (now) { li.hidden = false; passed = false; }
      li.className = now ? 'now' : passed ? 'past' : '';
      if (now) li.setAttribute('aria-current', 'step'); else li.removeAttribute('aria-current');
    }
  }

  // A Trouble is why there is no image: an HTTP status, 0 for a connection lost.
  class Trouble extends Error {
    constructor(status, text, after) { super(text); this.status = status; this.after = after; }
  }

  // build asks for the image and resolves to what the server says of it.
  async function build() {
    const abort = new AbortController();
    let silence;
    const heard = () => { clearTimeout(silence); silence = setTimeout(() => abort.abort(), quietAfter); };
    heard();
    try {
      const answer = await fetch(`/os?${query}&format=stream`, {
        headers: { Accept: 'text/event-stream, application/json' }, cache: 'no-store', signal: abort.signal,
      });
      if (!answer.ok) {
        const { error } = await answer.json().catch(() => ({}));
        throw new Trouble(answer.status, error, Number(answer.headers.get('Retry-After')));
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ''; ;) {
        const { value, done } = await reader.read();
        if (done) throw new Trouble(0);
        heard();
        const events = (text + value).split('\n\n');
        text = events.pop();
        for (const e of events) {
          const field = name => e.match(new RegExp(`^${name}: ?(.*)$`, 'm'))?.[1];
          const type = field('event'), data = type && JSON.parse(field('data'));
          if (type === 'progress') progress(data);
          if (type === 'error') throw new Trouble(data.status, data.error, data.retryAfter);
          if (type === 'complete') return data;
        }
      }
    } catch (err) {
      throw err instanceof Trouble ? err : new Trouble(0);
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }

  // What the server wrote for the piece as it is now replaces what is here.
  async function renew(snapshot) {
    if (main.dataset.snapshot === snapshot) return;
    const answer = await fetch(here, { cache: 'no-store' });
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const id of ['title', 'get', 'preview', 'flash', 'terminal']) $(id).replaceWith(fresh.getElementById(id));
    main.dataset.snapshot = fresh.querySelector('main').dataset.snapshot ?? '';
    offerCopies();
    openPreview();
  }

  // download begins it once in a tab for each image: not again with each reload.
  // It is the image of which the page shows the digest, if it shows one.
  function download(done) {
    const key = `isofs ${file} ${main.dataset.snapshot || done.snapshot}`;
    try {
      if (sessionStorage.getItem(key)) return false;
      sessionStorage.setItem(key, 'begun');
    } catch { /* no storage: then once for each load */ }
    const a = document.createElement('a');
    a.href = main.dataset.snapshot ? $('download').href : done.downloadUrl;
    a.download = done.filename;
    a.click();
    return true;
  }

  function finish(done) {
    show('done', 'Your image is ready');
    $('say').textContent = download(done)
      ? `${done.filename} is downloading. If it is not, use the button.`
      : `${done.filename} was downloaded from here before. The button downloads it again.`;
  }

  const again = ' It is tried again by itself.';
  const help = {
    0: ['Connection lost', 'The server cannot be reached, or the connection broke.', 'Look whether you are online.' + again],
    400: ['That is not a piece', '', 'Look at the name in the address, and at the names on the page of all pieces.'],
    404: ['No such piece', `There is no piece named ${piece}.`, 'Check the spelling; upper and lower case matter. A piece has to be published before it can be booted.'],
    413: ['Too large', `The bundle of ${piece} is too large for an image.`, 'Whoever made the piece has to make it smaller: pictures and sounds weigh the most.'],
    429: ['Too many at once', 'You asked for more than this server gives one address at a time.', 'Other downloads of yours may have to end first.' + again],
    500: ['That did not work', 'Something went wrong on the server.', 'Try again later. If it goes on, tell the operator, whose log says what it is.'],
    502: ['The oven does not answer', `The oven, which packs ${piece}, does not deliver it at the moment.`, 'Nothing is wrong with your machine.' + again],
    503: ['Busy', 'The server is busy with other pieces.', 'You need not do anything.' + again],
    504: ['The oven takes too long', `The oven, which packs ${piece}, did not answer in time.`, 'Large pieces take long the first time.' + again],
  };
  const passing = [0, 429, 502, 503, 504];

  let tries = 0, ticking;

  function fail(trouble) {
    const [heading, text, advice] = help[trouble.status] ?? help[trouble.status < 500 ? 400 : 500];
    show('failed', heading);
    $('say').textContent = '';
    const said = trouble.message || text;
    $('trouble').textContent = said && said[0].toUpperCase() + said.slice(1).replace(/\.?$/, '.');
    tries++;
    main.toggleAttribute('data-hopeless', [400, 404, 413].includes(trouble.status)); // nothing of what is not
    const hopeful = passing.includes(trouble.status) && tries < mostTries;
    $('advice').textContent = hopeful ? advice : advice.replace(again, '');
    $('wait').hidden = !hopeful;
    if (hopeful) countDown(trouble.after || (trouble.status ? 30 : Math.min(30, 2 ** tries)));
  }

  function countDown(seconds) {
    const end = Date.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      if (left <= 0) return run();
      $('wait').textContent = `Next try in ${left} s.`;
    };
    clearInterval(ticking);
    ticking = setInterval(tick, 1000);
    tick();
  }

  async function run() {
    clearInterval(ticking);
    main.removeAttribute('data-hopeless');
    show('working', 'Making your image');
    $('bar').removeAttribute('value'); // not known yet
    $('say').textContent = 'Asking for the image';
    try {
      const done = await build();
      tries = 0;
      await renew(done.snapshot).catch(() => {}); // the download does not need it
      finish(done);
    } catch (trouble) {
      fail(trouble);
    }
  }

  $('again').addEventListener('click', () => { tries = 0; $('heading').focus(); run(); });
  addEventListener('online', () => { if (main.dataset.state === 'failed' && !$('wait').hidden) run(); });
  openPreview();
  run();
})();
