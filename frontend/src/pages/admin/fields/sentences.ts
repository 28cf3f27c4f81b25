/** A rule between fields as a sentence, and what its conditions may say. */
import type { Schemas } from '@/api/client'
import { i18n } from '@/i18n'

export type Rule = Schemas['RecordRule']
export type Condition = Schemas['Condition']
export type Operator = Condition['operator']

export const OPERATORS = [
  'is_filled',
  'is_empty',
  'is',
  'is_not',
  'same_as',
  'other_than',
  'less_than',
  'at_most',
  'at_least',
  'more_than',
] as const satisfies readonly Operator[]

export const needsWords = (operator: Operator) => operator === 'is' || operator === 'is_not'
export const needsOther = (operator: Operator) =>
  !needsWords(operator) && operator !== 'is_filled' && operator !== 'is_empty'
export const needsOrder = (operator: Operator) =>
  needsOther(operator) && operator !== 'same_as' && operator !== 'other_than'

/** What a rule has to know of a field. */
export interface Bound {
  name: string
  dateTimeFmt: string
  kind: 'text' | 'number' | 'vocabulary'
  unit: string
}

/** Say whether two fields have an order: both dates, with or both without a time zone, or numbers of one unit. */
export function areComparable(field: Bound, other: Bound): boolean {
  if (field.dateTimeFmt && other.dateTimeFmt)
    return field.dateTimeFmt.includes('%z') === other.dateTimeFmt.includes('%z')
  return field.kind === 'number' && other.kind === 'number' && field.unit === other.unit
}

/** Say whether nothing is missing in a condition. */
export function isWhole(condition: Condition): boolean {
  if (!condition.field) return false
  if (needsWords(condition.operator)) return Boolean(condition.values?.length)
  return !needsOther(condition.operator) || Boolean(condition.otherField)
}

/** The names of the fields that a rule is about. */
export const listFields = ({ when, then }: Rule): string[] =>
  [...when, ...then].flatMap(({ field, otherField }) => [field, ...(otherField ? [otherField] : [])])

/** A part of a sentence; names of fields and words are set off. */
export interface Part {
  text: string
  kind: 'plain' | 'field' | 'word'
}

const MARKS = { field: ['\uE000', '\uE001'], word: ['\uE002', '\uE003'] } as const
const mark = (kind: keyof typeof MARKS, text: string) =>
  MARKS[kind].join(text.replace(/[\uE000-\uE003]/g, ''))

type Translate = (key: string, values: Record<string, unknown>) => string

/** Write a rule as a sentence in parts; `isDate` says whether a field holds dates, which are before and after. */
export function writeRule(
  rule: Pick<Rule, 'when' | 'then'>,
  t: Translate,
  isDate: (name: string) => boolean,
): Part[] {
  const locale = i18n.global.locale.value as string
  const join = (words: string[], type: 'conjunction' | 'disjunction') =>
    new Intl.ListFormat(locale, { type }).format(words)
  const write = (form: string) => (condition: Condition) => {
    const { field, operator } = condition
    const way = needsOrder(operator) && isDate(field) ? `${operator}_date` : operator
    return t(`adminfields.sentence.${form}.${way}`, {
      field: mark('field', field || '…'),
      words: join(
        (condition.values ?? []).map((word) => mark('word', word)),
        'disjunction',
      ),
      other: mark('field', condition.otherField || '…'),
    })
  }
  const when = join(rule.when.map(write('if')), 'conjunction')
  const then = join(rule.then.map(write(when ? 'then' : 'always')), 'conjunction')
  const key = when ? 'adminfields.sentence.rule' : 'adminfields.sentence.always.rule'
  return split(t(key, { when, then }))
}

export const plainText = (parts: readonly Part[]) => parts.map(({ text }) => text).join('')

function split(sentence: string): Part[] {
  return sentence
    .split(/(\uE000[^\uE001]*\uE001|\uE002[^\uE003]*\uE003)/)
    .filter(Boolean)
    .map((text) => {
      if (text.startsWith(MARKS.field[0])) return { text: text.slice(1, -1), kind: 'field' }
      if (text.startsWith(MARKS.word[0])) return { text: text.slice(1, -1), kind: 'word' }
      return { text, kind: 'plain' }
    })
}
