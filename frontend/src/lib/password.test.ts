import { expect, test } from 'vitest'
import { findWords, isGood, judgePassword } from './password'

const WORDS = findWords('lena.lab@demo.example'.split('@')[0]!, 'Demo Lab North', 'DataMeta')

test('words of the account have four characters at least', () => {
  expect(WORDS).toEqual(['lena', 'demo', 'north', 'datameta'])
})

test.each([
  ['seven purple herons rest', true],
  ['short', false],
  ['exactly 15 char', true],
  // 14 characters in 28 units of UTF-16, and 15 in one form that are 16 in another.
  ['😀'.repeat(2) + 'a b c d e f ', false],
  ['u\u0308bung macht al', false],
  ['u\u0308bung macht all', true],
  ['aaaaaaaaaaaaaaaaaa', false],
  ['abc1abc1abc1abc1', false],
  ['abcdefghijklmnopqrst', false],
  ['Lena at Demo North', false],
  ['Lena rows seven boats home', true],
])('%s', (password, good) => {
  expect(isGood(judgePassword(password, 15, WORDS))).toBe(good)
})

test('words count only if the password is too short without them', () => {
  expect(judgePassword('my DataMeta north 1', 15, WORDS).guessable).toEqual(['datameta', 'north'])
  expect(judgePassword('my DataMeta grows and grows', 15, WORDS).guessable).toEqual([])
})
