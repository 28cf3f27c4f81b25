/** Rules between fields as their page edits them. */
import { isWhole, needsOther, needsWords, type Bound, type Condition, type Rule } from './sentences'

/** A field that people fill, which rules may bind. */
export interface BoundField extends Bound {
  id: string
  missingTerms: string[]
}

/** A rule with a number of its own, by which the page knows it wherever it stands. */
export interface EditedRule extends Rule {
  key: number
}

export const MAX_MESSAGE = 1000

export const isWholeRule = (rule: Rule) => rule.then.length > 0 && [...rule.when, ...rule.then].every(isWhole)

/** Return a condition without what its operator does not take. */
export function cleanCondition({ field, operator, values, otherField }: Condition): Condition {
  return {
    field,
    operator,
    values: needsWords(operator) ? (values ?? []) : [],
    otherField: needsOther(operator) ? (otherField ?? null) : null,
  }
}

/** Return a rule as it is sent; without a message of its own, it is told by its sentence. */
export function sendRule(rule: Rule, sentence: string): Rule {
  return {
    message: rule.message.trim() || sentence.slice(0, MAX_MESSAGE),
    when: rule.when.map(cleanCondition),
    then: rule.then.map(cleanCondition),
  }
}

/** What the portal said of one rule: `rules/2/when/0/values` is about the values of its first condition. */
export function findFaults(problems: readonly { field?: string | null; message: string }[], number: number) {
  const prefix = `rules/${number}/`
  const faults = new Map<string, string>()
  for (const { field, message } of problems)
    if (field?.startsWith(prefix)) faults.set(field.slice(prefix.length), message)
  return faults
}
