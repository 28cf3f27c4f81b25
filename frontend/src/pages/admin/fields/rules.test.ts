import { expect, it } from 'vitest'
import { cleanCondition, findFaults, isWholeRule, sendRule } from './rules'

const age = { field: 'Age', operator: 'is_filled' as const, values: [], otherField: null }

it('sends no more than an operator takes', () => {
  const all = { field: 'A', values: ['x'], otherField: 'B' }
  expect(cleanCondition({ ...all, operator: 'is' })).toEqual({ ...all, operator: 'is', otherField: null })
  expect(cleanCondition({ ...all, operator: 'at_most' })).toEqual({ ...all, operator: 'at_most', values: [] })
  expect(cleanCondition({ ...all, operator: 'is_empty' })).toEqual({
    field: 'A',
    operator: 'is_empty',
    values: [],
    otherField: null,
  })
  expect(cleanCondition({ field: 'A', operator: 'is' }).values).toEqual([])
})

it('says the sentence where there is no message', () => {
  expect(sendRule({ message: ' ', when: [], then: [age] }, 'Age is required.').message).toBe(
    'Age is required.',
  )
  expect(sendRule({ message: ' Why. ', when: [], then: [age] }, 'Age is required.').message).toBe('Why.')
  expect(sendRule({ message: '', when: [], then: [age] }, 'x'.repeat(2000)).message).toHaveLength(1000)
})

it('knows what is missing in a rule', () => {
  expect(isWholeRule({ message: '', when: [], then: [age] })).toBe(true)
  expect(isWholeRule({ message: '', when: [], then: [] })).toBe(false)
  expect(isWholeRule({ message: '', when: [{ field: '', operator: 'is_filled' }], then: [age] })).toBe(false)
})

it('finds what is said of one rule', () => {
  const problems = [
    { field: 'rules/1/when/0/values', message: 'a' },
    { field: 'rules/10/then', message: 'b' },
    { field: null, message: 'c' },
  ]
  expect([...findFaults(problems, 1)]).toEqual([['when/0/values', 'a']])
  expect([...findFaults(problems, 10)]).toEqual([['then', 'b']])
  expect(findFaults(problems, 0).size).toBe(0)
})
