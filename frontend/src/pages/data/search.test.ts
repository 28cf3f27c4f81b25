import { describe, expect, it } from 'vitest'
import { createMemoryHistory, createRouter } from 'vue-router'
import * as search from './search'

const FIELDS = ['Lab-ID', 'a=b', 'ZIPCode']
const router = createRouter({ history: createMemoryHistory(), routes: [{ path: '/', component: {} }] })

/** The address as a link that somebody is sent has it. */
const send = (state: search.Search) =>
  search.readAddress(
    router.resolve(router.resolve({ path: '/', query: search.writeAddress(state) }).fullPath).query,
    FIELDS,
  )

describe('the address', () => {
  it('holds all of a search', () => {
    const state = search.makeSearch({
      q: 'ä & = # +',
      where: [
        { field: 'Lab-ID', operator: 'contains', text: 'S 1=2' },
        { field: 'a=b', operator: 'equals', text: '=' },
        { field: 'ZIPCode', operator: 'present', text: '' },
        { field: 'ZIPCode', operator: 'absent', text: '' },
      ],
      from: '2026-03-01',
      to: '2026-03-31',
      group: 'DMG-1',
      submission: 'DMS-1',
      service: 'DMV-1',
      state: 'awaiting',
      sort: '-field:Lab-ID',
      columns: ['submitted', 'field:a=b'],
    })
    expect(send(state)).toEqual(state)
  })

  it('is empty for what is as it is anyway', () => {
    expect(search.writeAddress(search.makeSearch())).toEqual({})
    expect(send(search.makeSearch())).toEqual(search.makeSearch())
  })

  it('keeps that no column is wanted', () => {
    expect(send(search.makeSearch({ columns: [] })).columns).toEqual([])
  })

  it('has no condition that says nothing', () => {
    const where = [
      { field: '', operator: 'contains', text: 'x' },
      { field: 'Lab-ID', operator: 'contains', text: '' },
    ] as const
    expect(search.writeAddress(search.makeSearch({ where: [...where] }))).toEqual({})
  })

  it('may be nonsense', () => {
    const query = { q: ['x', 'y'], where: ['nothing', '=x', null], from: 'soon', state: 'done', sort: null }
    expect(search.readAddress(query, FIELDS)).toEqual(search.makeSearch({ q: 'x' }))
  })

  it('asks for what a service has done where it does not say what', () => {
    expect(search.readAddress({ service: 'DMV-1' }, FIELDS).state).toBe('done')
  })
})

describe('the question', () => {
  it('takes days from midnight to midnight', () => {
    const asked = search.toParameters(search.makeSearch({ from: '2026-12-31', to: '2026-12-31' }))
    expect(asked.submittedAfter).toBe(new Date(new Date(2026, 11, 31).getTime() - 1).toISOString())
    expect(asked.submittedBefore).toBe(new Date(2027, 0, 1).toISOString())
  })

  it('names a service together with its state', () => {
    const asked = search.toParameters(search.makeSearch({ service: 'DMV-1', state: 'done', group: 'DMG-1' }))
    expect(asked).toEqual({ sort: '-submitted', serviceId: 'DMV-1', serviceState: 'done', groupId: 'DMG-1' })
    expect(search.toParameters(search.makeSearch({ service: 'DMV-1' }))).toEqual({ sort: '-submitted' })
  })

  it('repeats what occurs more than once', () => {
    expect(search.writeQuery({ where: ['a=1', 'b==2'], limit: 5, q: undefined })).toBe(
      'where=a%3D1&where=b%3D%3D2&limit=5',
    )
  })
})

describe('conditions', () => {
  it.each([
    ['Lab-ID=S', { field: 'Lab-ID', operator: 'contains', text: 'S' }],
    ['Lab-ID==S', { field: 'Lab-ID', operator: 'equals', text: 'S' }],
    ['Lab-ID=', { field: 'Lab-ID', operator: 'present', text: '' }],
    ['Lab-ID==', { field: 'Lab-ID', operator: 'absent', text: '' }],
    ['a=b=c', { field: 'a=b', operator: 'contains', text: 'c' }],
    ['Gone==x', { field: 'Gone', operator: 'equals', text: 'x' }],
  ] as const)('%s is read and written', (written, condition) => {
    expect(search.parseCondition(written, FIELDS)).toEqual(condition)
    expect(search.writeCondition(condition)).toBe(written)
  })
})

describe('what is left out', () => {
  it('is something by any condition, not by order or columns', () => {
    expect(search.isFiltered(search.makeSearch({ sort: 'id', columns: [] }))).toBe(false)
    expect(search.isFiltered(search.makeSearch({ q: 'x' }))).toBe(true)
    expect(search.isFiltered(search.makeSearch({ to: '2026-01-01' }))).toBe(true)
  })
})

describe('sorting by a column', () => {
  it('turns round', () => {
    expect(search.nextSort('-submitted', 'id')).toBe('id')
    expect(search.nextSort('id', 'id')).toBe('-id')
    expect(search.nextSort('-id', 'id')).toBe('id')
    expect(search.nextSort('id', 'submitted')).toBe('-submitted')
  })
})
