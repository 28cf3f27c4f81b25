/** Vocabularies as csv and in comparison, by the same rules as the portal's. */

export interface Term {
  term: string
  synonyms: string[]
}

/** What is wrong, as a key of `adminfields.words.faults` with its values; `place` is a line, or the word's number. */
export interface Fault {
  place: number
  key: string
  values?: Record<string, unknown>
}

export interface Reading {
  terms: Term[]
  /** The line of each word. */
  lines: number[]
  faults: Fault[]
}

export const MAX_TERMS = 10_000
export const MAX_SYNONYMS = 50
export const MAX_LENGTH = 255
export const DELIMITERS = { comma: ',', semicolon: ';', tab: '\t' } as const
export type Delimiter = keyof typeof DELIMITERS

/** Return the text of a file in UTF-8; what is none is a fault with its line. */
export function decode(bytes: Uint8Array): { text: string; faults: Fault[] } {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), faults: [] }
  } catch {
    let [line, start] = [1, 0]
    for (;;) {
      const end = bytes.indexOf(10, start)
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(start, end < 0 ? undefined : end))
      } catch {
        return { text: '', faults: [{ place: line, key: 'encoding' }] }
      }
      line++
      start = end + 1
    }
  }
}

/** Return what most likely separates the cells: a spreadsheet program writes what is usual in its country. */
export function guessDelimiter(text: string): Delimiter {
  const outside = text.slice(0, 20_000).replace(/"[^"]*"/g, '')
  const count = (name: Delimiter) => outside.split(DELIMITERS[name]).length - 1
  return (Object.keys(DELIMITERS) as Delimiter[]).reduce((best, name) =>
    count(name) > count(best) ? name : best,
  )
}

/** Return the words of a csv file: the first cell of a line is the word, all others its synonyms. */
export function readTerms(text: string, delimiter: Delimiter): Reading {
  const { rows, faults } = parseRows(text, DELIMITERS[delimiter])
  const terms: Term[] = []
  const lines: number[] = []
  rows.forEach(({ cells, line }, number) => {
    const [term = '', ...synonyms] = cells.map((cell) => cell.trim())
    if ((number === 0 && isHeader(term, synonyms)) || (!term && !synonyms.some(Boolean))) return
    if (!term) faults.push({ place: line, key: 'noWord' })
    else {
      terms.push({ term, synonyms: synonyms.filter(Boolean) })
      lines.push(line)
    }
  })
  for (const fault of checkTerms(terms)) faults.push({ ...fault, place: lines[fault.place] ?? 0 })
  return { terms, lines, faults: faults.sort((one, other) => one.place - other.place) }
}

function isHeader(term: string, synonyms: string[]): boolean {
  return (
    term.toLowerCase() === 'term' &&
    synonyms.every((cell) => !cell || cell.toLowerCase().startsWith('synonym'))
  )
}

function parseRows(
  text: string,
  delimiter: string,
): { rows: { cells: string[]; line: number }[]; faults: Fault[] } {
  const rows: { cells: string[]; line: number }[] = []
  let [cells, cell, line, started]: [string[], string, number, number] = [[], '', 1, 1]
  let state: 'plain' | 'quoted' | 'closed' = 'plain'
  const endRow = () => {
    rows.push({ cells: [...cells, cell], line: started })
    cells = []
    cell = ''
    state = 'plain'
  }
  const input = text.replace(/\r\n?/g, '\n')
  for (const character of input) {
    if (state === 'quoted') {
      if (character === '"') state = 'closed'
      else cell += character
    } else if (character === '"' && state === 'closed') {
      cell += '"'
      state = 'quoted'
    } else if (character === delimiter) {
      cells.push(cell)
      cell = ''
      state = 'plain'
    } else if (character === '\n') endRow()
    else if (state === 'closed') return { rows, faults: [{ place: line, key: 'quotes' }] }
    else if (character === '"' && cell === '') state = 'quoted'
    else cell += character
    if (character === '\n') {
      line++
      if (state !== 'quoted') started = line
    }
  }
  if (state === 'quoted') return { rows, faults: [{ place: started, key: 'openQuotes' }] }
  if (cell || cells.length) endRow()
  return { rows, faults: [] }
}

export const normalise = (word: string) => word.normalize('NFC').trim().toLowerCase()

/** Return what is wrong with words; the place of a fault is the number of the word. */
export function checkTerms(terms: readonly Term[]): Fault[] {
  const faults: Fault[] = []
  if (terms.length > MAX_TERMS) return [{ place: MAX_TERMS, key: 'tooMany', values: { most: MAX_TERMS } }]
  const words = new Set(terms.map(({ term }) => term))
  const seen = new Set<string>()
  const meanings = new Map<string, string>()
  terms.forEach(({ term, synonyms }, place) => {
    if (seen.has(term)) faults.push({ place, key: 'twice', values: { word: term } })
    seen.add(term)
    if (synonyms.length > MAX_SYNONYMS)
      faults.push({ place, key: 'tooManySynonyms', values: { word: term, most: MAX_SYNONYMS } })
    for (const word of [term, ...synonyms]) {
      if (!word || word !== word.trim()) faults.push({ place, key: 'empty' })
      else if ([...word].length > MAX_LENGTH)
        faults.push({ place, key: 'long', values: { most: MAX_LENGTH } })
      else if (word.includes('\0')) faults.push({ place, key: 'noText' })
    }
    for (const word of synonyms) {
      const key = normalise(word)
      const meant = meanings.get(key) ?? term
      meanings.set(key, meant)
      if (words.has(word)) faults.push({ place, key: 'isWord', values: { word } })
      else if (meant !== term) faults.push({ place, key: 'means', values: { word, term: meant } })
    }
  })
  return faults
}

const isSame = (one: Term, other: Term) =>
  one.synonyms.length === other.synonyms.length &&
  one.synonyms.every((word, at) => word === other.synonyms[at])

/** Return which words come, go, and get other synonyms. */
export function compareTerms(
  before: readonly Term[],
  after: readonly Term[],
): { added: string[]; removed: string[]; changed: string[] } {
  const former = new Map(before.map((term) => [term.term, term]))
  const latter = new Set(after.map(({ term }) => term))
  return {
    added: after.filter(({ term }) => !former.has(term)).map(({ term }) => term),
    removed: before.filter(({ term }) => !latter.has(term)).map(({ term }) => term),
    changed: after
      .filter((term) => former.has(term.term) && !isSame(term, former.get(term.term)!))
      .map(({ term }) => term),
  }
}

/** Return the words with those that were read: synonyms of words that are there are added to theirs. */
export function mergeTerms(before: readonly Term[], read: readonly Term[]): Term[] {
  const merged = new Map(before.map((term) => [term.term, term]))
  for (const { term, synonyms } of read) {
    const known = merged.get(term)?.synonyms ?? []
    const keys = new Set(known.map(normalise))
    merged.set(term, { term, synonyms: [...known, ...synonyms.filter((word) => !keys.has(normalise(word)))] })
  }
  return [...merged.values()]
}

/** Return the words as csv that `readTerms`, the portal and spreadsheet programs read. */
export function writeCsv(terms: readonly Term[]): string {
  const quote = (cell: string) => (/[",\n\r]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)
  const width = Math.max(1, ...terms.map(({ synonyms }) => synonyms.length))
  const header = ['term', ...Array<string>(width).fill('synonym')]
  const rows = [header, ...terms.map(({ term, synonyms }) => [term, ...synonyms])]
  return `\uFEFF${rows.map((row) => row.map(quote).join(',')).join('\r\n')}\r\n`
}
