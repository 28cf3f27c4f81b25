import { afterEach, describe, expect, it } from 'vitest'
import { i18n, setLocale } from '@/i18n'
import de from '@/locales/de/adminfields.json'
import en from '@/locales/en/adminfields.json'
import {
  areComparable,
  isWhole,
  needsOrder,
  OPERATORS,
  plainText,
  writeRule,
  type Condition,
  type Rule,
} from './sentences'

const t = (key: string, values: Record<string, unknown>) => i18n.global.t(key, values)
const isDate = (name: string) => name.endsWith('date')
const condition = (field: string, operator: Condition['operator'], ...values: string[]): Condition => ({
  field,
  operator,
  values,
  otherField: null,
})
const compare = (field: string, operator: Condition['operator'], otherField: string): Condition => ({
  field,
  operator,
  values: [],
  otherField,
})
const say = (when: Condition[], then: Condition[]) => plainText(writeRule({ when, then }, t, isDate))

afterEach(() => setLocale('en'))

describe('writeRule', () => {
  const human = condition('Host', 'is', 'human')
  const age = condition('Age', 'is_filled')
  const dates = compare('Receipt date', 'at_least', 'Sampling date')

  it('says a rule in English', () => {
    expect(say([human], [age])).toBe('If Host is human, Age is required.')
    expect(say([], [dates])).toBe('Receipt date must not be before Sampling date.')
    expect(say([condition('Host', 'is_not', 'a', 'b'), age], [condition('Code', 'is_empty')])).toBe(
      'If Host is not a or b and Age has a value, Code must be empty.',
    )
    expect(say([], [compare('Amount', 'less_than', 'Most')])).toBe('Amount must be less than Most.')
  })

  it('says a rule in German', async () => {
    await setLocale('de')
    expect(say([human], [age])).toBe('Wenn Host human ist, ist Age Pflicht.')
    expect(say([human], [dates, age])).toBe(
      'Wenn Host human ist, darf Receipt date nicht vor Sampling date liegen und ist Age Pflicht.',
    )
    expect(say([], [dates])).toBe('Receipt date darf nicht vor Sampling date liegen.')
  })

  it('sets off fields and words, whatever is in them', () => {
    const rule: Pick<Rule, 'when' | 'then'> = { when: [condition('A, {B} @c | d', 'is', 'x')], then: [age] }
    expect(writeRule(rule, t, isDate)).toEqual([
      { text: 'If ', kind: 'plain' },
      { text: 'A, {B} @c | d', kind: 'field' },
      { text: ' is ', kind: 'plain' },
      { text: 'x', kind: 'word' },
      { text: ', ', kind: 'plain' },
      { text: 'Age', kind: 'field' },
      { text: ' is required.', kind: 'plain' },
    ])
  })

  it('has a text for every operator, of dates too', () => {
    for (const texts of [en, de])
      for (const operator of OPERATORS)
        for (const key of needsOrder(operator) ? [operator, `${operator}_date`] : [operator])
          for (const form of [texts.operators, texts.sentence.if, texts.sentence.then, texts.sentence.always])
            expect(form).toHaveProperty(key)
  })
})

it('knows what has an order', () => {
  const field = (change: object) => ({
    name: 'x',
    dateTimeFmt: '',
    kind: 'text' as const,
    unit: '',
    ...change,
  })
  const number = { kind: 'number' as const }
  expect(areComparable(field({ dateTimeFmt: '%Y' }), field({ dateTimeFmt: '%d.%m.%Y' }))).toBe(true)
  expect(areComparable(field({ dateTimeFmt: '%Y%z' }), field({ dateTimeFmt: '%Y' }))).toBe(false)
  expect(areComparable(field(number), field(number))).toBe(true)
  expect(areComparable(field(number), field({ ...number, unit: 'ng' }))).toBe(false)
  expect(areComparable(field(number), field({ dateTimeFmt: '%Y' }))).toBe(false)
  expect(areComparable(field({}), field({}))).toBe(false)
})

it('knows what is missing in a condition', () => {
  expect(isWhole(condition('', 'is_filled'))).toBe(false)
  expect(isWhole(condition('A', 'is_filled'))).toBe(true)
  expect(isWhole(condition('A', 'is'))).toBe(false)
  expect(isWhole(condition('A', 'is', 'x'))).toBe(true)
  expect(isWhole(compare('A', 'at_most', ''))).toBe(false)
  expect(isWhole(compare('A', 'at_most', 'B'))).toBe(true)
})
