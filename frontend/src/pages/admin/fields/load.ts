/** What the pages of fields and rules ask the portal for. */
import { api, type Schemas } from '@/api/client'
import type { Field, Refinement } from './draft'

export async function loadFields(): Promise<Field[]> {
  return (await api.GET('/metadata')).data!
}

/** Load what refines fields, by their UUIDs. */
export async function loadRefinements(
  fields: readonly Field[],
): Promise<Map<string, Schemas['RefinementResponse']>> {
  const found = await Promise.all(fields.map(({ id }) => loadRefinement(id.uuid)))
  return new Map(found.map((refinement) => [refinement.metadatumId.uuid, refinement]))
}

export async function loadRefinement(id: string): Promise<Schemas['RefinementResponse']> {
  return (await api.GET('/metadata/{id}/refinement', { params: { path: { id } } })).data!
}

/** Return a refinement as it is sent. */
export function readRefinement(refinement: Schemas['RefinementResponse']): Refinement {
  const { kind, unit, minimum, maximum, isInteger, missingTerms } = refinement
  return { kind, unit, minimum, maximum, isInteger, missingTerms }
}

export async function loadTerms(id: string) {
  const { terms } = (await api.GET('/metadata/{id}/vocabulary', { params: { path: { id } } })).data!
  return terms.map(({ term, synonyms }) => ({ term, synonyms: synonyms ?? [] }))
}

export async function loadServices(): Promise<Schemas['ServiceResponse'][]> {
  return (await api.GET('/services')).data!
}

/** How many staged metadatasets an answer says are refused. */
export const readAffected = (response: Response) => Number(response.headers.get('DataMeta-Affected') ?? 0)
