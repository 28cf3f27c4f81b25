/** The events of the audit in words. */
import type { RouteLocationRaw } from 'vue-router'
import type { Schemas } from '@/api/client'
import { i18n, t } from '@/i18n'
import { formatTime } from '@/lib/format'
import { groupName, nameOf } from './names'
import { areaOf, labelOf, mailOf } from './settings'

export type AuditEvent = Schemas['AuditEvent']
export type AuditValue = Schemas['AuditValue']

/** Every kind of event, by what it is about. */
export const EVENTS = {
  security: [
    'login.ok',
    'login.failed',
    'login.throttled',
    'logout',
    'session.ended',
    'key.created',
    'key.revoked',
    'password.changed',
    'password.reset',
    'password.reset_requested',
    'totp.enrolled',
    'totp.removed',
    'recovery_code.used',
    'recovery_code.renewed',
  ],
  people: [
    'user.created',
    'user.changed',
    'group.created',
    'group.changed',
    'registration.requested',
    'registration.answered',
    'registration.lapsed',
  ],
  site: [
    'metadatum.created',
    'metadatum.changed',
    'vocabulary.changed',
    'recordrules.changed',
    'service.created',
    'service.changed',
    'setting.changed',
    'job.retried',
    'site.imported',
    'site.restored',
  ],
  data: [
    'submission.created',
    'service.executed',
    'metadataset.staged',
    'metadataset.changed',
    'metadataset.deleted',
    'file.announced',
    'file.changed',
    'file.session_opened',
    'file.session_aborted',
    'file.confirmed',
    'file.refused',
    'file.url_issued',
    'file.deleted',
    'file.damaged',
    'file.found_again',
  ],
} as const

const LONGEST = 300
const AREA = 'adminsite.events'
const has = (key: string) => i18n.global.te(key as never)
const keyOf = (event: string) => `${AREA}.${event.replace('.', '_')}`

/** Return the name of a kind of event; one that nobody has given words to is named as the portal does. */
export function eventName(event: string): string {
  return has(keyOf(event)) ? t(keyOf(event)) : event
}

/** Say what happened, with the little that distinguishes it. */
export function eventText({ event, after }: AuditEvent): string {
  const detail = `${keyOf(event)}_${String(after?.factor ?? after?.outcome ?? after?.accepted ?? '')}`
  return has(detail) ? t(detail) : eventName(event)
}

/** Return the name of a property that an event tells of. */
export function propertyName(name: string): string {
  const key = `adminsite.properties.${name}`
  return has(key) ? t(key) : labelOf(name)
}

/** Return a value that an event tells of as text; '' for one that is absent. */
export function valueText(value: AuditValue | undefined): string {
  if (value === null || value === undefined) return ''
  if (typeof value === 'boolean') return t(value ? 'common.yes' : 'common.no')
  if (Array.isArray(value)) return shorten(value.join(', '))
  if (typeof value === 'object')
    return shorten(
      Object.entries(value)
        .map((pair) => pair.join(': '))
        .join(', '),
    )
  const text = String(value)
  return isInstant(text) ? formatTime(text) : shorten(text)
}

const isInstant = (text: string) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text)
const shorten = (text: string) => {
  const most = text.startsWith('data:') ? 40 : LONGEST
  return text.length > most ? `${text.slice(0, most)} …` : text
}

export interface Change {
  name: string
  before: string
  after: string
}

/** Return each property that an event tells of, as it was and as it is. */
export function changesIn(event: Pick<AuditEvent, 'before' | 'after'>): Change[] {
  const names = [...new Set([...Object.keys(event.before ?? {}), ...Object.keys(event.after ?? {})])]
  const show = (name: string, value: AuditValue | undefined) => {
    const key = `adminsite.values.${name}.${String(value)}`
    if (has(key)) return t(key)
    return name === 'group' && typeof value === 'string' ? groupName(value) : valueText(value)
  }
  return names.map((name) => ({
    name: propertyName(name),
    before: show(name, event.before?.[name]),
    after: show(name, event.after?.[name]),
  }))
}

/** Return the name of a kind of thing. */
export function thingName(type: string): string {
  const key = `adminsite.things.${type}`
  return has(key) ? t(key) : type
}

/** Return what a thing is called: by its name where that is known, else by its site id. */
export function thingText({ entityType, entityId, before, after }: AuditEvent): string {
  if (!entityId) return ''
  if (entityType === 'User') return nameOf(entityId)
  if (entityType === 'AppSetting') return labelOf(settingOf({ before, after }))
  const name = after?.name ?? before?.name
  if (typeof name === 'string') return name
  return entityType === 'Group' && entityId.site
    ? groupName(entityId.site)
    : (entityId.site ?? entityId.uuid.slice(0, 8))
}

const settingOf = ({ before, after }: Pick<AuditEvent, 'before' | 'after'>) =>
  Object.keys(after ?? before ?? {})[0] ?? ''

/** Return where a thing is shown, if anywhere. */
export function thingPage({ entityType, entityId, before, after }: AuditEvent): RouteLocationRaw | undefined {
  const id = entityId?.site ?? entityId?.uuid
  if (!id) return undefined
  const setting = settingOf({ before, after })
  switch (entityType) {
    case 'User':
      return { path: '/admin/users', query: { user: id } }
    case 'Group':
      return { path: '/admin/groups', query: { q: id } }
    case 'Service':
      return '/admin/services'
    case 'Registration':
      return '/admin/registrations'
    case 'AppSetting':
      return { path: '/admin/settings', query: { area: areaOf(setting), mail: mailOf(setting) } }
    case 'MetaDatum':
      return `/admin/fields/${id}`
    case 'Submission':
      return `/data/submissions/${id}`
    case 'MetaDataSet':
      return `/data/metadatasets/${id}`
    case 'File':
      return `/data/files/${id}`
    default:
      return undefined
  }
}

/** Return the local day's beginning, or the end of it, as the portal's conditions (later, earlier than) want them. */
export function dayLimit(day: string, isEnd: boolean): string | undefined {
  const start = new Date(`${day}T00:00:00`)
  if (Number.isNaN(start.getTime())) return undefined
  if (isEnd) start.setDate(start.getDate() + 1)
  else start.setMilliseconds(-1)
  return start.toISOString()
}
