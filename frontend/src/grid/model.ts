/**
 * The rows of a sample sheet while they are worked on: their values, what was found in them, and every step, so that
 * it can be undone.
 *
 * A row is never changed, but replaced: who has asked something about a row sees by its identity whether the answer
 * is still about what is there. What concerns several rows, such as a value that must be unique, is told from counts
 * that follow each change; all else is found by the portal.
 */
import { shallowRef } from 'vue'

export type Severity = 'error' | 'warning' | 'note'

export interface Column {
  readonly name: string
  readonly isMandatory: boolean
  readonly isFile: boolean
  readonly isUnique: boolean
  /** Words to choose from; without any the column takes other values. */
  readonly words: readonly string[]
  readonly missingTerms: readonly string[]
}

/** `''` is a cell without a value. */
export interface Row {
  readonly id: number
  readonly values: readonly string[]
}

/** What was found in a cell; `column` -1: in the row as a whole. */
export interface Found {
  readonly severity: Severity
  readonly code: string
  readonly message: string
  readonly column: number
  readonly value?: string | null
  readonly suggestion?: string | null
  /** It stays until the cell is changed, whatever a later check says. */
  readonly isSticky?: boolean
}

export interface Place {
  readonly row: number
  readonly column: number
}

/** A rectangle of cells, ends included. */
export interface Area {
  readonly top: number
  readonly bottom: number
  readonly left: number
  readonly right: number
}

type Change =
  | { kind: 'values'; rows: { id: number; before: readonly string[]; after: readonly string[] }[] }
  | { kind: 'insert' | 'remove'; at: number; rows: readonly Row[] }

interface Step {
  changes: Change[]
  place: Place
}

export interface Summary {
  /** Rows that hold something. */
  rows: number
  errorRows: number
  errors: number
  warnings: number
  unchecked: number
  firstError: Place | null
}

/** What must not be in another row: as what it is counted, where it stands, and what it is called if it is. */
type Key = readonly [key: string, column: number, code: string]

const MOST_STEPS = 200
/** Codes of findings that are told from the counts here, and not taken from the portal. */
export const LOCAL_CODES: ReadonlySet<string> = new Set([
  'not_unique_in_sheet',
  'duplicate_file_reference',
  'duplicate_row',
])
const NOTHING: readonly Found[] = []

/** The form in which values are compared. */
export const normalise = (text: string) => text.normalize('NFC').trim()
export const isEmpty = (row: Row) => row.values.every((value) => !value.trim())

export class SheetModel {
  readonly columns: readonly Column[]
  readonly rows: Row[] = []
  /** Triggers whenever anything is different from before. */
  readonly version = shallowRef(0)
  /** Triggers when the rows may name other files. */
  readonly filesVersion = shallowRef(0)
  /** Rows that the portal has not seen as they are. */
  readonly stale = new Set<number>()
  /** Rows that have not been stored as they are. */
  readonly dirty = new Set<number>()
  /** Told after each change of rows. */
  onChange: () => void = () => undefined

  private readonly found = new Map<number, readonly Found[]>()
  private readonly counts = new Map<string, number>()
  private readonly keys = new WeakMap<Row, readonly Key[]>()
  private readonly places = new Map<number, number>()
  private arePlacesKnown = true
  private done: Step[] = []
  private undone: Step[] = []
  private nextId = 1
  private summary: Summary | null = null

  constructor(columns: readonly Column[]) {
    this.columns = columns
  }

  // What is there.

  get canUndo(): boolean {
    return this.done.length > 0
  }

  get canRedo(): boolean {
    return this.undone.length > 0
  }

  value(row: number, column: number): string {
    return this.rows[row]?.values[column] ?? ''
  }

  /** The place of a row by its id; -1 if it is gone. */
  placeOf(id: number): number {
    if (!this.arePlacesKnown) {
      this.places.clear()
      this.rows.forEach((row, place) => this.places.set(row.id, place))
      this.arePlacesKnown = true
    }
    return this.places.get(id) ?? -1
  }

  /** The text of an area as spreadsheets put it on the clipboard. */
  copy(area: Area): string {
    const lines: string[] = []
    for (let row = area.top; row <= area.bottom; row++) {
      const values: string[] = []
      for (let column = area.left; column <= area.right; column++)
        values.push(quoteForTab(this.value(row, column)))
      lines.push(values.join('\t'))
    }
    return lines.join('\n')
  }

  /** Everything that is found in a row, its cells and itself. */
  findingsOf(row: Row): readonly Found[] {
    const found = this.found.get(row.id) ?? NOTHING
    const more = this.findLocal(row)
    return more.length ? [...found, ...more] : found
  }

  /** What is shown at a cell; what concerns a whole row is shown at its first. */
  findingsAt(place: Place): readonly Found[] {
    const row = this.rows[place.row]
    if (!row) return NOTHING
    return this.findingsOf(row).filter((found) => Math.max(found.column, 0) === place.column)
  }

  summarise(): Summary {
    if (this.summary) return this.summary
    const summary: Summary = { rows: 0, errorRows: 0, errors: 0, warnings: 0, unchecked: 0, firstError: null }
    this.rows.forEach((row, place) => {
      // A row of which nothing could be read is not empty.
      if (isEmpty(row) && !this.found.has(row.id)) return
      summary.rows++
      if (this.stale.has(row.id)) summary.unchecked++
      let first = Infinity
      for (const found of this.findingsOf(row)) {
        if (found.severity === 'warning') summary.warnings++
        if (found.severity !== 'error') continue
        summary.errors++
        first = Math.min(first, Math.max(found.column, 0))
      }
      if (first === Infinity) return
      summary.errorRows++
      summary.firstError ??= { row: place, column: first }
    })
    return (this.summary = summary)
  }

  /** The next cell with an error behind a place (before it with `step` -1), from the other end at last; else with a warning. */
  findProblem(from: Place, step: 1 | -1 = 1): Place | null {
    return this.findSeverity(from, step, 'error') ?? this.findSeverity(from, step, 'warning')
  }

  private findSeverity(from: Place, step: 1 | -1, severity: Severity): Place | null {
    const count = this.rows.length
    if (!count) return null
    const start = Math.min(Math.max(from.row, 0), count - 1)
    for (let turn = 0; turn <= count; turn++) {
      const place = (((start + step * turn) % count) + count) % count
      const columns = this.findingsOf(this.rows[place]!)
        .filter((found) => found.severity === severity)
        .map((found) => Math.max(found.column, 0))
        .filter((column) => {
          if (turn > 0 && turn < count) return true
          const isBehind = (column - (from.row === start ? from.column : -1)) * step > 0
          return turn === 0 ? isBehind : !isBehind
        })
      if (columns.length)
        return { row: place, column: step === 1 ? Math.min(...columns) : Math.max(...columns) }
    }
    return null
  }

  /** The names of files that the rows give, in NFC, each with the numbers (from 1) of its rows. */
  listFiles(): Map<string, number[]> {
    const files = new Map<string, number[]>()
    const columns = this.columns.flatMap((column, index) => (column.isFile ? [index] : []))
    this.rows.forEach((row, place) => {
      for (const index of columns) {
        const value = row.values[index]!
        if (!value.trim() || this.columns[index]!.missingTerms.includes(value)) continue
        const name = value.normalize('NFC')
        const rows = files.get(name)
        if (!rows) files.set(name, [place + 1])
        else if (rows.at(-1) !== place + 1) rows.push(place + 1)
      }
    })
    return files
  }

  // Steps, each of which can be undone.

  setValue(place: Place, value: string): void {
    this.setBlock(place, [[value]])
  }

  /** Write a block of values; rows are added where there are none yet, what is right of the last column is left out. */
  setBlock(at: Place, block: readonly (readonly string[])[]): Area {
    const changes: Change[] = []
    const missing = at.row + block.length - this.rows.length
    let added: Row[] = []
    if (missing > 0) {
      added = Array.from({ length: missing }, () => this.makeRow([]))
      changes.push({ kind: 'insert', at: this.rows.length, rows: added })
    }
    const rows: { id: number; before: readonly string[]; after: readonly string[] }[] = []
    let width = 0
    block.forEach((texts, offset) => {
      const place = at.row + offset
      const row = this.rows[place] ?? added[place - this.rows.length]!
      const after = [...row.values]
      texts.forEach((text, index) => {
        if (at.column + index < after.length) after[at.column + index] = text
      })
      width = Math.max(width, texts.length)
      if (after.some((value, index) => value !== row.values[index]))
        rows.push({ id: row.id, before: row.values, after })
    })
    if (rows.length) changes.push({ kind: 'values', rows })
    if (rows.length) this.take({ changes, place: at })
    return {
      top: at.row,
      bottom: at.row + Math.max(block.length, 1) - 1,
      left: at.column,
      right: Math.min(at.column + Math.max(width, 1), this.columns.length) - 1,
    }
  }

  /** Write one value into a whole area. */
  fill(area: Area, value: string): void {
    const line = Array.from({ length: area.right - area.left + 1 }, () => value)
    this.setBlock(
      { row: area.top, column: area.left },
      Array.from({ length: area.bottom - area.top + 1 }, () => line),
    )
  }

  /** Empty an area; rows that are not there stay so. */
  clear(area: Area): void {
    const bottom = Math.min(area.bottom, this.rows.length - 1)
    if (bottom >= area.top) this.fill({ ...area, bottom }, '')
  }

  /** Copy the first row of an area into its others; of a single row, the row above into it. */
  fillDown(area: Area): void {
    const source = area.top === area.bottom ? area.top - 1 : area.top
    if (source < 0) return
    const line = Array.from({ length: area.right - area.left + 1 }, (_, index) =>
      this.value(source, area.left + index),
    )
    const first = source + 1
    this.setBlock(
      { row: first, column: area.left },
      Array.from({ length: area.bottom - first + 1 }, () => line),
    )
  }

  insertRows(at: number, count = 1): void {
    const rows = Array.from({ length: count }, () => this.makeRow([]))
    this.take({
      changes: [{ kind: 'insert', at: Math.min(at, this.rows.length), rows }],
      place: { row: at, column: 0 },
    })
  }

  removeRows(top: number, bottom: number): void {
    const rows = this.rows.slice(top, bottom + 1)
    if (rows.length)
      this.take({ changes: [{ kind: 'remove', at: top, rows }], place: { row: top, column: 0 } })
  }

  /** Add rows at the end, or in the place of all that are there; returns them. */
  addRows(values: readonly (readonly string[])[], isReplacing = false): readonly Row[] {
    const rows = values.map((texts) => this.makeRow(texts))
    // Empty rows at the end are where somebody would begin to type.
    let kept = isReplacing ? 0 : this.rows.length
    while (kept > 0 && isEmpty(this.rows[kept - 1]!)) kept--
    const changes: Change[] = [{ kind: 'insert', at: kept, rows }]
    if (kept < this.rows.length) changes.unshift({ kind: 'remove', at: kept, rows: this.rows.slice(kept) })
    if (rows.length || changes.length > 1) this.take({ changes, place: { row: kept, column: 0 } })
    return rows
  }

  /** Take the suggestion in every cell where the same was found; returns in how many. */
  acceptAll(found: Found): number {
    const rows: { id: number; before: readonly string[]; after: readonly string[] }[] = []
    let first: Place | null = null
    this.rows.forEach((row, place) => {
      if (!this.isLike(row, found)) return
      first ??= { row: place, column: found.column }
      const after = [...row.values]
      after[found.column] = found.suggestion!
      rows.push({ id: row.id, before: row.values, after })
    })
    if (first) this.take({ changes: [{ kind: 'values', rows }], place: first })
    return rows.length
  }

  /** In how many cells the same was found, with the same suggestion. */
  countAlike(found: Found): number {
    return this.rows.reduce((count, row) => count + Number(this.isLike(row, found)), 0)
  }

  private isLike(row: Row, wanted: Found): boolean {
    return (this.found.get(row.id) ?? NOTHING).some(
      (found) =>
        found === wanted ||
        (found.code === wanted.code &&
          found.column === wanted.column &&
          found.value === wanted.value &&
          found.suggestion === wanted.suggestion),
    )
  }

  /** Take back the last step; returns where it was made. */
  undo(): Place | null {
    const step = this.done.pop()
    if (!step) return null
    for (const change of step.changes.toReversed()) this.apply(change, true)
    this.undone.push(step)
    this.tell()
    return step.place
  }

  redo(): Place | null {
    const step = this.undone.pop()
    if (!step) return null
    for (const change of step.changes) this.apply(change, false)
    this.done.push(step)
    this.tell()
    return step.place
  }

  // What the portal says, and what was stored.

  /** Take what a check has found in rows that were sent; of rows that have been changed since, it says nothing. */
  takeFindings(sent: readonly Row[], found: ReadonlyMap<number, readonly Found[]>): void {
    for (const row of sent) {
      if (this.rows[this.placeOf(row.id)] !== row) continue
      this.stale.delete(row.id)
      const sticky = (this.found.get(row.id) ?? NOTHING).filter((one) => one.isSticky)
      const taken = (found.get(row.id) ?? NOTHING).filter((one) => !LOCAL_CODES.has(one.code))
      const all = [...sticky.filter((old) => !taken.some((one) => isSame(one, old))), ...taken]
      if (all.length) this.found.set(row.id, all)
      else this.found.delete(row.id)
    }
    this.show()
  }

  /** What a check has said of these rows is not all there is to say. */
  checkAgain(rows: readonly Row[]): void {
    for (const row of rows) if (!isEmpty(row)) this.stale.add(row.id)
    this.show()
  }

  /** What was found and stays found, to be stored with the rows. */
  listSticky(): [number, readonly Found[]][] {
    return [...this.found].flatMap(([id, found]): [number, readonly Found[]][] => {
      const sticky = found.filter((one) => one.isSticky)
      return sticky.length ? [[id, sticky]] : []
    })
  }

  /** Begin with rows as they were stored, all of them still to be checked. */
  load(rows: readonly Row[], sticky: Iterable<readonly [number, readonly Found[]]> = []): void {
    for (const row of this.rows) this.count(row, -1)
    this.rows.splice(0, this.rows.length, ...rows)
    this.nextId = rows.reduce((highest, row) => Math.max(highest, row.id), 0) + 1
    this.arePlacesKnown = false
    this.done = []
    this.undone = []
    this.found.clear()
    this.stale.clear()
    for (const row of rows) {
      this.count(row, 1)
      if (!isEmpty(row)) this.stale.add(row.id)
    }
    for (const [id, found] of sticky) this.found.set(id, found)
    this.filesVersion.value++
    this.show()
  }

  private makeRow(values: readonly string[]): Row {
    return { id: this.nextId++, values: this.columns.map((_, index) => values[index] ?? '') }
  }

  private take(step: Step): void {
    for (const change of step.changes) this.apply(change, false)
    this.done.push(step)
    if (this.done.length > MOST_STEPS) this.done.shift()
    this.undone = []
    this.tell()
  }

  private apply(change: Change, isBack: boolean): void {
    if (change.kind === 'values') {
      for (const { id, before, after } of change.rows) this.replace(id, isBack ? before : after)
      return
    }
    this.arePlacesKnown = false
    this.filesVersion.value++
    if ((change.kind === 'insert') !== isBack) {
      spliceIn(this.rows, change.at, change.rows)
      for (const row of change.rows) {
        this.count(row, 1)
        this.mark(row)
      }
    } else {
      const removed = this.rows.splice(change.at, change.rows.length)
      for (const row of removed) {
        this.count(row, -1)
        this.stale.delete(row.id)
        this.dirty.add(row.id)
      }
    }
  }

  private replace(id: number, values: readonly string[]): void {
    const place = this.placeOf(id)
    const before = this.rows[place]!
    const row = { id, values }
    const isSame = (column: Column, index: number) => !column.isFile || before.values[index] === values[index]
    if (!this.columns.every(isSame)) this.filesVersion.value++
    this.count(before, -1)
    this.count(row, 1)
    this.rows[place] = row
    const kept = (this.found.get(id) ?? NOTHING).filter(
      (found) => found.column >= 0 && before.values[found.column] === values[found.column],
    )
    if (kept.length) this.found.set(id, kept)
    else this.found.delete(id)
    this.mark(row)
  }

  private mark(row: Row): void {
    this.dirty.add(row.id)
    if (isEmpty(row)) {
      this.stale.delete(row.id)
      this.found.delete(row.id)
    } else this.stale.add(row.id)
  }

  private tell(): void {
    this.show()
    this.onChange()
  }

  private show(): void {
    this.summary = null
    this.version.value++
  }

  // What concerns several rows.

  private listKeys(row: Row): readonly Key[] {
    let keys = this.keys.get(row)
    if (!keys) this.keys.set(row, (keys = [...this.makeKeys(row)]))
    return keys
  }

  private *makeKeys(row: Row): Generator<Key> {
    for (let index = 0; index < this.columns.length; index++) {
      const column = this.columns[index]!
      if (!column.isUnique && !column.isFile) continue
      const value = row.values[index]!
      if (!value.trim() || column.missingTerms.includes(value)) continue
      const text = normalise(value)
      if (column.isUnique) yield [`${index} ${text}`, index, 'not_unique_in_sheet']
      if (column.isFile) yield [`file ${text}`, index, 'duplicate_file_reference']
    }
    if (!isEmpty(row)) yield [`row ${row.values.map(normalise).join('\u001f')}`, -1, 'duplicate_row']
  }

  private count(row: Row, step: 1 | -1): void {
    for (const [key] of this.listKeys(row)) {
      const count = (this.counts.get(key) ?? 0) + step
      if (count) this.counts.set(key, count)
      else this.counts.delete(key)
    }
  }

  private findLocal(row: Row): readonly Found[] {
    let found: Found[] | null = null
    for (const [key, column, code] of this.listKeys(row)) {
      if (this.counts.get(key)! < 2) continue
      const severity = code === 'duplicate_row' ? 'warning' : 'error'
      found ??= []
      found.push({ severity, code, message: '', column, value: column < 0 ? null : row.values[column] })
    }
    return found ?? NOTHING
  }
}

function isSame(one: Found, other: Found): boolean {
  return one.code === other.code && one.column === other.column && one.message === other.message
}

/** As `splice`, for more rows than a call takes arguments. */
function spliceIn<T>(list: T[], at: number, items: readonly T[]): void {
  const rest = list.splice(at)
  for (const item of items) list.push(item)
  for (const item of rest) list.push(item)
}

// Text of spreadsheets.

const quoteForTab = (text: string) => (/[\t\r\n"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

/**
 * Take a block apart as spreadsheets put it on the clipboard: lines of cells between tabs. A cell is quoted only if
 * its quotation mark closes before the next tab or line; any other mark is text.
 */
export function parseBlock(text: string): string[][] {
  const block: string[][] = []
  let line: string[] = []
  let place = 0
  const cell = /(?:"((?:[^"]|"")*)"(?=[\t\r\n]|$)|([^\t\r\n]*))(\t|\r\n|\r|\n|$)/y
  while (place < text.length) {
    cell.lastIndex = place
    const match = cell.exec(text)!
    line.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'))
    place = cell.lastIndex
    if (match[3] === '\t') {
      if (place === text.length) line.push('')
      continue
    }
    block.push(line)
    line = []
  }
  if (line.length) block.push(line)
  return block
}

const fold = (text: string) =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim()

/** The columns that a pasted block's first line names, -1 for others; null if it is no header. */
export function matchHeader(line: readonly string[], columns: readonly Column[]): number[] | null {
  const names = new Map(columns.map((column, index) => [fold(column.name), index]))
  const found = line.map((text) => names.get(fold(text)) ?? -1)
  const named = found.filter((index) => index >= 0)
  const isHeader = named.length >= Math.min(2, columns.length) && named.length * 2 > line.length
  return isHeader && new Set(named).size === named.length ? found : null
}

const quote = (text: string) => `"${text.replaceAll('"', '""')}"`

/** Rows as the portal reads them, every value as it is; the row at place n has the number n + 2. */
export function writeCsv(columns: readonly Pick<Column, 'name'>[], rows: readonly Row[]): string {
  const lines = ['sep=,', columns.map((column) => quote(column.name)).join(',')]
  for (const row of rows) lines.push(row.values.map(quote).join(','))
  return lines.join('\r\n') + '\r\n'
}
