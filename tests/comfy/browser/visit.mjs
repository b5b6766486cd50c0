// Opens every workflow of the pack: on the classic canvas in windows of 1440x900 and 1920x1080, in Nodes 2.0 in the
// smaller one; and looks at their cards in the template browser.
// usage: node visit.mjs <server url> <chromium> <pack> <output folder> <title>...
// Writes <output folder>/report.json and one screenshot a workflow and rendering.
import { writeFileSync } from 'node:fs'
import { editor, launch, layout, open, scrollToLastCard } from './editor.mjs'

const [url, executable, pack, out, ...titles] = process.argv.slice(2)
const SMALL = { width: 1440, height: 900 }
const LARGE = { width: 1920, height: 1080 }
const browser = await launch(executable)
const report = Object.fromEntries(titles.map((title) => [title, { zoom: {}, boxes: {}, errors: [] }]))

for (const [mode, window] of [['classic', SMALL], ['nodes 2.0', SMALL], ['classic', LARGE]]) {
  const { page, errors } = await editor(browser, url, window, { 'Comfy.VueNodes.Enabled': mode !== 'classic' })
  for (const title of titles) {
    console.error(mode, window.width, title)
    errors.length = 0
    await open(page, pack, title)
    const { zoom, boxes } = await layout(page)
    report[title].zoom[`${mode} ${window.width}`] = zoom
    report[title].boxes[mode] = boxes
    if (window === LARGE) Object.assign(report[title], await content(page))
    else await page.screenshot({ path: `${out}/${title} (${mode}).png` })
    report[title].errors.push(...errors)
  }
  if (window === LARGE) await cards(page)
  await page.close()
}
writeFileSync(`${out}/report.json`, JSON.stringify(report))
await browser.close()

/** The template dialog with this pack's cards. */
async function cards(page) {
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
  const dialog = page.getByRole('dialog').filter({ hasText: 'All Templates' })
  await dialog.waitFor({ timeout: 60000 })
  await dialog.getByText(pack, { exact: true }).first().click({ timeout: 60000 })
  await page.waitForTimeout(1500)
  await scrollToLastCard(page, dialog)
  // Thumbnails are fetched once their card is in view and shown as blobs; only this pack's cards are listed now.
  for (const title of titles) {
    const card = dialog.getByText(title, { exact: true }).first()
    await card.scrollIntoViewIfNeeded({ timeout: 60000 })
    const shown = (title) => [...document.querySelectorAll('[role=dialog] img')].some((i) => i.alt === title && i.naturalWidth > 0)
    await page.waitForFunction(shown, title, { timeout: 5000 }).catch(() => {})
    const widths = (all) => all.map((i) => [i.alt, i.naturalWidth])
    report[title].pictures = await dialog.locator('img').evaluateAll(widths)
  }
  await page.waitForTimeout(1500)
  await page.screenshot({ path: `${out}/templates.png` })
}

/** What stands in the graph that is open, and what the editor would send of it. */
function content(page) {
  return page.evaluate(async () => {
    const known = (n) => n.type in window.LiteGraph.registered_node_types || n.subgraph
    const all = []
    const walk = (graph) => {
      for (const node of graph._nodes) {
        all.push(node)
        if (node.subgraph) walk(node.subgraph)
      }
    }
    walk(window.app.graph)
    const { output } = await window.app.graphToPrompt()
    return {
      nodes: all.length,
      red: all.filter((n) => n.has_errors).map((n) => n.type),
      missing: all.filter((n) => !known(n)).map((n) => n.type),
      output
    }
  })
}
