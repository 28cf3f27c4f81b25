import { expect, test } from 'vitest'
import { contrast, isColour } from './colour'

test('what a colour is', () => {
  expect(isColour('#0a7D5c')).toBe(true)
  for (const text of ['', '0a7d5c', '#fff', '#0a7d5g', '#0a7d5c ']) expect(isColour(text)).toBe(false)
})

test('contrast as WCAG counts it', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21)
  expect(contrast('#ffffff', '#ffffff')).toBeCloseTo(1)
  // https://webaim.org/resources/contrastchecker/ says 4.48 for this grey.
  expect(contrast('#777777', '#ffffff')).toBeCloseTo(4.48, 2)
  expect(contrast('#ffffff', '#777777')).toBeCloseTo(4.48, 2)
})
