import { type Static, Type } from 'typebox'
import { ApprovalKindSchema } from './approvals.ts'
import { RoleSchema, stringEnum, UserIdSchema } from './common.ts'

/**
 * `/dir/*` is everything below the directory at any depth, anything else one exact path; a relative pattern starts at the
 * user's workspace. No other wildcard exists, and `/*` (the whole machine) is no pattern.
 */
export const PathPatternSchema = Type.String({
  pattern: '^(?!/\\*$)(?!(?:.*/)?\\.\\.?(?:/|$))/?(?:[^*/\\x00-\\x1f\\x7f]+/)*(?:[^*/\\x00-\\x1f\\x7f]+|\\*)$',
  maxLength: 1024,
  description:
    'A path as codex sees it. "/dir/*" covers everything below /dir at any depth, any other text is one exact path; ' +
    'a relative pattern starts at the workspace of the user ("docs/*", or "*" for the whole workspace). ' +
    'Symbolic links are resolved before the comparison.'
})

const WordSchema = Type.String({ minLength: 1, maxLength: 512, pattern: '^[\\t\\n\\x20-\\x7e]+$' })

export const VerdictSchema = stringEnum(['accept', 'ask', 'decline'])
export type Verdict = Static<typeof VerdictSchema>

export const ChangeKindSchema = stringEnum(['add', 'delete', 'update'])
export type ChangeKind = Static<typeof ChangeKindSchema>

/** What a rule looks at. Every field given must hold; which fields fit which kind is checked with the file. */
export const RuleMatchSchema = Type.Object(
  {
    kind: ApprovalKindSchema,
    argv: Type.Optional(
      Type.Array(WordSchema, {
        minItems: 1,
        maxItems: 64,
        description:
          'command: the leading words of one simple command, compared whole after the shell syntax is read; ' +
          '["git","push"] matches `git push origin`, never `git pushx`. /bin/NAME and /usr/bin/NAME equal NAME.'
      })
    ),
    exact: Type.Optional(Type.Boolean({ description: 'command: no word may follow `argv`.' })),
    paths: Type.Optional(
      Type.Array(PathPatternSchema, {
        minItems: 1,
        maxItems: 256,
        description:
          'command, fileChange: an ask or decline rule matches when one path of the request is covered, an accept rule ' +
          'only when every path is (for commands: of a program the built-in table knows).'
      })
    ),
    changes: Type.Optional(Type.Array(ChangeKindSchema, { minItems: 1, maxItems: 3 })),
    hosts: Type.Optional(
      Type.Array(Type.String({ pattern: '^(\\*\\.)?[a-z0-9_:.-]{1,253}$' }), {
        minItems: 1,
        maxItems: 256,
        description: 'network: a host in lower case, or "*.example.com" for every host below example.com.'
      })
    ),
    server: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    tools: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 256 }), { minItems: 1, maxItems: 256 }))
  },
  { additionalProperties: false }
)
export type RuleMatch = Static<typeof RuleMatchSchema>

export const RuleSchema = Type.Object(
  {
    id: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'Names the rule in every record and answer.' }),
    match: RuleMatchSchema,
    verdict: VerdictSchema,
    reason: Type.Optional(Type.String({ minLength: 1, maxLength: 512 })),
    expiresAt: Type.Optional(
      Type.String({ format: 'date-time', description: 'The rule is ignored from this moment on (ISO 8601).' })
    )
  },
  { additionalProperties: false }
)
export type Rule = Static<typeof RuleSchema>

export const ApproverGrantSchema = Type.Object(
  {
    roles: Type.Optional(Type.Array(RoleSchema, { minItems: 1, maxItems: 5 })),
    users: Type.Optional(Type.Array(UserIdSchema, { minItems: 1, maxItems: 1000 })),
    for: Type.Array(Type.String({ pattern: '^(?:\\*|[A-Za-z0-9._@:|-]{1,128})$' }), {
      minItems: 1,
      maxItems: 1000,
      description: 'Whose approvals they may decide; "*" is everyone.'
    })
  },
  { additionalProperties: false }
)
export type ApproverGrant = Static<typeof ApproverGrantSchema>

const autoApproveFields = {
  readOnly: Type.Boolean({
    default: true,
    description:
      'Accept what the built-in table proves to be read-only, beside `commands`. false: the listed commands alone.'
  }),
  commands: Type.Array(Type.String({ minLength: 1, maxLength: 512, pattern: '^[\\x20-\\x7e]+$' }), {
    maxItems: 256,
    description:
      'A program ("ls") or a program and its leading words ("git log"). What the built-in table knows is accepted only ' +
      'through the flags and paths the table allows. What it does not know ("npm test") is accepted only when the whole ' +
      'command is one simple command with exactly these words: no further word, no pipe, no `&&`.'
  }),
  paths: Type.Array(PathPatternSchema, {
    maxItems: 256,
    description:
      'Readable beside the workspace, and the only places where file changes are accepted. The data directory, the ' +
      'workspaces and codex homes never count, whatever stands here.'
  })
}

const policyFields = {
  timeoutMs: Type.Integer({
    minimum: 1000,
    maximum: 86_400_000,
    description: 'How long an approval waits before `defaultAction`, in milliseconds. Wins over APPROVAL_TIMEOUT_MS.'
  }),
  /** What codex is told when nobody answered in time: decline (the turn goes on) or cancel (it stops). */
  defaultAction: stringEnum(['decline', 'cancel']),
  rules: Type.Array(RuleSchema, {
    maxItems: 1000,
    description: 'Ordered; the first match decides. What no rule and no allowlist proves is asked.'
  }),
  approvers: Type.Array(ApproverGrantSchema, { maxItems: 1000 })
}

/** The policy file as its owner writes it (JSON): every field may be left out. */
export const PolicyFileSchema = Type.Object(
  {
    timeoutMs: Type.Optional(policyFields.timeoutMs),
    defaultAction: Type.Optional(policyFields.defaultAction),
    autoApprove: Type.Optional(
      Type.Object(
        {
          readOnly: Type.Optional(autoApproveFields.readOnly),
          commands: Type.Optional(autoApproveFields.commands),
          paths: Type.Optional(autoApproveFields.paths)
        },
        { additionalProperties: false }
      )
    ),
    rules: Type.Optional(policyFields.rules),
    approvers: Type.Optional(policyFields.approvers)
  },
  { additionalProperties: false }
)
export type PolicyFile = Static<typeof PolicyFileSchema>

/** The policy in force: all layers merged. `rules` stand widest layer first. */
export const PolicySchema = Type.Object(
  {
    version: Type.String({ pattern: '^[0-9a-f]{16}$', description: 'Names this policy in every audit record.' }),
    ...policyFields,
    autoApprove: Type.Object(autoApproveFields, { additionalProperties: false })
  },
  { $id: 'Policy', additionalProperties: false }
)
export type Policy = Static<typeof PolicySchema>

const RequestPathSchema = Type.String({ minLength: 1, maxLength: 4096 })

/** `POST /api/policy/evaluate`: what would the policy say? Paths are as codex sees them, relative ones start at the workspace. */
export const PolicyEvaluateBodySchema = Type.Union([
  Type.Object(
    {
      kind: Type.Literal('command'),
      command: Type.String({
        maxLength: 65536,
        description: "As a person writes it (`ls -la`) or as codex sends it (`/bin/bash -lc 'ls -la'`)."
      }),
      cwd: Type.Optional(RequestPathSchema)
    },
    { additionalProperties: false }
  ),
  Type.Object(
    {
      kind: Type.Literal('fileChange'),
      changes: Type.Array(
        Type.Object(
          { path: RequestPathSchema, kind: ChangeKindSchema, movePath: Type.Optional(RequestPathSchema) },
          { additionalProperties: false }
        ),
        { minItems: 1, maxItems: 1000 }
      )
    },
    { additionalProperties: false }
  )
])
export type PolicyEvaluateBody = Static<typeof PolicyEvaluateBodySchema>

export const PolicyEvaluateResultSchema = Type.Object(
  {
    verdict: VerdictSchema,
    rule: Type.String({
      description: 'The id of a rule of the policy, or builtin:… for what the gateway decides itself.'
    }),
    reason: Type.String(),
    argv: Type.Optional(
      Type.Array(Type.Array(Type.String()), { description: 'The simple commands that were read, in order.' })
    ),
    workspace: Type.String()
  },
  { $id: 'PolicyEvaluateResult' }
)
export type PolicyEvaluateResult = Static<typeof PolicyEvaluateResultSchema>

/** `GET /api/policy`: what decides for a user, and the layer that is theirs alone. */
export const PolicyViewSchema = Type.Object(
  {
    policy: PolicySchema,
    userLayer: PolicyFileSchema,
    fileProblem: Type.Optional(
      Type.String({ description: 'Why the newest text of POLICY_FILE is not in force; the one before it is.' })
    )
  },
  { $id: 'PolicyView' }
)
export type PolicyView = Static<typeof PolicyViewSchema>
