import { describe, expect, it } from 'vitest'
import { countAhead, countParts, isTimeToAsk, partLength, partSpan } from './plan'

const MIB = 2 ** 20

describe('parts', () => {
  it('cover the file without gap or overlap', () => {
    for (const size of [1, 16 * MIB, 16 * MIB + 1, 100 * MIB - 1, 5 * 2 ** 40]) {
      const plan = { size, partSize: Math.max(16 * MIB, Math.ceil(size / (2000 * MIB)) * MIB) }
      let end = 0
      for (let number = 1; number <= countParts(plan); number++) {
        const span = partSpan(plan, number)
        expect(span.start).toBe(end)
        expect(partLength(plan, number)).toBeGreaterThan(0)
        end = span.end
      }
      expect(end).toBe(size)
    }
  })

  it('of an empty file are one, empty', () => {
    const plan = { size: 0, partSize: 16 * MIB }
    expect(countParts(plan)).toBe(1)
    expect(partLength(plan, 1)).toBe(0)
  })
})

describe('what is hashed ahead', () => {
  it('is always more than travels at once, and never much more than the disk keeps in memory', () => {
    expect(countAhead(16 * MIB, 4)).toBe(12)
    expect(countAhead(64 * MIB, 4)).toBe(5)
    expect(countAhead(2 ** 31, 4)).toBe(5)
  })
})

describe('addresses are asked for', () => {
  it('at once while nothing could be sent, else several at a time, and never for nothing', () => {
    expect(isTimeToAsk(1, 0, 4, false)).toBe(true)
    expect(isTimeToAsk(7, 4, 4, false)).toBe(false)
    expect(isTimeToAsk(8, 4, 4, false)).toBe(true)
    expect(isTimeToAsk(1, 4, 4, true)).toBe(true)
    expect(isTimeToAsk(0, 0, 4, true)).toBe(false)
  })

  it('before the hashing has to wait for room', () => {
    // Hashed, addressed and travelling fill the room: one of them must then be able to go on.
    const [ahead, lanes] = [countAhead(16 * MIB, 4), 4]
    for (let addressed = 0; addressed <= ahead - lanes; addressed++) {
      const hashed = ahead - lanes - addressed
      expect(addressed >= lanes || hashed === 0 || isTimeToAsk(hashed, addressed, lanes, false)).toBe(true)
    }
  })
})
