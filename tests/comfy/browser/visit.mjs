// Opens every workflow of the pack from ComfyUI's template browser in a headless Chromium.
// usage: node visit.mjs <server url> <chromium> <pack> <output folder> <title>...
// Writes <output folder>/report.json and one screenshot a workflow.
import { chromium } from 'playwright-core'
import { writeFileSync } from 'node:fs'

const [url, executablePath, pack, out, ...titles] = process.argv.slice(2)
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--use-gl=swiftshader', '--enable-unsafe-swiftshader']
})
const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } })
let errors = []
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
page.on('pageerror', (error) => errors.push(String(error)))

await page.goto(url, { waitUntil: 'domcontentloaded' })
await page.waitForFunction(() => window.app && window.app.graph && window.app.extensionManager, null, { timeout: 180000 })
await page.evaluate(async () => {
  await window.app.extensionManager.setting.set('Comfy.TutorialCompleted', true)
})
await page.waitForTimeout(3000)
await page.keyboard.press('Escape')

const report = {}
const visit = async (title) => {
  errors = []
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
  const dialog = page.getByRole('dialog').filter({ hasText: 'All Templates' })
  await dialog.waitFor({ timeout: 60000 })
  await dialog.getByText(pack, { exact: true }).first().click({ timeout: 60000 })
  const card = dialog.getByText(title, { exact: true }).first()
  await card.scrollIntoViewIfNeeded({ timeout: 60000 })
  // Thumbnails are fetched once their card is in view and shown as blobs; only this pack's cards are listed now.
  await page
    .waitForFunction((count) => [...document.querySelectorAll('[role=dialog] img')].filter((i) => i.naturalWidth > 0).length >= count, titles.length, { timeout: 20000 })
    .catch(() => {})
  if (title === titles[0]) await page.screenshot({ path: `${out}/templates.png` })
  const pictures = await dialog.locator('img').evaluateAll((all) => all.map((i) => [i.src, i.naturalWidth]))
  await card.click()
  await page.waitForFunction(() => window.app.graph._nodes.length > 3, null, { timeout: 60000 })
  await page.waitForTimeout(1500)
  const seen = await page.evaluate(async () => {
    const nodes = window.app.graph._nodes
    const { output } = await window.app.graphToPrompt()
    return {
      nodes: nodes.length,
      missing: nodes.filter((n) => !(n.type in window.LiteGraph.registered_node_types)).map((n) => n.type),
      output
    }
  })
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView'))
  await page.waitForTimeout(1500)
  await page.screenshot({ path: `${out}/${title}.png` })
  report[title] = { ...seen, pictures, errors: [...errors] }
  await page.evaluate(() => window.app.graph.clear())
}
for (const title of titles) {
  try {
    console.error(title); await visit(title)
  } catch (error) {
    await page.screenshot({ path: `${out}/failed.png` })
    console.error(`${title}: ${error}`)
    process.exit(1)
  }
}
writeFileSync(`${out}/report.json`, JSON.stringify(report))
await browser.close()
