// ComfyUI's editor in a headless Chromium: what the scripts of this folder share.
import { chromium } from 'playwright-core'

const ARGUMENTS = ['--no-sandbox', '--disable-dev-shm-usage', '--use-gl=swiftshader', '--enable-unsafe-swiftshader']

export const launch = (executablePath) => chromium.launch({ executablePath, headless: true, args: ARGUMENTS })

/** A page with the editor, with these settings; `errors` collects what the console says. */
export async function editor(browser, url, viewport, settings = {}) {
  const page = await browser.newPage({ viewport })
  const errors = []
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
  page.on('pageerror', (error) => errors.push(String(error)))
  await started(page, () => page.goto(url, { waitUntil: 'domcontentloaded', timeout: 180000 }))
  const all = { 'Comfy.TutorialCompleted': true, 'Comfy.Minimap.Visible': false, ...settings }
  await page.evaluate(async (values) => {
    for (const [name, value] of Object.entries(values)) await window.app.extensionManager.setting.set(name, value)
  }, all)
  await started(page, () => page.reload({ waitUntil: 'domcontentloaded', timeout: 180000 }))
  await page.waitForTimeout(3000)
  await page.keyboard.press('Escape')
  return { page, errors }
}

async function started(page, open) {
  await open()
  const ready = () => window.app && window.app.graph && window.app.extensionManager
  await page.waitForFunction(ready, null, { timeout: 180000 })
}

/** Opens a template as its card does, without the dialog around it. */
export async function open(page, pack, title) {
  await page.evaluate(
    async ([pack, title]) => {
      const answer = await fetch(`/api/workflow_templates/${pack}/${encodeURIComponent(title)}.json`)
      await window.app.loadGraphData(await answer.json(), true, true, title, { openSource: 'template' })
    },
    [pack, title]
  )
  await page.waitForFunction(() => window.app.graph._nodes.length > 3, null, { timeout: 60000 })
  await page.waitForTimeout(1000)
}

/** The zoom, and where each node is in the graph, as the canvas says and, in Nodes 2.0, as the page draws it. */
export const layout = (page) =>
  page.evaluate(() => {
    const { scale, offset } = window.app.canvas.ds
    const drawn = {}
    for (const element of document.querySelectorAll('[data-node-id]')) {
      const box = element.getBoundingClientRect()
      drawn[element.dataset.nodeId] = {
        x: box.x / scale - offset[0],
        y: box.y / scale - offset[1],
        width: box.width / scale,
        height: box.height / scale
      }
    }
    const boxes = window.app.graph._nodes.map((n) => {
      const [width, height] = n.computeSize()
      const own = { x: n.pos[0], y: n.pos[1], width: n.size[0], height: n.size[1], needs: [width, height] }
      return { id: String(n.id), title: n.title, type: n.type, ...own, drawn: drawn[String(n.id)] }
    })
    return { zoom: scale, boxes }
  })

/** Scrolls the template dialog to its end: it shows 24 cards, in the order of the server's file system, and the rest as
 * one scrolls. */
export async function scrollToLastCard(page, dialog) {
  const box = await dialog.boundingBox()
  await page.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.6)
  for (let i = 0; i < 8; i++) {
    await page.mouse.wheel(0, 3000)
    await page.waitForTimeout(700)
  }
}
