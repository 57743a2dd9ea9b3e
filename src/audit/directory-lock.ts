import { randomUUID } from 'node:crypto'
import { link, readdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AuditLocked } from '../../errors.ts'

const LOCK_NAME = /^lock-(\d+)\.json$/
const MAX_ATTEMPTS = 20

interface Owner {
  pid: number
  /** Ticks since boot (field 22 of /proc/pid/stat): a reused pid has another. */
  startTime: string
  /** Boot and pid namespace: pids of another one say nothing here. */
  world: string
  released: boolean
}

/**
 * One writer per directory. Locks are numbered; the highest number owns, a dead or released owner is followed by
 * linking the next number (exclusive and with its content in one step), and only an owner removes lower numbers: so a
 * slow contender can never take away a newer lock. An owner of another boot or pid namespace counts as dead; should it
 * live (two containers on one volume), `isHeld` turns false for it before its next write.
 */
export class DirectoryLock {
  readonly #path: string
  readonly #inode: number
  readonly #owner: Owner

  private constructor(path: string, inode: number, owner: Owner) {
    this.#path = path
    this.#inode = inode
    this.#owner = owner
  }

  /** Rejects with AuditLocked while a living process holds the directory. */
  static async acquire(dir: string): Promise<DirectoryLock> {
    const owner = { pid: process.pid, startTime: await startTimeOf(process.pid), world: await world(), released: false }
    const draft = join(dir, `lock-draft-${randomUUID()}`)
    await writeFile(draft, JSON.stringify(owner), { mode: 0o600 })
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const top = await highest(dir)
        if (top > 0) await assertGone(dir, top, owner.world)
        const path = lockPath(dir, top + 1)
        if (!(await tryLink(draft, path))) continue
        if ((await highest(dir)) !== top + 1) {
          await rm(path, { force: true })
          continue
        }
        const { ino } = await stat(path)
        await removeLower(dir, top + 1)
        return new DirectoryLock(path, ino, owner)
      }
      throw new AuditLocked(0, dir)
    } finally {
      await rm(draft, { force: true })
    }
  }

  /** False once another writer has followed. */
  async isHeld(): Promise<boolean> {
    const found = await stat(this.#path).catch(() => undefined)
    return found?.ino === this.#inode
  }

  async release(): Promise<void> {
    if (!(await this.isHeld())) return
    const draft = `${this.#path}.released`
    await writeFile(draft, JSON.stringify({ ...this.#owner, released: true }), { mode: 0o600 })
    await rename(draft, this.#path)
  }
}

function lockPath(dir: string, number: number): string {
  return join(dir, `lock-${String(number).padStart(6, '0')}.json`)
}

async function lockNumbers(dir: string): Promise<number[]> {
  return (await readdir(dir)).flatMap((name) => LOCK_NAME.exec(name)?.[1] ?? []).map(Number)
}

async function highest(dir: string): Promise<number> {
  return Math.max(0, ...(await lockNumbers(dir)))
}

async function removeLower(dir: string, own: number): Promise<void> {
  for (const number of await lockNumbers(dir)) if (number < own) await rm(lockPath(dir, number), { force: true })
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw err
  }
}

async function assertGone(dir: string, number: number, here: string): Promise<void> {
  const text = await readFile(lockPath(dir, number), 'utf8').catch(() => undefined)
  if (text === undefined) return
  let owner: Partial<Owner>
  try {
    owner = JSON.parse(text)
  } catch {
    return
  }
  if (owner.released || owner.world !== here || typeof owner.pid !== 'number') return
  if ((await startTimeOf(owner.pid)) === owner.startTime) throw new AuditLocked(owner.pid, dir)
}

/** '' for a process that is gone; 'alive' where there is no /proc to say more. */
async function startTimeOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The name may hold blanks and brackets: fields are counted from behind its last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? '' : (fields[19] ?? '')
  } catch {
    return process.platform !== 'linux' && isAlive(pid) ? 'alive' : ''
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function world(): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')
  return `${boot.trim()} ${await readlink('/proc/self/ns/pid').catch(() => '')}`
}
