/** What has happened to a metadataset, in words. */
import type { Schemas } from '@/api/client'

export type PastEvent = Schemas['PastEvent']
/** The key of a text and what it names; `count` chooses between one and many. */
export interface Words {
  key: string
  values: Record<string, string>
  count?: number
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : '')
const numberOf = (value: unknown) => (typeof value === 'number' ? value : 0)
const listOf = (value: unknown) =>
  Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []

/** Say what happened; `serviceName` gives the name of a service by its id. */
export function tellEvent(event: PastEvent, serviceName: (id: string) => string): Words {
  const after = event.after ?? {}
  switch (event.event) {
    case 'metadataset.staged':
      return { key: 'staged', values: {} }
    case 'metadataset.changed':
      return { key: 'changed', values: { fields: listOf(after.fields).join(', ') } }
    case 'submission.created': {
      const count = numberOf(after.metadatasets)
      return { key: 'submitted', values: { count: String(count), label: textOf(after.label) }, count }
    }
    case 'service.executed': {
      const count = numberOf(after.files)
      return { key: 'answered', values: { service: serviceName(textOf(after.service)) }, count }
    }
    default:
      return { key: 'other', values: { event: event.event } }
  }
}
