import {
  NoParamsSchema,
  PageParamsSchema,
  ThreadIdParamsSchema,
  ThreadPageParamsSchema
} from '../../schemas/methods/atoms.ts'
import { ReviewStartParamsSchema } from '../../schemas/methods/review.ts'
import * as Thread from '../../schemas/methods/thread.ts'
import * as History from '../../schemas/methods/thread-history.ts'
import * as Queue from '../../schemas/methods/thread-queue.ts'
import * as Section from '../../schemas/methods/thread-section.ts'
import * as Turn from '../../schemas/methods/turn.ts'
import * as Fields from './method-fields.ts'
import { answer, deny, forward, guard, type Method, X } from './method-row.ts'

const APPROVALS = 'it would move or settle approvals behind the gateway'
const HOST_COMMANDS = 'it runs commands outside the sandbox and without an approval'
const HOST_PATHS = 'it takes paths of the host'
const HISTORY = 'it writes history or memory that no user or model produced'
const PROJECTS = 'projects carry directories of the host'
const REALTIME = 'realtime sessions open connections of their own'
const SAMPLING = 'it spends model time outside turns, where nothing is journalled'
const SETTINGS = 'its values outlive the turn; send them with turn/start, where they are checked'

const startSpec = { guards: ['workspace', 'thread'], fields: Fields.THREAD_START_FIELDS } as const
const resumeSpec = { guards: ['directory', 'thread'], fields: Fields.THREAD_RESUME_FIELDS } as const
const forkSpec = { guards: ['directory', 'thread'], fields: Fields.THREAD_FORK_FIELDS } as const
const turnSpec = { guards: ['directory', 'input', 'turn'], fields: Fields.TURN_START_FIELDS } as const
const steerSpec = { guards: ['input'], fields: Fields.INPUT_FIELDS } as const
const queueSpec = { guards: ['input'], fields: Fields.QUEUE_FIELDS, experimental: X } as const

/** Threads, turns, reviews: one row per method of the pinned binary. */
export const THREAD_METHODS: readonly Method[] = [
  // Life of a thread
  guard('user', 'thread/start', Thread.ThreadStartParamsSchema, startSpec),
  guard('user', 'thread/resume', Thread.ThreadResumeParamsSchema, resumeSpec),
  guard('user', 'thread/fork', Thread.ThreadForkParamsSchema, forkSpec),
  answer('user', 'thread/unsubscribe', ThreadIdParamsSchema),
  forward('user', 'thread/archive', ThreadIdParamsSchema),
  forward('user', 'thread/unarchive', ThreadIdParamsSchema),
  forward('user', 'thread/delete', ThreadIdParamsSchema),
  forward('user', 'thread/revert', Thread.ThreadRevertParamsSchema),
  forward('user', 'thread/compact/start', ThreadIdParamsSchema),
  forward('user', 'thread/name/set', Thread.ThreadNameSetParamsSchema),
  guard('user', 'thread/metadata/update', Thread.ThreadMetadataUpdateParamsSchema, { fields: Fields.METADATA_FIELDS }),
  forward('user', 'thread/readState/update', Thread.ThreadReadStateUpdateParamsSchema, X),

  // Reading
  guard('viewer', 'thread/list', History.ThreadListParamsSchema, { guards: ['lookup'] }),
  forward('viewer', 'thread/loaded/list', PageParamsSchema),
  forward('viewer', 'thread/read', History.ThreadReadParamsSchema),
  forward('viewer', 'thread/turns/list', History.ThreadTurnsListParamsSchema),
  forward('viewer', 'thread/items/list', History.ThreadItemsListParamsSchema),
  forward('viewer', 'thread/items/read', History.ThreadItemsReadParamsSchema, X),
  forward('viewer', 'thread/timeline/list', ThreadPageParamsSchema, X),
  forward('viewer', 'thread/search', History.ThreadSearchParamsSchema, X),
  forward('viewer', 'thread/searchOccurrences', History.ThreadSearchOccurrencesParamsSchema, X),

  // Goals, terminals, queue
  forward('viewer', 'thread/goal/get', ThreadIdParamsSchema),
  forward('user', 'thread/goal/set', Thread.ThreadGoalSetParamsSchema),
  forward('user', 'thread/goal/clear', Thread.ThreadGoalClearParamsSchema),
  forward('user', 'thread/backgroundTerminals/list', ThreadPageParamsSchema, X),
  forward('user', 'thread/backgroundTerminals/terminate', Thread.BackgroundTerminalTerminateParamsSchema, X),
  forward('user', 'thread/backgroundTerminals/clean', ThreadIdParamsSchema, X),
  guard('user', 'thread/queue/add', Queue.ThreadQueueAddParamsSchema, queueSpec),
  guard('user', 'thread/queue/update', Queue.ThreadQueueUpdateParamsSchema, queueSpec),
  forward('user', 'thread/queue/list', ThreadPageParamsSchema, X),
  forward('user', 'thread/queue/delete', Queue.ThreadQueueDeleteParamsSchema, X),
  forward('user', 'thread/queue/reorder', Queue.ThreadQueueReorderParamsSchema, X),
  forward('user', 'thread/queue/start', Queue.ThreadQueueStartParamsSchema, X),

  // Sections
  forward('viewer', 'threadSection/list', PageParamsSchema),
  forward('user', 'threadSection/create', Section.ThreadSectionCreateParamsSchema),
  forward('user', 'threadSection/update', Section.ThreadSectionUpdateParamsSchema),
  forward('user', 'threadSection/delete', Section.ThreadSectionDeleteParamsSchema),
  forward('user', 'thread/section/move', Section.ThreadSectionMoveParamsSchema),

  // Turns
  guard('user', 'turn/start', Turn.TurnStartParamsSchema, turnSpec),
  guard('user', 'turn/steer', Turn.TurnSteerParamsSchema, steerSpec),
  forward('user', 'turn/interrupt', Turn.TurnInterruptParamsSchema),
  forward('user', 'review/start', ReviewStartParamsSchema),
  forward('viewer', 'collaborationMode/list', NoParamsSchema, X),

  // Denied: commands and paths of the host
  deny('thread/shellCommand', HOST_COMMANDS),
  deny('thread/attachment/add', HOST_PATHS),
  deny('thread/attachment/list', HOST_PATHS),
  deny('thread/attachment/remove', HOST_PATHS),
  deny('thread/attachmentOwner/list', HOST_PATHS),
  deny('thread/prepareApprovedPlan', HOST_PATHS, X),
  deny('project/list', PROJECTS, X),
  deny('project/read', PROJECTS, X),
  deny('project/create', PROJECTS, X),
  deny('project/import', PROJECTS, X),
  deny('project/update', PROJECTS, X),
  deny('project/move', PROJECTS, X),
  deny('project/delete', PROJECTS, X),

  // Denied: settings and approvals
  deny('thread/settings/update', SETTINGS, X),
  deny('turn/settings/update', SETTINGS, X),
  deny('thread/approveGuardianDeniedAction', APPROVALS),
  deny('thread/guardianReview', APPROVALS, X),
  deny('thread/increment_elicitation', APPROVALS, X),
  deny('thread/decrement_elicitation', APPROVALS, X),

  // Denied: history, memory, model time
  deny('thread/inject_items', HISTORY),
  deny('thread/memory/read', HISTORY, X),
  deny('thread/memoryMode/set', HISTORY, X),
  deny('memory/status', HISTORY, X),
  deny('memory/reset', HISTORY, X),
  deny('rollout/compress', HISTORY, X),
  deny('thread/sample', SAMPLING, X),
  deny('thread/sample/cancel', SAMPLING, X),
  deny('thread/prediction/request', SAMPLING, X),
  deny('thread/realtime/start', REALTIME, X),
  deny('thread/realtime/stop', REALTIME, X),
  deny('thread/realtime/appendAudio', REALTIME, X),
  deny('thread/realtime/appendText', REALTIME, X),
  deny('thread/realtime/appendSpeech', REALTIME, X),
  deny('thread/realtime/listVoices', REALTIME, X)
]
