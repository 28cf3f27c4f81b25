/**
 * The portal's refusals in the reader's language: by the sentence, with the values that it tells, or else by its code
 * and what it is about. What is neither stays as it was written: the site's own words.
 */
import type { components } from '@/api/schema'
import { i18n } from '@/i18n'
import { idOf } from './ids'

interface Told {
  error_code: string
  message: string
  entity?: components['schemas']['Identifier']
}

/** The problem with its message translated; in English as the portal wrote it. */
export function inWords<T extends Told>(problem: T): T {
  const { locale, t, te } = i18n.global
  if (locale.value === 'en') return problem
  const said = sayAgain(problem.message)
  if (said !== undefined) return { ...problem, message: said }
  const { error_code: code, entity } = problem
  const keys = [...(entity ? [`${code}_of`] : []), code].map((name) => `codes.refusals.${name}`)
  const key = keys.find((name) => te(name, locale.value))
  return key ? { ...problem, message: t(key, { id: entity && idOf(entity) }) } : problem
}

type Sentences = Readonly<Record<string, string>>
type Pattern = [pattern: RegExp, translation: string]
let sentences: Sentences = {}
let patterns: Pattern[] = []

/** Take the portal's sentences and what they are in the reader's language, each with `{names}` for its values. */
export function learnSentences(learned: Sentences): void {
  sentences = learned
  patterns = Object.entries(learned)
    .filter(([sentence]) => sentence.includes('{'))
    .map(([sentence, translation]) => [toPattern(sentence), translation])
}

/** A sentence in the reader's language, and so each value that is one, or part of one; undefined: it is not known. */
export function sayAgain(sentence: string): string | undefined {
  if (Object.hasOwn(sentences, sentence)) return sentences[sentence]
  for (const [pattern, translation] of patterns) {
    const values = pattern.exec(sentence)?.groups
    if (values)
      return translation.replace(/\{(\w+)\}/g, (_, name) => sayAgain(values[name]!) ?? values[name]!)
  }
  return undefined
}

function toPattern(sentence: string): RegExp {
  const parts = sentence.split(/\{(\w+)\}/)
  const quoted = parts.map((part, at) =>
    at % 2 ? `(?<${part}>.+?)` : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
  )
  return new RegExp(`^${quoted.join('')}$`, 's')
}
