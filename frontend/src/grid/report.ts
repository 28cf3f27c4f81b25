/** What the portal says of a sheet, brought to the rows and columns that are shown. */
import type { Schemas } from '@/api/client'
import type { Column, Found, Row } from './model'

export type Report = Schemas['SheetReport']
export type Finding = Schemas['SheetFinding']

/** Found of the file, or of how it was read, rather than of a value. */
export interface Notice {
  readonly severity: Found['severity']
  readonly code: string
  readonly message: string
  /** Where in the file, as `Sheet1!B2:B9`. */
  readonly where: string
}

/** Told where the files are shown, which knows more of them. */
const FILE_CODES = new Set(['file_not_staged', 'file_not_confirmed', 'file_ambiguous'])
/** What such cells hold is known; whether it was meant so, only a look at the file tells. */
const NOTICE_CODES = new Set([
  'column_without_header',
  'duplicate_column',
  'header_spelling',
  'hidden_columns',
  'hidden_rows',
  'merged_cells',
  'old_template',
  'row_ignored',
  'service_column',
  'unknown_column',
])

/** The numbers of the rows of areas such as `B17`, `B19:B25`, `17:17`. */
export function listRows(areas: readonly string[]): number[] {
  return areas.flatMap((area) => {
    const [first, last = first] = area.split(':').map((corner) => Number(/[0-9]+$/.exec(corner)?.[0]))
    if (!first || !last) return []
    return Array.from({ length: last - first + 1 }, (_, index) => first + index)
  })
}

/** Sort findings to the rows they are about; `rowAt` gives the row that a sheet's row has become. */
export function sortFindings(
  report: Report,
  columns: readonly Column[],
  rowAt: (sheet: string, row: number) => Row | undefined,
): { found: Map<number, Found[]>; notices: Notice[] } {
  const places = new Map(columns.map((column, index) => [column.name, index]))
  const found = new Map<number, Found[]>()
  const notices: Notice[] = []
  for (const finding of report.findings) {
    if (FILE_CODES.has(finding.code)) continue
    const rows = NOTICE_CODES.has(finding.code)
      ? []
      : listRows(finding.cells)
          .map((row) => rowAt(finding.sheet ?? '', row))
          .filter((row) => row !== undefined)
    if (!rows.length) {
      // Every field has its column here.
      if (finding.code !== 'column_missing') notices.push(toNotice(finding))
      continue
    }
    const column = finding.field === null ? -1 : (places.get(finding.field) ?? -1)
    for (const row of rows) {
      const list = found.get(row.id) ?? []
      found.set(row.id, list)
      list.push({
        severity: finding.severity,
        code: finding.code,
        message: finding.message ?? '',
        column,
        value: finding.value,
        suggestion: finding.suggestion,
        // The file has something there that was not taken: an empty cell does not mend that.
        isSticky:
          finding.severity === 'error' && column >= 0 && !row.values[column] && finding.value !== null,
      })
    }
  }
  return { found, notices }
}

function toNotice(finding: Finding): Notice {
  const cells = finding.cells.slice(0, 3).join(', ') + (finding.cells.length > 3 ? ' …' : '')
  const where = [finding.sheet, cells || finding.column].filter(Boolean).join('!')
  return { severity: finding.severity, code: finding.code, message: finding.message ?? '', where }
}
