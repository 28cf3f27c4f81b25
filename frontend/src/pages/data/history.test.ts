import { describe, expect, it } from 'vitest'
import { tellEvent, type PastEvent } from './history'

const names = (id: string) => ({ 'DMV-1': 'Genome analysis' })[id] ?? id
const tell = (event: string, after: PastEvent['after'] = null) =>
  tellEvent({ at: '2026-01-01T00:00:00+00:00', event, actor: null, before: null, after }, names)

describe('an event in words', () => {
  it('names the fields that were changed', () => {
    expect(tell('metadataset.changed', { fields: ['Lab-ID', 'ZIPCode'] }).values).toEqual({
      fields: 'Lab-ID, ZIPCode',
    })
  })

  it('counts what was submitted together', () => {
    const words = tell('submission.created', { label: null, metadatasets: 12, files: 24 })
    expect(words).toEqual({ key: 'submitted', values: { count: '12', label: '' }, count: 12 })
  })

  it('names the service that answered', () => {
    expect(tell('service.executed', { service: 'DMV-1', files: 2 })).toEqual({
      key: 'answered',
      values: { service: 'Genome analysis' },
      count: 2,
    })
    expect(tell('service.executed', { service: 'DMV-2', files: 0 }).values.service).toBe('DMV-2')
  })

  it('is told by its name if it is new', () => {
    expect(tell('metadataset.blessed')).toEqual({ key: 'other', values: { event: 'metadataset.blessed' } })
    expect(tell('metadataset.staged').key).toBe('staged')
  })
})
