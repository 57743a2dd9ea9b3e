/** One directory or file of codex's file system. `host: null`: codex has it, the gateway cannot look into it. */
export interface Mount {
  readonly at: string
  readonly host: string | null
}
