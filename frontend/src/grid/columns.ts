/** The columns of a sheet: the site's fields that people fill, with what refines them. */
import { api, type Id } from '@/api/client'
import type { Column } from './model'

export interface FieldColumn extends Column {
  readonly id: Id
  readonly description: string
  /** What the field's expression asks for, in words. */
  readonly rule: string
  readonly example: string
  readonly dateFormat: string
  readonly isNumber: boolean
  readonly isInteger: boolean
  readonly unit: string
  readonly minimum: string | null
  readonly maximum: string | null
}

export async function loadColumns(): Promise<FieldColumn[]> {
  const { data } = await api.GET('/metadata')
  return await Promise.all(
    data!
      .filter((field) => !field.serviceId)
      .map(async (field) => {
        const params = { path: { id: field.id.uuid } }
        const { data: refinement } = await api.GET('/metadata/{id}/refinement', { params })
        const { kind, isInteger, unit, minimum, maximum, missingTerms } = refinement!
        const vocabulary =
          kind === 'vocabulary' ? await api.GET('/metadata/{id}/vocabulary', { params }) : undefined
        return {
          id: field.id,
          name: field.name,
          isMandatory: field.isMandatory,
          isFile: field.isFile,
          isUnique: field.isSiteUnique || field.isSubmissionUnique,
          words: vocabulary?.data!.terms.map((term) => term.term) ?? [],
          missingTerms,
          description: field.longDescription ?? '',
          rule: field.regexDescription ?? '',
          example: field.example ?? '',
          dateFormat: field.dateTimeFmt ?? '',
          isNumber: kind === 'number',
          isInteger,
          unit,
          minimum,
          maximum,
        }
      }),
  )
}
