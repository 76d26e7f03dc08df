// Downloads an address in Chromium, as a person's click does, and prints the SHA-256 of the file.
// The file grows in the folder ISOFS_DOWNLOADS. Chromium trusts a self-signed certificate if ISOFS_SPKI
// has the SHA-256 of its key. ISOFS_RULES maps its name to an address (--host-resolver-rules).
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { chromium } from 'playwright-core';

const { ISOFS_ADDRESS: address, ISOFS_DOWNLOADS: downloadsPath, ISOFS_CHROMIUM: executablePath, ISOFS_SPKI, ISOFS_RULES } = process.env;
const browser = await chromium.launch({
  executablePath, downloadsPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    ...(ISOFS_SPKI ? [`--ignore-certificate-errors-spki-list=${ISOFS_SPKI}`] : []),
    ...(ISOFS_RULES ? [`--host-resolver-rules=${ISOFS_RULES}`] : [])],
});
try {
  const page = await browser.newPage();
  await page.setContent(`<a href="${address}" download>download</a>`);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('a')]);
  const failed = await download.failure();
  if (failed) throw new Error(`Chromium gave the download up: ${failed}`);
  const sum = createHash('sha256');
  await pipeline(createReadStream(await download.path()), sum);
  console.log(sum.digest('hex'));
} finally {
  await browser.close();
}
