import { describe, expect, it } from 'vitest'
import type { Draft, Saved, Step } from './draft'
import * as drafts from './draft'

const { checkDraft, listChanges, PLAIN, planSaving, readDefinition, readDraft, takeStep } = drafts

const NEW: Saved = { definition: null, refinement: PLAIN, terms: [] }
const WORDS = [{ term: 'a', synonyms: ['b'] }]

function make(change: Partial<Draft>): Draft {
  return { ...readDraft(NEW, 100), name: 'Field', ...change }
}

/** Save by the plan; each step must agree with what is there, as the portal demands. */
function save(saved: Saved, draft: Draft): Step[] {
  const steps = planSaving(saved, draft)
  for (const step of steps) {
    saved = takeStep(saved, draft, step)
    const { definition, refinement, terms } = saved
    expect(definition).not.toBeNull()
    expect(definition!.dateTimeFmt && refinement.kind !== 'text').toBeFalsy()
    expect(refinement.kind === 'vocabulary' && !terms.length).toBe(false)
  }
  expect(listChanges(saved, draft).size).toBe(0)
  return steps
}

function saveNew(draft: Draft): Saved {
  return planSaving(NEW, draft).reduce((saved, step) => takeStep(saved, draft, step), NEW)
}

const HELD: Record<string, Draft> = {
  text: make({ holds: 'text', regExp: '[0-9]+' }),
  date: make({ holds: 'date', dateTimeFmt: '%Y', missingTerms: ['missing'] }),
  number: make({ holds: 'number', minimum: '1', unit: 'ng' }),
  vocabulary: make({ holds: 'vocabulary', terms: WORDS }),
}

describe('planSaving', () => {
  it('saves a new field of each kind', () => {
    expect(save(NEW, HELD.text!)).toEqual(['definition'])
    expect(save(NEW, HELD.date!)).toEqual(['definition', 'refinement'])
    expect(save(NEW, HELD.number!)).toEqual(['definition', 'refinement'])
    expect(save(NEW, HELD.vocabulary!)).toEqual(['definition', 'vocabulary', 'refinement'])
  })

  it('makes one kind of another without contradicting itself', () => {
    for (const from of Object.values(HELD))
      for (const to of Object.values(HELD)) if (from !== to) save(saveNew(from), { ...to, name: 'Other' })
  })

  it('saves nothing where nothing has changed', () => {
    for (const draft of Object.values(HELD)) expect(planSaving(saveNew(draft), draft)).toEqual([])
  })

  it('says what is not saved yet after a step', () => {
    const saved = takeStep(NEW, HELD.number!, 'definition')
    expect([...listChanges(saved, HELD.number!)]).toEqual(['refinement'])
  })
})

describe('a draft', () => {
  it('does not send what belongs to another kind', () => {
    const draft = make({ holds: 'number', dateTimeFmt: '%Y', unit: ' ng ', minimum: '0', terms: WORDS })
    expect(drafts.toDefinition(draft).dateTimeFmt).toBe('')
    expect(drafts.toRefinement(draft)).toMatchObject({
      kind: 'number',
      unit: 'ng',
      minimum: '0',
      maximum: null,
    })
    expect(drafts.toRefinement({ ...draft, holds: 'date' })).toEqual(PLAIN)
    expect(listChanges(NEW, draft).has('vocabulary')).toBe(false)
  })

  it('is not changed by what is only written otherwise', () => {
    const saved: Saved = {
      definition: drafts.toDefinition(make({ regexDescription: 'Digits.' })),
      refinement: { ...PLAIN, missingTerms: ['not collected', 'missing'] },
      terms: [],
    }
    const draft = readDraft(saved)
    expect(listChanges(saved, draft).size).toBe(0)
    draft.missingTerms = ['missing', 'not collected']
    expect(listChanges(saved, draft).size).toBe(0)
    draft.missingTerms.pop()
    expect([...listChanges(saved, draft)]).toEqual(['refinement'])
  })

  it('says what can not be sent', () => {
    expect(Object.values(HELD).map(checkDraft)).toEqual([{}, {}, {}, {}])
    expect(checkDraft(make({ order: '' }))).toEqual({ order: 'order' })
    expect(checkDraft(make({ order: 1.5 }))).toEqual({ order: 'order' })
    expect(checkDraft(make({ order: 2 ** 31 }))).toEqual({ order: 'order' })
    expect(checkDraft(make({ holds: 'number', minimum: '0,5', maximum: '1e3' }))).toEqual({
      minimum: 'decimal',
      maximum: 'decimal',
    })
    expect(checkDraft(make({ minimum: '0,5' }))).toEqual({})
    expect(checkDraft(make({ holds: 'date' }))).toEqual({ dateTimeFmt: 'dateFormat' })
    expect(checkDraft(make({ holds: 'vocabulary' }))).toEqual({ terms: 'noWords' })
  })
})

it('sends a definition as it came', () => {
  const { serviceId: _, ...rest } = drafts.toDefinition(HELD.date!)
  const field = {
    ...rest,
    id: { uuid: '1' },
    serviceId: { uuid: '2', site: 'S' },
    regExp: null,
    isMandatory: true,
  }
  expect(readDefinition(field)).toEqual({ ...rest, serviceId: '2', regExp: '', isMandatory: true })
})
