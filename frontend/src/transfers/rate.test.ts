import { describe, expect, it } from 'vitest'
import { RateMeter } from './rate'

describe('the rate', () => {
  it('is that of the last seconds', () => {
    const meter = new RateMeter()
    for (let now = 0; now <= 30; now += 0.25) meter.add(100, now)
    expect(meter.rate(30)).toBeGreaterThan(380)
    expect(meter.rate(30)).toBeLessThan(420)
    for (let now = 30.25; now <= 60; now += 0.25) meter.add(1000, now)
    expect(meter.rate(60)).toBeGreaterThan(3800)
    expect(meter.rate(60)).toBeLessThan(4200)
  })

  it('falls while nothing moves, until nobody can say how long it takes', () => {
    const meter = new RateMeter()
    for (let now = 0; now <= 10; now += 0.5) meter.add(500, now)
    const before = meter.rate(10)
    expect(meter.rate(15)).toBeLessThan(before)
    expect(meter.remaining(1000, 15)).toBeGreaterThan(meter.remaining(1000, 10)!)
    expect(meter.rate(30)).toBe(0)
    expect(meter.remaining(1000, 30)).toBeNull()
  })

  it('is not guessed from the first bytes, nor from what was before a pause', () => {
    const meter = new RateMeter()
    meter.add(1_000_000, 0)
    expect(meter.rate(0.1)).toBe(0)
    expect(meter.rate(2)).toBe(500_000)
    meter.reset()
    expect(meter.rate(2)).toBe(0)
    meter.add(100, 100)
    expect(meter.rate(101)).toBe(100)
  })

  it('says that nothing remains', () => {
    expect(new RateMeter().remaining(0, 5)).toBe(0)
  })
})
