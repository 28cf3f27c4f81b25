import { expect, it } from 'vitest'
import { findPlace } from './reorder'

it('finds where an item is dragged to', () => {
  const middles = [10, 30, 50, 90]
  expect(findPlace(middles, 0, 5)).toBe(0)
  expect(findPlace(middles, 0, 29)).toBe(0)
  expect(findPlace(middles, 0, 31)).toBe(1)
  expect(findPlace(middles, 0, 500)).toBe(3)
  expect(findPlace(middles, 3, 31)).toBe(2)
  expect(findPlace(middles, 3, -1)).toBe(0)
  expect(findPlace(middles, 1, 30)).toBe(1)
})
