import { describe, expect, it } from 'vitest'
import {
  checkTerms,
  compareTerms,
  decode,
  guessDelimiter,
  mergeTerms,
  readTerms,
  writeCsv,
} from './vocabulary'

const bytes = (text: string) => new TextEncoder().encode(text)
const word = (term: string, ...synonyms: string[]) => ({ term, synonyms })
const faults = (text: string) => readTerms(text, 'comma').faults.map(({ place, key }) => [place, key])

describe('a csv file', () => {
  it('has words, synonyms, a header and empty lines', () => {
    const read = readTerms('Term,synonym,Synonym 2\r\nHomo sapiens, human ,\n\n"a,b","say ""x"""\n', 'comma')
    expect(read.terms).toEqual([word('Homo sapiens', 'human'), word('a,b', 'say "x"')])
    expect([read.lines, read.faults]).toEqual([[2, 4], []])
  })

  it('is a header only in its first line, and only if it looks like one', () => {
    expect(readTerms('term,other\nterm,x\n', 'comma').terms).toEqual([
      word('term', 'other'),
      word('term', 'x'),
    ])
    expect(readTerms('a\nterm\n', 'comma').terms).toEqual([word('a'), word('term')])
  })

  it('may be separated by other characters', () => {
    for (const [name, text] of [
      ['comma', 'a,b\nc,"d;e"'],
      ['semicolon', 'a;b\nc;"d,e,f"'],
      ['tab', 'a\tb'],
      ['comma', 'a\nb'],
    ] as const)
      expect(guessDelimiter(text)).toBe(name)
    expect(readTerms('a;b\nc;"d;e"', 'semicolon').terms).toEqual([word('a', 'b'), word('c', 'd;e')])
  })

  it('names the line of what is wrong', () => {
    expect(faults('a\n,x\n')).toEqual([[2, 'noWord']])
    expect(faults('a\n"b"c\n')).toEqual([[2, 'quotes']])
    expect(faults('a\n"b\nc\n')).toEqual([[2, 'openQuotes']])
    expect(faults('a\n"two\nlines"\na\n')).toEqual([[4, 'twice']])
  })

  it('is UTF-8, with or without a mark', () => {
    expect(decode(bytes('\uFEFFä')).text).toBe('ä')
    expect(decode(new Uint8Array([...bytes('ä\nb\n'), 0xe4, 10])).faults).toEqual([
      { place: 3, key: 'encoding' },
    ])
  })

  it('is read as it was written', () => {
    const terms = [word('a,b', 'x"y', ' z'.trim()), word('term'), word('Grün')]
    const read = readTerms(decode(bytes(writeCsv(terms))).text, 'comma')
    expect([read.terms, read.faults]).toEqual([terms, []])
    expect(readTerms(decode(bytes(writeCsv([]))).text, 'comma').terms).toEqual([])
  })
})

describe('checkTerms', () => {
  const keys = (...terms: ReturnType<typeof word>[]) =>
    checkTerms(terms).map(({ place, key }) => [place, key])

  it('finds what the portal would refuse', () => {
    expect(keys(word('a', 'b'), word('c'))).toEqual([])
    expect(keys(word('a'), word('a'))).toEqual([[1, 'twice']])
    expect(keys(word('a', 'c'), word('c'))).toEqual([[0, 'isWord']])
    expect(keys(word('a', 'x'), word('b', 'X '.trim()))).toEqual([[1, 'means']])
    expect(keys(word(' a'), word(''))).toEqual([
      [0, 'empty'],
      [1, 'empty'],
    ])
    expect(keys(word('x'.repeat(256)))).toEqual([[0, 'long']])
    expect(keys(word('a', ...Array.from({ length: 51 }, (_, number) => `s${number}`)))).toEqual([
      [0, 'tooManySynonyms'],
    ])
    expect(keys(word('a\0'))).toEqual([[0, 'noText']])
    expect(keys(...Array.from({ length: 10_001 }, (_, number) => word(`w${number}`)))).toEqual([
      [10_000, 'tooMany'],
    ])
  })
})

it('compares and merges', () => {
  const [before, read] = [
    [word('a', 'x'), word('b')],
    [word('c'), word('a', 'X', 'y')],
  ]
  expect(compareTerms(before, read)).toEqual({ added: ['c'], removed: ['b'], changed: ['a'] })
  expect(mergeTerms(before, read)).toEqual([word('a', 'x', 'y'), word('b'), word('c')])
})
