// Drops the blueprints of the pack on the canvas as a user does (a double click, the name, Enter) and connects them to
// the embedded model and a video.
// usage: node blueprints.mjs <server url> <chromium> <output folder>
// Writes <output folder>/blueprints.json, {seen: {name: sockets and widgets of the node}, sent: what the editor would
// send of each canvas}, and screenshots.
import { writeFileSync } from 'node:fs'
import { editor, launch } from './editor.mjs'

const [url, executable, out] = process.argv.slice(2)
const CANVASES = [['Transfer motion'], ['Learn a motion', 'Replay a motion'], ['Replay a motion']]
const browser = await launch(executable)
const { page, errors } = await editor(browser, url, { width: 1440, height: 900 })
const report = { seen: {}, sent: [], errors }
for (const names of CANVASES) {
  await page.evaluate(() => window.app.graph.clear())
  for (const [number, name] of names.entries()) report.seen[name] = await dropped(name, 400 + 480 * number)
  report.sent.push(await connected(names))
  await page.screenshot({ path: `${out}/blueprints, ${names.join(' and ')}.png` })
}
writeFileSync(`${out}/blueprints.json`, JSON.stringify(report))
await browser.close()

/** A double click on the canvas; on a busy machine its two clicks may come too far apart, and it is made again. */
async function search(x) {
  const typing = () => document.activeElement.tagName === 'INPUT'
  for (let attempt = 0; attempt < 6; attempt++) {
    await page.waitForFunction(noDialog, null, { timeout: 60000, polling: 1000 })
    await page.mouse.move(x, 600)
    await page.mouse.dblclick(x, 640)
    const opened = await page.waitForFunction(typing, null, { timeout: 10000 }).catch(() => null)
    if (opened) return
  }
  throw new Error('a double click on the canvas opens no search')
}

/** Whether nothing covers the canvas; what opens by itself in a new profile is closed. */
function noDialog() {
  const open = document.querySelector('[role=dialog]')
  if (open) open.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }))
  return !open
}

async function dropped(name, x) {
  const before = await page.evaluate(() => window.app.graph._nodes.length)
  await search(x)
  await page.keyboard.type(name, { delay: 20 })
  const listed = (name) => document.body.innerText.includes(name) // what stands in the field is not counted
  await page.waitForFunction(listed, name, { timeout: 60000 })
  await page.waitForTimeout(2500)
  await page.screenshot({ path: `${out}/blueprint ${name}, search.png` })
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement.tagName !== 'INPUT', null, { timeout: 60000 })
  await page.waitForTimeout(1500)
  await page.mouse.click(x, 120) // where the node that hangs at the pointer is put
  await page.waitForFunction((n) => window.app.graph._nodes.length > n, before, { timeout: 60000 })
  await page.waitForTimeout(1500)
  return page.evaluate(() => {
    const node = window.app.graph._nodes.at(-1)
    const sockets = (all) => (all || []).map((s) => s.name)
    const inside = node.subgraph ? node.subgraph._nodes.map((n) => n.type) : []
    return { title: node.title, inputs: sockets(node.inputs), outputs: sockets(node.outputs), inside }
  })
}

/** Joins what has the same name; the first video on the canvas is read from a file, the last is saved. */
function connected(names) {
  return page.evaluate(async (count) => {
    const blueprints = window.app.graph._nodes.slice(-count)
    const add = (type) => {
      const node = window.LiteGraph.createNode(type)
      window.app.graph.add(node)
      return node
    }
    const [model, video, save] = ['DeTTinyModel', 'LoadVideo', 'SaveVideo'].map(add)
    video.widgets.find((w) => w.name === 'file').value = 'source.mp4'
    const given = { model: [model, 0], clip: [model, 1], vae: [model, 2], video: [video, 0] }
    for (const node of blueprints) {
      node.inputs.forEach((input, slot) => {
        const from = given[input.name === 'latent' ? 'empty latent' : input.name]
        if (from) from[0].connect(from[1], node, slot)
      })
      node.outputs.forEach((output, slot) => (given[output.name] = [node, slot]))
    }
    given.video[0].connect(given.video[1], save, 0)
    return (await window.app.graphToPrompt()).output
  }, names.length)
}
