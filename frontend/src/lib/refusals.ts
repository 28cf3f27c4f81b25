/**
 * The portal's refusals in the reader's language. A refusal tells, beside its sentence, a code and what it is about;
 * a sentence that needs anything else of the case, such as a bound or the site's own words, stays as the portal wrote it.
 */
import type { components } from '@/api/schema'
import { i18n } from '@/i18n'
import { idOf } from './ids'

interface Told {
  error_code: string
  message: string
  entity?: components['schemas']['Identifier']
}

/** The problem with its message translated; in English, and where there is no translation, as the portal wrote it. */
export function inWords<T extends Told>(problem: T): T {
  const { locale, t, te } = i18n.global
  if (locale.value === 'en') return problem
  const { error_code: code, entity } = problem
  const keys = [...(entity ? [`${code}_of`] : []), code].map((name) => `codes.refusals.${name}`)
  const key = keys.find((name) => te(name, locale.value))
  return key ? { ...problem, message: t(key, { id: entity && idOf(entity) }) } : problem
}
