/** What is known of the repository a git command would use. `none`: git finds none. */
export type RepositoryState =
  | { readonly state: 'none' | 'plain' }
  | { readonly state: 'unproven'; readonly reason: string }

/** The file system as codex sees it; decide() asks it and does no I/O of its own. */
export interface FileView {
  /**
   * The real path of an absolute path: every link resolved, what does not exist yet kept as it is written. Undefined when
   * it cannot be told (no permission, a loop, a mount the gateway cannot look into).
   *
   * The answer is true for the moment of the question: a link can change between decision and execution. Only uid and
   * mount isolation closes that gap (POLICY: TOCTOU).
   */
  resolve(path: string): string | undefined
  /** Whether the path, links resolved, is a directory. */
  isDirectory(path: string): boolean
  /** Whether git, run in this directory, would read only configuration that starts no program. */
  inspectRepository(directory: string): RepositoryState
}

/** Everything beside request and rules that a decision depends on. */
export interface PolicyContext extends FileView {
  /** Milliseconds since the epoch; rules expire by it. */
  readonly now: number
  /**
   * DATA_DIR, WORKSPACE_ROOT and codex homes as codex sees them: never in scope, whatever the policy lists. The user's own
   * workspace inside one of them stays in scope.
   */
  readonly protectedRoots: readonly string[]
}
