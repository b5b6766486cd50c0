import { editor, launch, open } from './editor.mjs'
const [url, executable, title] = process.argv.slice(2)
const browser = await launch(executable)
const { page } = await editor(browser, url, { width: 1920, height: 1080 })
await open(page, 'ComfyUI-DeT', title)
await page.getByText('Skip', { exact: true }).click({ timeout: 5000 }).catch(() => {})
const run = page.getByRole('button', { name: 'Run', exact: true }).first()
await run.waitFor({ timeout: 60000 })
await page.waitForTimeout(3000)
console.log('idle begin')
await page.waitForTimeout(5000)
console.log('run')
let kinds = {}
await page.evaluate(() => {
  window.__frames = 0; const f = () => { window.__frames++; requestAnimationFrame(f) }; if (location.hash === '#raf') f()
  window.__msg = {}
  const api = window.app.api
  for (const k of ['executing','progress','progress_state','b_preview','b_preview_with_metadata','executed','progress_text','execution_success']) api.addEventListener(k, (e) => { window.__msg[k] = (window.__msg[k] || 0) + 1; if (k==='executing') (window.__ex = window.__ex || []).push([Math.round(performance.now()), JSON.stringify(e.detail)]) })
})
await run.click()
let n = 0
const timer = setInterval(async () => { console.log('t' + (n += 10)) }, 10000)
await page.waitForTimeout(14000)
await page.screenshot({ path: '/tmp/hour/during.png' }).catch(() => {})
await page.getByText('Rerun', { exact: true }).first().waitFor({ timeout: 1500000 })
clearInterval(timer)
console.log('result')
console.log(JSON.stringify(await page.evaluate(() => [window.__msg, window.__ex])))
await page.waitForTimeout(5000)
console.log('idle after')
await page.screenshot({ path: '/tmp/hour/after.png' }).catch(() => {})
await browser.close()
