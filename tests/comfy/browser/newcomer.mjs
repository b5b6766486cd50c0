// A newcomer's path: template browser, the app's card, Run, result; in both renderings and both themes.
// usage: node newcomer.mjs <server url> <chromium> <pack> <output folder> <app's title>
// Writes <output folder>/newcomer.json and screenshots of every step.
import { writeFileSync } from 'node:fs'
import { editor, launch, layout, scrollToLastCard } from './editor.mjs'

const [url, executable, pack, out, title] = process.argv.slice(2)
const LOOKS = [[false, 'dark'], [true, 'dark'], [false, 'light'], [true, 'light']]
const browser = await launch(executable)
const report = []
for (const [vue, theme] of LOOKS) report.push(await path(vue, theme))
writeFileSync(`${out}/newcomer.json`, JSON.stringify(report))
await browser.close()

async function path(vue, theme) {
  const look = `${vue ? 'nodes 2.0' : 'classic'} ${theme}`
  const settings = { 'Comfy.VueNodes.Enabled': vue, 'Comfy.ColorPalette': theme }
  const { page, errors } = await editor(browser, url, { width: 1920, height: 1080 }, settings)
  const shot = (step) => page.screenshot({ path: `${out}/newcomer, ${look}, ${step}.png` })
  let clicks = 0
  const click = async (place) => {
    await place.click({ timeout: 60000 })
    clicks += 1
  }
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
  const dialog = page.getByRole('dialog').filter({ hasText: 'All Templates' })
  await dialog.waitFor({ timeout: 60000 })
  await click(dialog.getByText(pack, { exact: true }).first())
  await page.waitForTimeout(2000)
  await shot('1 templates')
  await scrollToLastCard(page, dialog)
  await click(dialog.getByText(title, { exact: true }).first())
  const run = page.getByRole('button', { name: 'Run', exact: true }).first()
  await run.waitFor({ timeout: 60000 })
  // ComfyUI's own tour of apps, once in a profile
  await page.getByText('Skip', { exact: true }).click({ timeout: 5000 }).catch(() => {})
  await page.waitForTimeout(2500)
  await shot('2 app')
  const panel = await page.evaluate(() => document.body.innerText)
  const begun = Date.now()
  await click(run)
  await page.waitForTimeout(9000)
  await shot('3 while it works')
  await page.getByText('Rerun', { exact: true }).first().waitFor({ timeout: 550000 }) // stands above a result
  const seconds = (Date.now() - begun) / 1000
  await page.waitForTimeout(3000)
  await shot('4 result')
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.ToggleLinear'))
  await page.waitForTimeout(4000)
  await shot('5 graph')
  const { boxes } = await layout(page)
  await page.close()
  return { look, clicks, seconds, panel, boxes, errors }
}
