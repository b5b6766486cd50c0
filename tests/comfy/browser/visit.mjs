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
const page = await browser.newPage({ viewport: { width: 2560, height: 1600 } })
const CANVAS = [64, 96, 2480, 1390] // the part of the window that no menu covers
let errors = []
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
page.on('pageerror', (error) => errors.push(String(error)))

await page.goto(url, { waitUntil: 'domcontentloaded' })
await page.waitForFunction(() => window.app && window.app.graph && window.app.extensionManager, null, { timeout: 180000 })
await page.evaluate(async () => {
  await window.app.extensionManager.setting.set('Comfy.TutorialCompleted', true)
  await window.app.extensionManager.setting.set('Comfy.Minimap.Visible', false)
  await window.app.extensionManager.setting.set('LiteGraph.Canvas.MinFontSizeForLOD', 0)
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
    const boxes = nodes.map((n) => {
      const [width, height] = n.computeSize()
      return { id: String(n.id), type: n.type, x: n.pos[0], y: n.pos[1], width: n.size[0], height: n.size[1], needs: [width, height] }
    })
    return {
      nodes: nodes.length,
      boxes,
      red: nodes.filter((n) => n.has_errors).map((n) => n.type),
      missing: nodes.filter((n) => !(n.type in window.LiteGraph.registered_node_types)).map((n) => n.type),
      output
    }
  })
  await page.evaluate(([x, y, width, height]) => {
    const nodes = window.app.graph._nodes
    const left = Math.min(...nodes.map((n) => n.pos[0])) - 40
    const top = Math.min(...nodes.map((n) => n.pos[1])) - 90
    const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0])) + 40
    const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1])) + 40
    const view = window.app.canvas.ds
    view.scale = Math.min(width / (right - left), height / (bottom - top), 1)
    view.offset[0] = (x + width / 2) / view.scale - (left + right) / 2
    view.offset[1] = (y + height / 2) / view.scale - (top + bottom) / 2
    window.app.canvas.setDirty(true, true)
  }, CANVAS)
  await page.waitForTimeout(2500)
  const [x, y, width, height] = CANVAS
  await page.screenshot({ path: `${out}/${title}.png`, clip: { x, y, width, height } })
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
