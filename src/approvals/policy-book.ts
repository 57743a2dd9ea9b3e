import { readFile } from 'node:fs/promises'
import { PolicyFileInvalid } from '../../errors.ts'
import type { PolicyFile } from '../../schemas/policy.ts'
import type { DocumentStore } from '../stores/document-store.ts'
import { parsePolicyFile } from './policy-file.ts'
import { compileRules, type Rules } from './rules.ts'

const COLLECTION = 'user-policies'

export interface PolicyBookOptions {
  /** The organisation's policy file; undefined: there is none. */
  file: string | undefined
  /** The widest layer: what holds where no file says anything. */
  defaults: PolicyFile
  /** Where the users' layers are kept. */
  documents: DocumentStore
}

/**
 * The policies of all users: defaults < organisation file < the user's own layer. The file may change under it; a new
 * text that is broken leaves the old one in force.
 */
export class PolicyBook {
  readonly #options: PolicyBookOptions
  #text: string | undefined
  #organisation: PolicyFile = {}
  #base: Rules
  /** Compiled per user; a user without a layer of their own shares the organisation's. */
  #byUser = new Map<string, Promise<Rules>>()

  private constructor(options: PolicyBookOptions) {
    this.#options = options
    this.#base = compileRules([options.defaults])
  }

  /** Rejects with PolicyFileInvalid, which names file, line and column. */
  static async open(options: PolicyBookOptions): Promise<PolicyBook> {
    const book = new PolicyBook(options)
    await book.reload()
    return book
  }

  /** The policy of everyone without a layer of their own. */
  get base(): Rules {
    return this.#base
  }

  /**
   * Reads the organisation's file again. Returns whether it has changed; rejects with PolicyFileInvalid, and then the
   * policy is what it was.
   */
  async reload(): Promise<boolean> {
    const { file } = this.#options
    if (file === undefined) return false
    const text = await readFile(file, 'utf8').catch((error: Error) => {
      throw new PolicyFileInvalid(file, error.message)
    })
    if (text === this.#text) return false
    const organisation = parsePolicyFile(text, file)
    this.#base = compileRules([this.#options.defaults, organisation])
    this.#organisation = organisation
    this.#text = text
    this.#byUser = new Map()
    return true
  }

  /** The policy that decides for this user now. Rejects with StoreUnavailable. */
  rulesFor(userId: string): Promise<Rules> {
    const known = this.#byUser.get(userId)
    if (known) return known
    const cache = this.#byUser
    const compiling = this.#compile(userId)
    cache.set(userId, compiling)
    compiling.catch(() => cache.delete(userId))
    return compiling
  }

  /** The user's own layer; empty when there is none. */
  async userLayer(userId: string): Promise<PolicyFile> {
    const value = await this.#options.documents.get(COLLECTION, userId)
    return value === undefined ? {} : parsePolicyFile(JSON.stringify(value), `the policy of user ${userId}`)
  }

  /**
   * Replaces the user's layer, durably; the next decision is made by it. Rejects with PolicyFileInvalid.
   *
   * @param record puts a valid layer on record before it counts; when it rejects, nothing changes
   */
  async setUserLayer(userId: string, layer: PolicyFile, record: () => Promise<unknown>): Promise<Rules> {
    const rules = compileRules([this.#options.defaults, this.#organisation, layer])
    await record()
    await this.#options.documents.put(COLLECTION, userId, JSON.parse(JSON.stringify(layer)))
    this.#byUser.delete(userId)
    return rules
  }

  async #compile(userId: string): Promise<Rules> {
    const layer = await this.userLayer(userId)
    return Object.keys(layer).length === 0
      ? this.#base
      : compileRules([this.#options.defaults, this.#organisation, layer])
  }
}
