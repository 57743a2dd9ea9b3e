import type { Role } from '../../schemas/common.ts'
import type { Method, MethodRole } from './method-row.ts'
import { SERVICE_METHODS } from './method-services.ts'
import { THREAD_METHODS } from './method-threads.ts'

/**
 * Every client method of the pinned codex binary and what the gateway does with it. Clients can call nothing else:
 * a method that a newer codex adds is unknown here until somebody has read it (test/codex/methods.test.ts compares).
 */
export const METHODS: ReadonlyMap<string, Method> = new Map(
  [...THREAD_METHODS, ...SERVICE_METHODS].map((row) => [row.method, row])
)

/** The row of a method, or undefined: unknown methods are denied. */
export function findMethod(method: string): Method | undefined {
  return METHODS.get(method)
}

const RANKS: Record<Role, number> = { viewer: 0, user: 1, service: 1, approver: 2, admin: 3 }

/** True when one of `roles` is `needed` or above (`service` acts for users: it ranks as one). No role, no access. */
export function roleAtLeast(roles: readonly Role[], needed: MethodRole): boolean {
  return roles.some((role) => RANKS[role] >= RANKS[needed])
}
