import { type Static, Type } from 'typebox'
import { ApprovalKindSchema, DecisionSchema, OutcomeSchema } from './approvals.ts'
import { IdSchema, RoleSchema, stringEnum, UserIdSchema } from './common.ts'

const Sha256Schema = Type.String({ pattern: '^[0-9a-f]{64}$' })
const NullableIdSchema = Type.Union([IdSchema, Type.Null()])

export const AuditTypeSchema = stringEnum(['approval', 'access', 'note'])
export type AuditType = Static<typeof AuditTypeSchema>

/** Who acted. `id` names the user or the webhook, `rule` the policy rule, `client` the attached client. */
export const AuditActorSchema = Type.Object(
  {
    kind: stringEnum(['user', 'policy', 'rule', 'timeout', 'webhook', 'codex', 'shutdown', 'system']),
    id: Type.Optional(IdSchema),
    rule: Type.Optional(IdSchema),
    role: Type.Optional(RoleSchema),
    client: Type.Optional(IdSchema)
  },
  { additionalProperties: false }
)
export type AuditActor = Static<typeof AuditActorSchema>

const VerdictSchema = Type.Object(
  { verdict: stringEnum(['accept', 'ask', 'decline']), rule: IdSchema, reason: Type.String() },
  { additionalProperties: false }
)

/** One decision on one question of codex. Callers pass texts raw; the log redacts, hashes and clips them. */
const approvalFields = {
  type: Type.Literal('approval'),
  userId: UserIdSchema,
  actor: AuditActorSchema,
  approvalId: IdSchema,
  kind: ApprovalKindSchema,
  method: IdSchema,
  threadId: Type.Optional(NullableIdSchema),
  turnId: Type.Optional(NullableIdSchema),
  itemId: Type.Optional(NullableIdSchema),
  /** The argument vector that the policy read, redacted in the record. */
  argv: Type.Optional(Type.Array(Type.String())),
  /** The command as codex sent it, redacted in the record; `commandSha256` is of the raw text. */
  command: Type.Optional(Type.String()),
  cwd: Type.Optional(Type.String()),
  /** Paths and move targets of a file change. */
  paths: Type.Optional(Type.Array(Type.String())),
  diffSha256: Type.Optional(Sha256Schema),
  /** What the other kinds are about, in one line: a host, a server and tool, a permission. Redacted. */
  subject: Type.Optional(Type.String()),
  verdict: VerdictSchema,
  policyVersion: IdSchema,
  outcome: OutcomeSchema,
  /** What codex hears; null when it hears nothing. */
  decision: Type.Union([DecisionSchema, Type.Null()]),
  /** From the question to the decision, in milliseconds. */
  latencyMs: Type.Number({ minimum: 0 })
}

/** An admin, service or approver reached into the data of `userId`. */
const accessFields = {
  type: Type.Literal('access'),
  userId: UserIdSchema,
  actor: AuditActorSchema,
  /** What was done: a route ("GET /api/audit") or a message type. */
  action: IdSchema,
  message: Type.Optional(Type.String())
}

/** Something that a reader of the log must know: a torn tail recovered, writes refused, damage accepted. */
const noteFields = {
  type: Type.Literal('note'),
  userId: Type.Optional(UserIdSchema),
  actor: AuditActorSchema,
  /** Short and stable, for programs: "torn-tail". */
  event: IdSchema,
  message: Type.String()
}

/** What a caller appends. Closed, so that no field reaches the disk without a rule for it. */
export const AuditEntrySchema = Type.Union([
  Type.Object(approvalFields, { additionalProperties: false }),
  Type.Object(accessFields, { additionalProperties: false }),
  Type.Object(noteFields, { additionalProperties: false })
])
export type AuditEntry = Static<typeof AuditEntrySchema>

/** What the log adds. `hash` = SHA-256 over the canonical JSON (sorted keys) of the record without `hash`. */
const sealFields = {
  v: Type.Literal(1),
  /** 1, 2, 3 … without a gap, across segments. */
  seq: Type.Integer({ minimum: 1 }),
  /** ISO 8601, the gateway's clock. */
  at: Type.String({ format: 'date-time' }),
  /** The hash of the record before; 64 zeros for the first. */
  prev: Sha256Schema,
  hash: Sha256Schema,
  /** Fields that were cut to their bound. */
  clipped: Type.Optional(Type.Array(Type.String()))
}

export const AuditRecordSchema = Type.Union(
  [
    Type.Object({
      ...sealFields,
      ...approvalFields,
      /** Of the raw command: equal commands are equal, and a short secret in it could be guessed from it. */
      commandSha256: Type.Optional(Sha256Schema),
      /** Of the JSON array of all raw paths, when `paths` was clipped. */
      pathsSha256: Type.Optional(Sha256Schema)
    }),
    Type.Object({ ...sealFields, ...accessFields }),
    Type.Object({ ...sealFields, ...noteFields })
  ],
  { $id: 'AuditRecord' }
)
export type AuditRecord = Static<typeof AuditRecordSchema>

const filterFields = {
  userId: Type.Optional(UserIdSchema),
  threadId: Type.Optional(IdSchema),
  outcome: Type.Optional(OutcomeSchema),
  type: Type.Optional(AuditTypeSchema),
  kind: Type.Optional(ApprovalKindSchema),
  /** Inclusive. */
  since: Type.Optional(Type.String({ format: 'date-time' })),
  /** Exclusive. */
  until: Type.Optional(Type.String({ format: 'date-time' }))
}

/** Which records; an absent field does not restrict. */
export const AuditFilterSchema = Type.Object(filterFields, { additionalProperties: false })
export type AuditFilter = Static<typeof AuditFilterSchema>

/** The query string of `GET /api/audit`. */
export const AuditQuerySchema = Type.Object(
  {
    ...filterFields,
    cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 }))
  },
  { additionalProperties: false }
)
export type AuditQuery = Static<typeof AuditQuerySchema>

export const AuditPageSchema = Type.Object(
  {
    /** Newest first. A page may be short, even empty, while `nextCursor` is present: the work per page is bounded. */
    records: Type.Array(AuditRecordSchema),
    nextCursor: Type.Optional(Type.String())
  },
  { $id: 'AuditPage' }
)
export type AuditPage = Static<typeof AuditPageSchema>

const HeadSchema = Type.Object({ seq: Type.Integer(), hash: Type.String() })

/** `GET /api/audit/verify`: the whole log read again. */
export const AuditReportSchema = Type.Object(
  {
    ok: Type.Boolean({ description: 'No finding; `notes` says what cannot be excluded all the same' }),
    records: Type.Integer(),
    head: Type.Optional(HeadSchema),
    findings: Type.Array(
      Type.Object({
        kind: Type.String(),
        file: Type.String(),
        line: Type.Integer(),
        seq: Type.Integer(),
        message: Type.String()
      })
    ),
    omittedFindings: Type.Integer(),
    notes: Type.Array(Type.String())
  },
  { $id: 'AuditReport' }
)
