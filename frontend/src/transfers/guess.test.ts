import { describe, expect, it } from 'vitest'
import { editDistance, guessName } from './guess'

describe('the guess', () => {
  const wanted = ['S1_R1.fastq.gz', 'S1_R2.fastq.gz', 'S2_R1.fastq.gz', 'protocol.pdf']

  it('is the closest name', () => {
    expect(guessName('s2-R1.fastq.gz', wanted)).toBe('S2_R1.fastq.gz')
    expect(guessName('protokol.pdf', wanted)).toBe('protocol.pdf')
    expect(guessName('S1 R2.fastq.gz', wanted)).toBe('S1_R2.fastq.gz')
  })

  it('is none if nothing is close', () => {
    expect(guessName('holiday.jpg', wanted)).toBeUndefined()
    expect(guessName('S1_R1.fastq.gz', [])).toBeUndefined()
  })

  it('is none if two are equally close', () => {
    expect(guessName('S1_R3.fastq.gz', ['S1_R1.fastq.gz', 'S1_R2.fastq.gz'])).toBeUndefined()
    expect(guessName('S1_R3.fastq.gz', ['S1_R1.fastq.gz', 'S1_R2.fastq.gz', 'S1_R3.fastq'])).toBeUndefined()
    expect(guessName('S1_R3.fastq.gz', ['S1_R1.fastq.gz', 'S1-R3.fastq.gz'])).toBe('S1-R3.fastq.gz')
  })
})

describe('the distance', () => {
  it('is how many letters change', () => {
    expect(editDistance('kitten', 'sitting', 10)).toBe(3)
    expect(editDistance('', 'abc', 10)).toBe(3)
    expect(editDistance('same', 'same', 0)).toBe(0)
  })

  it('is not followed beyond what matters', () => {
    expect(editDistance('kitten', 'sitting', 2)).toBe(Infinity)
    expect(editDistance('a', 'abcdef', 2)).toBe(Infinity)
  })
})
