import { describe, expect, it } from 'vitest'
import { findObstacles, groupFiles, isSheet } from './readiness'
import type { Transfer } from '@/transfers'

const READY = { rows: 2, errorRows: 0, errors: 0, warnings: 0, unchecked: 0, firstError: null }
const CALM = { omitted: 0, notices: 0, checkProblem: '' }
const file = (name: string, state: Transfer['state']): Transfer => ({
  key: `${name} ${state}`,
  name,
  size: 1,
  sent: 1,
  state,
  isConflict: false,
  isLocal: true,
  fileId: { uuid: `id of ${name}` },
})
const find = (...files: Transfer[]) => findObstacles(READY, ['a.fq', 'b.fq', 'c.fq'], groupFiles(files), CALM)

describe('files', () => {
  it('are ready once all that are named are there, whatever else is', () => {
    const files = ['a.fq', 'b.fq', 'c.fq', 'other.fq'].map((name) => file(name, 'done'))
    expect(find(...files)).toEqual({
      obstacles: [],
      waits: [],
      fileIds: ['id of a.fq', 'id of b.fq', 'id of c.fq'],
    })
  })

  it('that are absent, failed or there twice stand in the way', () => {
    const { obstacles } = find(
      file('a.fq', 'missing'),
      file('b.fq', 'failed'),
      file('c.fq', 'done'),
      file('c.fq', 'sending'),
    )
    expect(obstacles).toEqual([
      { kind: 'absent', names: ['a.fq'] },
      { kind: 'failed', names: ['b.fq'] },
      { kind: 'ambiguous', names: ['c.fq'] },
    ])
  })

  it('that are on their way are waited for', () => {
    const { obstacles, waits } = find(
      file('a.fq', 'waiting'),
      file('b.fq', 'verifying'),
      file('c.fq', 'paused'),
    )
    expect(obstacles).toEqual([])
    expect(waits).toEqual([
      { kind: 'sending', names: ['a.fq', 'b.fq'] },
      { kind: 'paused', names: ['c.fq'] },
    ])
  })

  it('are the same whichever way their name is written', () => {
    expect([...groupFiles([file('a\u0308.fq', 'done')]).keys()]).toEqual(['\u00e4.fq'])
  })

  it('are sheets by their ending, unless a row names them', () => {
    const wanted = new Map([['counts.csv', [1]]])
    expect(['run7.XLSX', 'a.tsv', 'counts.csv', 'S1.fastq.gz'].map((name) => isSheet(name, wanted))).toEqual([
      true,
      true,
      false,
      false,
    ])
  })
})

describe('rows', () => {
  it('with errors, unread problems or none at all stand in the way', () => {
    const place = { row: 4, column: 2 }
    const summary = { ...READY, rows: 0, errorRows: 3, errors: 5, firstError: place, unchecked: 1 }
    const { obstacles, waits } = findObstacles(summary, [], new Map(), { ...CALM, omitted: 7, notices: 1 })
    expect(obstacles).toEqual([
      { kind: 'rows' },
      { kind: 'errors', count: 3, place },
      { kind: 'omitted', count: 7 },
      { kind: 'notices', count: 1 },
    ])
    expect(waits).toEqual([{ kind: 'unchecked', count: 1 }])
  })

  it('that could not be checked are not waited for', () => {
    const { obstacles, waits } = findObstacles({ ...READY, unchecked: 2 }, [], new Map(), {
      ...CALM,
      checkProblem: 'no network',
    })
    expect(obstacles).toEqual([{ kind: 'check', message: 'no network' }])
    expect(waits).toEqual([])
  })
})
