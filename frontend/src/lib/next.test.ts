import { expect, test } from 'vitest'
import { ownPath } from './next'

test.each([
  ['/data?q=x', '/data?q=x'],
  ['/', '/'],
  ['//elsewhere.example', '/'],
  ['/\\elsewhere.example', '/'],
  ['https://elsewhere.example', '/'],
  [['/a', '/b'], '/'],
  [undefined, '/'],
])('%s leads to %s', (wanted, path) => {
  expect(ownPath(wanted)).toBe(path)
})

test('elsewhere, another page can be the next', () => {
  expect(ownPath(undefined, '/account')).toBe('/account')
})
