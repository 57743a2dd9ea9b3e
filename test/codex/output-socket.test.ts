import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { OutputSockets, type ProcessOutput } from '../../src/codex/output-socket.ts'

/** Sockets in a temporary directory of this test's own, so that others of this account find them as they would. */
async function open(t: Test): Promise<{ sockets: OutputSockets; path: () => Promise<string>; temporary: string }> {
  // A socket's path must be short.
  const temporary = await mkdtemp(join(resolve('/tmp'), 'cc-test-'))
  const before = process.env.TMPDIR
  process.env.TMPDIR = temporary
  const sockets = await OutputSockets.open()
  if (before === undefined) delete process.env.TMPDIR
  else process.env.TMPDIR = before
  t.teardown(async () => {
    await sockets.close()
    await rm(temporary, { recursive: true, force: true })
  })
  const path = async () => join(temporary, (await readdir(temporary))[0] ?? '', 'output')
  return { sockets, path, temporary }
}

/** What a shell command writes to its stdout, through one of the sockets. */
async function run(sockets: OutputSockets, command: string): Promise<{ output: ProcessOutput; text: Promise<string> }> {
  const { childEnd, output } = await sockets.take()
  const parts: Buffer[] = []
  output.read((bytes) => parts.push(Buffer.from(bytes)))
  spawn('/bin/sh', ['-c', command], { stdio: ['ignore', childEnd, 'ignore'] })
  childEnd.destroy()
  return { output, text: output.closed.then(() => Buffer.concat(parts).toString('utf8')) }
}

t.test('all that a process writes is read, in order, to its end; many at once do not mix', async (t) => {
  const { sockets } = await open(t)
  const expected = (name: string) => Array.from({ length: 20_000 }, (_, index) => `${name}${index + 1}\n`).join('')
  const names = ['a', 'b', 'c', 'd', 'e']
  const texts = await Promise.all(
    names.map(async (name) => (await run(sockets, `seq 1 20000 | sed 's/^/${name}/'`)).text)
  )
  for (const [index, name] of names.entries()) t.ok(texts[index] === expected(name), name)
})

t.test('single lines in quick succession arrive, and the last of them before the end', async (t) => {
  const { sockets } = await open(t)
  const { text } = await run(sockets, 'i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done')
  t.equal(await text, Array.from({ length: 500 }, (_, index) => `${index}\n`).join(''))
})

t.test('what is held back waits, however often it is let go and held again', async (t) => {
  const { sockets } = await open(t)
  const { childEnd, output } = await sockets.take()
  let bytes = 0
  let isHeld = false
  let readWhileHeld = 0
  output.read((chunk) => {
    bytes += chunk.length
    if (isHeld) readWhileHeld += chunk.length
    output.pause()
    isHeld = true
    setImmediate(() => {
      isHeld = false
      output.resume()
    })
  })
  spawn('/bin/sh', ['-c', 'yes 0123456789 | head -c 3000000'], { stdio: ['ignore', childEnd, 'ignore'] })
  childEnd.destroy()
  await output.closed
  t.equal(bytes, 3_000_000)
  t.equal(readWhileHeld, 0)
})

t.test('whoever else connects never becomes the output of a process, and holds nobody up', async (t) => {
  const { sockets, path } = await open(t)
  const address = await path()
  const strangers = ['', 'x', 'x'.repeat(32), 'x'.repeat(5_000)].map((text) => {
    const stranger = connect(address).resume()
    stranger.on('error', () => {})
    stranger.write(text)
    return stranger
  })
  const { text } = await run(sockets, 'echo mine')
  for (const stranger of strangers) stranger.write('{"method":"evil"}\n')
  t.equal(await text, 'mine\n')
  const [, , wrong] = strangers
  if (wrong && !wrong.destroyed) await once(wrong, 'close')
  t.ok(wrong?.destroyed, 'one that says something else is sent away')
  for (const stranger of strangers) stranger.destroy()
})

t.test('closing leaves no directory and no open end behind', async (t) => {
  const { sockets, temporary } = await open(t)
  t.equal((await readdir(temporary)).length, 1)
  const { childEnd, output } = await sockets.take()
  await sockets.close()
  t.strictSame(await readdir(temporary), [])
  output.destroy()
  await output.closed
  childEnd.destroy()
})

t.test('who waits for an answer does not wait for more to collect', async (t) => {
  const { sockets } = await open(t)
  // The moments in which output collects never end by themselves.
  const { setTimeout: original } = globalThis
  let rests = 0
  t.teardown(() => {
    globalThis.setTimeout = original
  })
  globalThis.setTimeout = ((callback: () => void, delayMs?: number) => {
    if (delayMs !== 1) return original(callback, delayMs)
    rests++
    return original(() => {}, 0)
  }) as typeof setTimeout

  for (const isAwaited of [true, false]) {
    const { childEnd, output } = await sockets.take()
    let onEcho = () => {}
    output.read(
      () => onEcho(),
      () => isAwaited
    )
    const child = spawn('/bin/cat', { stdio: ['pipe', childEnd, 'ignore'] })
    childEnd.destroy()
    for (let round = 0; round < 200; round++) {
      const echo = new Promise<void>((resolve) => {
        onEcho = resolve
      })
      output.hurry()
      child.stdin?.write('x\n')
      await echo
    }
    t.equal(rests > 0, !isAwaited, `${rests} rests`)
    child.stdin?.end()
    output.hurry()
    await output.closed
  }
})
