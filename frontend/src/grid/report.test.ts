import { describe, expect, it } from 'vitest'
import { listRows, sortFindings, type Finding, type Report } from './report'

const COLUMNS = ['Lab-ID', 'Dose'].map((name) => ({
  name,
  isMandatory: false,
  isFile: false,
  isUnique: false,
  words: [],
  missingTerms: [],
}))
const finding = (more: Partial<Finding>): Finding => ({
  severity: 'error',
  code: 'regex_mismatch',
  message: 'Three digits.',
  sheet: 'Run 7',
  field: 'Dose',
  column: 'C',
  row: 4,
  cell: 'C4',
  value: 'x',
  suggestion: null,
  count: 1,
  cells: ['C4'],
  ...more,
})
const ROWS = [4, 5, 6].map((number) => ({ id: number * 10, values: [`S${number}`, number === 6 ? '' : 'x'] }))
const sort = (...findings: Finding[]) =>
  sortFindings({ findings } as unknown as Report, COLUMNS, (sheet, row) =>
    sheet === 'Run 7' ? ROWS[row - 4] : undefined,
  )

describe('areas', () => {
  it('lists their rows', () => {
    expect(listRows(['B17', 'B19:B21', '30:30', 'B:B'])).toEqual([17, 19, 20, 21, 30])
  })
})

describe('findings', () => {
  it('come to all their rows, at the column of their field', () => {
    const { found, notices } = sort(finding({ cells: ['C4:C5'] }), finding({ field: null, cells: ['5:5'] }))
    expect([...found].map(([id, list]) => [id, list.map((one) => one.column)])).toEqual([
      [40, [1]],
      [50, [1, -1]],
    ])
    expect(notices).toEqual([])
  })

  it('stay where the file has something that was not taken', () => {
    const { found } = sort(finding({ cells: ['C5:C6'], code: 'cell_rounded' }))
    expect([...found].map(([id, [one]]) => [id, one!.isSticky])).toEqual([
      [50, false],
      [60, true],
    ])
  })

  it('of the file become notices; of files and absent columns they are told elsewhere', () => {
    const { found, notices } = sort(
      finding({ code: 'unknown_column', severity: 'warning', cells: ['D3'], field: null }),
      finding({ code: 'merged_cells', cells: ['C4:C9'] }),
      finding({ code: 'file_not_staged' }),
      finding({ code: 'column_missing', cells: [], column: null }),
      finding({ code: 'old_template', severity: 'warning', sheet: '', column: null, cells: [] }),
    )
    expect(found.size).toBe(0)
    expect(notices.map((notice) => [notice.code, notice.where])).toEqual([
      ['unknown_column', 'Run 7!D3'],
      ['merged_cells', 'Run 7!C4:C9'],
      ['old_template', ''],
    ])
  })
})
