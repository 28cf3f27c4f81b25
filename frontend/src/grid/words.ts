/** What was found, in the reader's language: by its code, or as the portal says it, which may be the site's own text. */
import { i18n, t } from '@/i18n'
import { inWords } from '@/lib/refusals'
import type { FieldColumn } from './columns'
import type { Found } from './model'

/** What of a field the words need. */
export type Taken = Pick<
  FieldColumn,
  'missingTerms' | 'words' | 'example' | 'dateFormat' | 'unit' | 'minimum' | 'maximum'
>

/** As the portal says it, in the reader's language. */
const say = ({ code, message }: Pick<Found, 'code' | 'message'>) =>
  inWords({ error_code: code, message }).message
const join = (words: readonly string[]) => words.map((word) => t('submit.quoted', { word })).join(', ')

export function describe(found: Pick<Found, 'code' | 'message'> & Partial<Found>, column?: Taken): string {
  let code = found.code
  if (code === 'mandatory_missing' && column?.missingTerms.length) code += '_terms'
  if (code === 'not_in_vocabulary' && !found.suggestion && (column?.words.length ?? 99) <= 10)
    code += '_words'
  if (code === 'date_mismatch' && !column?.example) code = ''
  if (code === 'not_a_number' && column?.unit) code += '_unit'
  if (code === 'out_of_bounds' && column) {
    if (column.minimum === null) code += '_most'
    if (column.maximum === null) code += '_least'
  }
  const key = `submit.found.${code}`
  if (!code || !i18n.global.te(key as never, 'en' as never)) return say(found)
  return t(key, {
    format: column?.dateFormat,
    example: column?.example,
    terms: join(column?.missingTerms ?? []),
    words: join(column?.words ?? []),
    unit: column?.unit,
    minimum: column?.minimum,
    maximum: column?.maximum,
    suggestion: found.suggestion,
  })
}

/** What is wrong with a value that is tried: the portal's own English may have more in it, as a word that was meant. */
export function describeProblem(problem: Pick<Found, 'code' | 'message'>, column?: Taken): string {
  return i18n.global.locale.value === 'en' || !column ? say(problem) : describe(problem, column)
}

/** What a field takes, in a line each. */
export function describeColumn(column: FieldColumn): string[] {
  const { unit, minimum, maximum, words } = column
  return [
    column.description,
    column.rule,
    column.isNumber ? t(column.isInteger ? 'submit.rule.integer' : 'submit.rule.number') : '',
    unit ? t('submit.rule.unit', { unit }) : '',
    minimum !== null ? t('submit.rule.minimum', { minimum }) : '',
    maximum !== null ? t('submit.rule.maximum', { maximum }) : '',
    column.dateFormat ? t('submit.rule.date', { format: column.dateFormat }) : '',
    words.length ? t('submit.rule.words', { count: words.length }, words.length) : '',
    column.isFile ? t('submit.rule.file') : '',
    column.isUnique ? t('submit.rule.unique') : '',
    column.missingTerms.length ? t('submit.rule.terms', { terms: join(column.missingTerms) }) : '',
    column.example ? t('submit.rule.example', { example: column.example }) : '',
  ].filter(Boolean)
}
