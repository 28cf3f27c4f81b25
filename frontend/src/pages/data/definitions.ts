/** The site's fields and the names of its services, as far as the reader may know them. */
import { api, type Schemas } from '@/api/client'
import { t } from '@/i18n'
import { idOf } from '@/lib/ids'
import { current } from '@/session'

export type Field = Schemas['MetaDataResponse']
export type Found = Schemas['FoundMetaDataSet']
export type MetaDataSet = Schemas['MetaDataSetResponse']
export type Execution = Schemas['MetaDataSetServiceExecution']

export interface Service {
  id: string
  /** Told by its fields for those who may not know its name. */
  name: string
  isNamed: boolean
  fields: string[]
}

export async function loadFields(): Promise<Field[]> {
  return (await api.GET('/metadata')).data!
}

/** The services that fill fields. Only admins may list services; others know the names of those that answered lately. */
export async function loadServices(fields: Field[]): Promise<Service[]> {
  const filled = fields.filter((field) => field.serviceId !== null)
  if (!filled.length) return []
  const known = current.user?.siteAdmin
    ? (await api.GET('/services')).data!
    : (await api.GET('/overview')).data!.lastAnswers.map((answer) => answer.service)
  const names = new Map(known.map(({ id, name }) => [id.uuid, name]))
  const services = new Map<string, Service>()
  for (const { name, serviceId } of filled) {
    const { uuid } = serviceId!
    const named = names.get(uuid)
    const service: Service = services.get(uuid) ?? {
      id: idOf(serviceId!),
      name: named ?? '',
      isNamed: named !== undefined,
      fields: [],
    }
    service.fields.push(name)
    if (!service.isNamed) service.name = t('data.serviceOf', { fields: service.fields.join(', ') })
    services.set(uuid, service)
  }
  return [...services.values()]
}

/** The fields whose values the reader sees: those of services only if an answer has them, or by site read. */
export function visibleFields(fields: Field[], sample: MetaDataSet | undefined): Field[] {
  const answered = sample?.serviceExecutions ?? {}
  return fields.filter(
    (field) => field.serviceId === null || current.user?.siteRead || field.name in answered,
  )
}
