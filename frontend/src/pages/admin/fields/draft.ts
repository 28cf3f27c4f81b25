/** A field as its page edits it, and what of it goes to the portal: definition, vocabulary, refinement. */
import type { Schemas } from '@/api/client'
import type { Taken } from '@/grid/words'
import { GREATEST, LEAST } from './order'
import type { Term } from './vocabulary'

export type Definition = Schemas['MetaDatum']
export type Field = Schemas['MetaDataResponse']
export type Refinement = Schemas['Refinement']
export type MissingTerm = Refinement['missingTerms'][number]

/** What a value is. A date is a text with a format. */
export const HOLDS = ['text', 'date', 'number', 'vocabulary'] as const
export type Holds = (typeof HOLDS)[number]

export const MISSING_TERMS: MissingTerm[] = [
  'not applicable',
  'missing',
  'not collected',
  'not provided',
  'restricted access',
  'missing: control sample',
  'missing: sample group',
  'missing: synthetic construct',
  'missing: lab stock',
  'missing: third party data',
  'missing: data agreement established pre-2023',
  'missing: endangered species',
  'missing: human-identifiable',
]

/** Everything an administrator says of a field. What does not belong to `holds` is kept while the page is open. */
export interface Draft {
  name: string
  longDescription: string
  example: string
  holds: Holds
  regExp: string
  regexDescription: string
  dateTimeFmt: string
  unit: string
  minimum: string
  maximum: string
  isInteger: boolean
  isFile: boolean
  isMandatory: boolean
  isSubmissionUnique: boolean
  isSiteUnique: boolean
  missingTerms: MissingTerm[]
  /** The UUID; empty: people. */
  serviceId: string
  order: number | ''
  terms: Term[]
}

/** What is wrong with parts of a draft, in words. */
export type Faults = Partial<Record<string, string>>

export const PLAIN: Refinement = {
  kind: 'text',
  unit: '',
  minimum: null,
  maximum: null,
  isInteger: false,
  missingTerms: [],
}

const EMPTY: Omit<Definition, 'order'> = {
  name: '',
  regexDescription: '',
  longDescription: '',
  example: '',
  regExp: '',
  dateTimeFmt: '',
  isMandatory: false,
  isFile: false,
  isSubmissionUnique: false,
  isSiteUnique: false,
  serviceId: null,
}

/** A field as the portal has it; without a definition it is a new one. */
export interface Saved {
  definition: Definition | null
  refinement: Refinement
  terms: Term[]
}

export function whatHolds(dateTimeFmt: string | null, kind: Refinement['kind']): Holds {
  if (kind !== 'text') return kind
  return dateTimeFmt ? 'date' : 'text'
}

/** Return a definition as it is sent. */
export function readDefinition({ id: _, serviceId, ...field }: Field): Definition {
  return {
    ...field,
    regexDescription: field.regexDescription ?? '',
    longDescription: field.longDescription ?? '',
    example: field.example ?? '',
    regExp: field.regExp ?? '',
    dateTimeFmt: field.dateTimeFmt ?? '',
    serviceId: serviceId?.uuid ?? null,
  }
}

/** Return what is to be edited; `order` is for a new field. */
export function readDraft({ definition, refinement, terms }: Saved, order = 0): Draft {
  const { serviceId, ...rest } = definition ?? { ...EMPTY, order }
  return {
    ...rest,
    serviceId: serviceId ?? '',
    holds: whatHolds(rest.dateTimeFmt, refinement.kind),
    unit: refinement.unit,
    minimum: refinement.minimum ?? '',
    maximum: refinement.maximum ?? '',
    isInteger: refinement.isInteger,
    missingTerms: [...refinement.missingTerms],
    terms: terms.map(({ term, synonyms }) => ({ term, synonyms: [...synonyms] })),
  }
}

export function toDefinition(draft: Draft): Definition {
  return {
    name: draft.name,
    regexDescription: draft.regexDescription,
    longDescription: draft.longDescription,
    example: draft.example,
    regExp: draft.regExp,
    dateTimeFmt: draft.holds === 'date' ? draft.dateTimeFmt : '',
    isMandatory: draft.isMandatory,
    order: Number(draft.order),
    isFile: draft.isFile,
    isSubmissionUnique: draft.isSubmissionUnique,
    isSiteUnique: draft.isSiteUnique,
    serviceId: draft.serviceId || null,
  }
}

export function toRefinement(draft: Draft): Refinement {
  const isNumber = draft.holds === 'number'
  return {
    kind: draft.holds === 'date' ? 'text' : draft.holds,
    unit: isNumber ? draft.unit.trim() : '',
    minimum: (isNumber && draft.minimum.trim()) || null,
    maximum: (isNumber && draft.maximum.trim()) || null,
    isInteger: isNumber && draft.isInteger,
    // In the list's order, so that ticking a term on and off changes nothing.
    missingTerms: MISSING_TERMS.filter((term) => draft.missingTerms.includes(term)),
  }
}

/** What a field takes, for those who are told why a value is refused. */
export function readTaken(draft: Draft): Taken {
  const { holds, missingTerms, example, dateTimeFmt, unit, minimum, maximum, terms } = draft
  const isNumber = holds === 'number'
  return {
    missingTerms,
    example,
    words: holds === 'vocabulary' ? terms.map(({ term }) => term) : [],
    dateFormat: holds === 'date' ? dateTimeFmt : '',
    unit: isNumber ? unit : '',
    minimum: (isNumber && minimum.trim()) || null,
    maximum: (isNumber && maximum.trim()) || null,
  }
}

/** Return what can't even be sent, by property, as keys of `adminfields.faults`. */
export function checkDraft(draft: Draft): Partial<Record<keyof Draft, string>> {
  const faults: Partial<Record<keyof Draft, string>> = {}
  if (draft.order === '' || !Number.isInteger(draft.order) || draft.order < LEAST || draft.order > GREATEST)
    faults.order = 'order'
  if (draft.holds === 'date' && !draft.dateTimeFmt.trim()) faults.dateTimeFmt = 'dateFormat'
  if (draft.holds === 'vocabulary' && !draft.terms.length) faults.terms = 'noWords'
  if (draft.holds === 'number')
    for (const name of ['minimum', 'maximum'] as const) {
      const text = draft[name].trim()
      if (text && !/^-?[0-9]+([.][0-9]+)?$/.test(text)) faults[name] = 'decimal'
    }
  return faults
}

export type Step = 'definition' | 'vocabulary' | 'refinement'

const differ = (one: unknown, other: unknown) => JSON.stringify(one) !== JSON.stringify(other)

/** Return which parts of a field are not as they are saved. */
export function listChanges(saved: Saved, draft: Draft): Set<Step> {
  const former = readDraft(saved)
  const changes = new Set<Step>()
  if (!saved.definition || differ(toDefinition(former), toDefinition(draft))) changes.add('definition')
  if (differ(toRefinement(former), toRefinement(draft))) changes.add('refinement')
  if (draft.holds === 'vocabulary' && differ(former.terms, draft.terms)) changes.add('vocabulary')
  return changes
}

/**
 * Return the calls that save what has changed, in an order in which none of them contradicts what is there:
 * a date format goes before numbers or words come, and the other way round; words come before they are demanded.
 */
export function planSaving(saved: Saved, draft: Draft): Step[] {
  const isDateLast = saved.definition !== null && draft.holds === 'date'
  const order: Step[] = isDateLast ? ['refinement', 'definition'] : ['definition', 'vocabulary', 'refinement']
  const changes = listChanges(saved, draft)
  return order.filter((step) => changes.has(step))
}

/** Return what is saved after a step. */
export function takeStep(saved: Saved, draft: Draft, step: Step): Saved {
  if (step === 'definition') return { ...saved, definition: toDefinition(draft) }
  if (step === 'refinement') return { ...saved, refinement: toRefinement(draft) }
  return { ...saved, terms: readDraft({ ...saved, terms: draft.terms }).terms }
}
