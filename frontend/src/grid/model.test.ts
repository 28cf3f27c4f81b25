import { describe, expect, it } from 'vitest'
import { matchHeader, parseBlock, SheetModel, writeCsv, type Column, type Found } from './model'

const column = (name: string, more: Partial<Column> = {}): Column => ({
  name,
  isMandatory: false,
  isFile: false,
  isUnique: false,
  words: [],
  missingTerms: [],
  ...more,
})
const COLUMNS = [
  column('Lab-ID', { isUnique: true, isMandatory: true }),
  column('Platform', { words: ['Illumina', 'PacBio'] }),
  column('R1', { isFile: true, missingTerms: ['missing'] }),
  column('R2', { isFile: true }),
]
const values = (model: SheetModel) => model.rows.map((row) => row.values.join('|'))
const make = (...rows: string[][]) => {
  const model = new SheetModel(COLUMNS)
  if (rows.length) model.addRows(rows)
  return model
}
const wrong = (column: number, more: Partial<Found> = {}): Found => ({
  severity: 'error',
  code: 'regex_mismatch',
  message: 'no',
  column,
  ...more,
})

describe('steps', () => {
  it('writes a block, adds the rows it needs, and leaves out what is beside the last column', () => {
    const model = make(['S1', 'Illumina', '', ''])
    const area = model.setBlock({ row: 1, column: 2 }, [['a', 'b', 'c'], ['d']])
    expect(area).toEqual({ top: 1, bottom: 2, left: 2, right: 3 })
    expect(values(model)).toEqual(['S1|Illumina||', '||a|b', '||d|'])
  })

  it('undoes and redoes each step as a whole, and says where it was', () => {
    const model = make(['S1', '', '', ''], ['S2', '', '', ''])
    const before = values(model)
    model.setBlock({ row: 1, column: 1 }, [['x'], ['y'], ['z']])
    model.removeRows(0, 1)
    expect(values(model)).toEqual(['|y||', '|z||'])
    model.undo()
    expect(model.undo()).toEqual({ row: 1, column: 1 })
    expect(values(model)).toEqual(before)
    model.redo()
    expect(values(model)).toEqual(['S1|||', 'S2|x||', '|y||', '|z||'])
    model.setValue({ row: 0, column: 0 }, 'S9')
    expect(model.canRedo).toBe(false)
  })

  it('makes no step of what changes nothing', () => {
    const model = make(['S1', '', '', ''])
    model.setValue({ row: 0, column: 0 }, 'S1')
    model.clear({ top: 3, bottom: 9, left: 0, right: 1 })
    model.fillDown({ top: 0, bottom: 0, left: 0, right: 0 })
    model.undo()
    expect(values(model)).toEqual([])
    expect(model.canUndo).toBe(false)
  })

  it('fills down from the first row of an area, or from the row above', () => {
    const model = make(['S1', 'Illumina', '', ''], ['S2', '', '', ''], ['S3', '', '', ''])
    model.fillDown({ top: 0, bottom: 2, left: 1, right: 1 })
    expect(values(model)).toEqual(['S1|Illumina||', 'S2|Illumina||', 'S3|Illumina||'])
    model.setValue({ row: 1, column: 1 }, 'PacBio')
    model.fillDown({ top: 2, bottom: 2, left: 1, right: 1 })
    expect(model.value(2, 1)).toBe('PacBio')
  })

  it('adds rows behind the last that holds something, or in the place of all', () => {
    const model = make(['S1', '', '', ''])
    model.insertRows(1, 3)
    model.addRows([['S2']])
    expect(values(model)).toEqual(['S1|||', 'S2|||'])
    model.addRows([['S3']], true)
    expect(values(model)).toEqual(['S3|||'])
    model.undo()
    expect(values(model)).toEqual(['S1|||', 'S2|||'])
  })

  it('takes many rows at once', () => {
    const model = new SheetModel([column('Name')])
    model.addRows(Array.from({ length: 130_000 }, (_, index) => [`S${index}`]))
    expect(model.rows.length).toBe(130_000)
  })
})

describe('findings', () => {
  it('tells of values that must be unique, of files named twice and of equal rows, and forgets them with the cause', () => {
    const model = make(
      ['S1', '', 'a.fq', 'a.fq'],
      ['S1 ', '', 'missing', ''],
      ['S3', '', 'missing', ''],
      ['S3', '', 'missing', ''],
    )
    const codes = () =>
      model.rows.map((row) => model.findingsOf(row).map((found) => `${found.column} ${found.code}`))
    expect(codes()).toEqual([
      ['0 not_unique_in_sheet', '2 duplicate_file_reference', '3 duplicate_file_reference'],
      ['0 not_unique_in_sheet'],
      ['0 not_unique_in_sheet', '-1 duplicate_row'],
      ['0 not_unique_in_sheet', '-1 duplicate_row'],
    ])
    model.setValue({ row: 0, column: 3 }, 'b.fq')
    model.removeRows(3, 3)
    model.setValue({ row: 1, column: 0 }, 'S2')
    expect(codes()).toEqual([[], [], []])
    model.undo()
    expect(codes()[0]).toEqual(['0 not_unique_in_sheet'])
  })

  it('takes what a check says of rows as they were sent, and of no others', () => {
    const model = make(['S1'], ['S2'])
    const sent = [...model.rows]
    model.setValue({ row: 0, column: 1 }, 'x')
    model.takeFindings(sent, new Map(sent.map((row) => [row.id, [wrong(0)]])))
    expect(model.findingsAt({ row: 0, column: 0 })).toEqual([])
    expect(model.findingsAt({ row: 1, column: 0 })).toHaveLength(1)
    expect([...model.stale]).toEqual([sent[0]!.id])
    expect(model.summarise()).toMatchObject({ rows: 2, errorRows: 1, errors: 1, unchecked: 1 })
  })

  it('drops what was found in a cell when the cell changes, and keeps the rest of the row', () => {
    const model = make(['S1', 'Illu', '', ''])
    const [row] = model.rows
    model.takeFindings([row!], new Map([[row!.id, [wrong(0), wrong(1)]]]))
    model.setValue({ row: 0, column: 1 }, 'Illumina')
    expect(model.findingsOf(model.rows[0]!).map((found) => found.column)).toEqual([0])
  })

  it('keeps what only the file has told until the cell is changed', () => {
    const model = make(['S1', '', '', ''])
    const sticky = wrong(1, { code: 'cell_rounded', isSticky: true })
    model.takeFindings([...model.rows], new Map([[model.rows[0]!.id, [sticky]]]))
    model.takeFindings([...model.rows], new Map())
    expect(model.summarise().errors).toBe(1)
    expect(model.listSticky()).toEqual([[model.rows[0]!.id, [sticky]]])
    model.setValue({ row: 0, column: 1 }, '7.4')
    expect(model.summarise().errors).toBe(0)
  })

  it('takes a suggestion in all cells that are wrong alike, in one step', () => {
    const model = make(['S1', 'MiSeq'], ['S2', 'MiSeq'], ['S3', 'Sequel'])
    const found = (value: string, suggestion: string) =>
      wrong(1, { code: 'not_in_vocabulary', value, suggestion })
    const findings = [
      found('MiSeq', 'Illumina'),
      found('MiSeq', 'Illumina'),
      found('Sequel', 'PacBio'),
    ] as const
    model.takeFindings([...model.rows], new Map(model.rows.map((row, index) => [row.id, [findings[index]!]])))
    expect(model.countAlike(findings[0])).toBe(2)
    expect(model.acceptAll(findings[0])).toBe(2)
    expect(model.rows.map((row) => row.values[1])).toEqual(['Illumina', 'Illumina', 'Sequel'])
    model.undo()
    expect(model.value(1, 1)).toBe('MiSeq')
  })

  it('goes from problem to problem, round and in both directions, errors before warnings', () => {
    const model = make(['S1', '', '', ''], ['S2', '', '', ''], ['S3', '', '', ''])
    const [first, , third] = model.rows
    model.takeFindings(
      [...model.rows],
      new Map([
        [first!.id, [wrong(1), wrong(3)]],
        [third!.id, [wrong(2), { ...wrong(0), severity: 'warning' as const }]],
      ]),
    )
    const seen = []
    let place = { row: 0, column: 0 }
    for (let turn = 0; turn < 4; turn++) seen.push((place = model.findProblem(place)!))
    expect(seen.map(({ row, column }) => [row, column])).toEqual([
      [0, 1],
      [0, 3],
      [2, 2],
      [0, 1],
    ])
    expect(model.findProblem({ row: 0, column: 1 }, -1)).toEqual({ row: 2, column: 2 })
    expect(model.findProblem({ row: 2, column: 2 }, -1)).toEqual({ row: 0, column: 3 })
    expect(make(['S1']).findProblem(place)).toBeNull()
  })

  it('finds the only problem again from where it is', () => {
    const model = make(['S1', '', '', ''])
    model.takeFindings([...model.rows], new Map([[model.rows[0]!.id, [wrong(1)]]]))
    expect(model.findProblem({ row: 0, column: 1 })).toEqual({ row: 0, column: 1 })
  })
})

describe('files', () => {
  it('lists the names in NFC with the rows that give them', () => {
    const model = make(['S1', '', 'a\u0308.fq', 'b.fq'], ['S2', '', 'missing', '\u00e4.fq'])
    expect([...model.listFiles()]).toEqual([
      ['\u00e4.fq', [1, 2]],
      ['b.fq', [1]],
    ])
  })
})

describe('text of spreadsheets', () => {
  it.each<[string, string[][]]>([
    [
      'a\tb\nc\td\n',
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ],
    [
      'a\t\r\n\tb',
      [
        ['a', ''],
        ['', 'b'],
      ],
    ],
    ['a\t', [['a', '']]],
    ['"x\ty"\t"say ""no"""\n', [['x\ty', 'say "no"']]],
    ['"two\nlines"\tb', [['two\nlines', 'b']]],
    ['5" pipe\t"open\tc', [['5" pipe', '"open', 'c']]],
    ['one', [['one']]],
    ['', []],
    ['\n\na', [[''], [''], ['a']]],
  ])('takes %j apart', (text, block) => {
    expect(parseBlock(text)).toEqual(block)
  })

  it('gives back what it copies', () => {
    const model = make(['a\tb', 'say "no"', 'two\nlines', ''], ['', 'x', '', '007'])
    const area = { top: 0, bottom: 1, left: 0, right: 3 }
    expect(parseBlock(model.copy(area))).toEqual(model.rows.map((row) => [...row.values]))
  })

  it('sees a header in a block, and values in others', () => {
    expect(matchHeader(['platform', 'LAB id', 'note'], COLUMNS)).toEqual([1, 0, -1])
    expect(matchHeader(['S1', 'Platform'], COLUMNS)).toBeNull()
    expect(matchHeader(['R1', 'R1', 'R2'], COLUMNS)).toBeNull()
  })

  it('writes every value as it is', () => {
    const model = make(['=1+1', 'a,"b"', ' x ', 'two\nlines'])
    expect(writeCsv(COLUMNS, model.rows)).toBe(
      'sep=,\r\n"Lab-ID","Platform","R1","R2"\r\n"=1+1","a,""b"""," x ","two\nlines"\r\n',
    )
  })
})
