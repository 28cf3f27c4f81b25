/** The portal's refusals in the reader's language, where a sentence says it without the values of the case. */
import { i18n } from '@/i18n'

interface Told {
  error_code: string
  message: string
}

/** The problem with its message translated; in English, and where there is no translation, as the portal wrote it. */
export function inWords<T extends Told>(problem: T): T {
  const key = `codes.refusals.${problem.error_code}`
  const { locale, t, te } = i18n.global
  if (locale.value === 'en' || !te(key, locale.value)) return problem
  return { ...problem, message: t(key) }
}
