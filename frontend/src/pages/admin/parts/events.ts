/** The events of the audit in words. */
import type { Schemas } from '@/api/client'
import { i18n, t } from '@/i18n'
import { formatTime } from '@/lib/format'

export type AuditEvent = Schemas['AuditEvent']
export type AuditValue = Schemas['AuditValue']

const AREA = 'adminsite.events'
const has = (key: string) => i18n.global.te(key as never)

/** Return the name of a kind of event; one that nobody has given words to is named as the portal does. */
export function eventName(event: string): string {
  const key = `${AREA}.${event.replace('.', '_')}`
  return has(key) ? t(key) : event
}

/** Say what happened, with the little that distinguishes it. */
export function eventText(event: AuditEvent): string {
  const { after } = event
  const detail = `${AREA}.${event.event.replace('.', '_')}_${String(after?.factor ?? after?.outcome ?? after?.accepted ?? '')}`
  return has(detail) ? t(detail) : eventName(event.event)
}

/** Return the name of a property that an event tells of. */
export function propertyName(name: string): string {
  const key = `adminsite.properties.${name}`
  return has(key) ? t(key) : name
}

/** Return a value that an event tells of as text; '' for one that is absent. */
export function valueText(value: AuditValue | undefined): string {
  if (value === null || value === undefined || value === '') return ''
  if (typeof value === 'boolean') return t(value ? 'common.yes' : 'common.no')
  if (typeof value === 'string') return isInstant(value) ? formatTime(value) : value
  if (Array.isArray(value)) return value.join(', ')
  if (typeof value === 'object')
    return Object.entries(value)
      .map(([name, text]) => `${name}: ${text}`)
      .join(', ')
  return String(value)
}

const isInstant = (text: string) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text)

/** Return each property that an event tells of, as it was and as it is. */
export function changesIn(event: AuditEvent): { name: string; before: string; after: string }[] {
  const names = [...new Set([...Object.keys(event.before ?? {}), ...Object.keys(event.after ?? {})])]
  return names.map((name) => ({
    name: propertyName(name),
    before: valueText(event.before?.[name]),
    after: valueText(event.after?.[name]),
  }))
}
