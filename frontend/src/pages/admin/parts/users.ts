/** Users as administrators see them: what they may, and in which state they are. */
import type { Schemas } from '@/api/client'

export type User = Schemas['UserListItem']

export const ROLES = ['siteAdmin', 'siteRead', 'groupAdmin'] as const
export type Role = (typeof ROLES)[number]
export const STATES = ['enabled', 'disabled', 'never', 'noSecondFactor'] as const

/** Say whether a user has the role that was asked for; '' asks for nothing. */
export function hasRole(user: User, role: string): boolean {
  if (role === 'none') return !ROLES.some((name) => user[name])
  return !ROLES.includes(role as Role) || user[role as Role]
}

/** Say whether a user is in the state that was asked for; '' asks for nothing. */
export function hasState(user: User, state: string): boolean {
  switch (state) {
    case 'enabled':
      return user.enabled
    case 'disabled':
      return !user.enabled
    case 'never':
      return user.lastSeenAt === null
    case 'noSecondFactor':
      return !user.secondFactor
    default:
      return true
  }
}

/** Return what differs, as the API takes it; `wanted` has all that can be changed. */
export function changesOf(user: User, wanted: Wanted): Partial<Wanted> {
  const before: Wanted = {
    name: user.name,
    groupId: user.groupId.uuid,
    groupAdmin: user.groupAdmin,
    siteAdmin: user.siteAdmin,
    siteRead: user.siteRead,
    enabled: user.enabled,
  }
  return Object.fromEntries(
    Object.entries(wanted).filter(([name, value]) => value !== before[name as keyof Wanted]),
  )
}

export interface Wanted {
  name: string
  groupId: string
  groupAdmin: boolean
  siteAdmin: boolean
  siteRead: boolean
  enabled: boolean
}

/** Say whether these changes sign the user out everywhere, as the portal decides it. */
export function endsSessions(changes: Partial<Wanted>): boolean {
  return 'groupId' in changes || changes.enabled === false || ROLES.some((name) => changes[name] === false)
}
