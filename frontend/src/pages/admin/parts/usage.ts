/** What the site holds, as its overview says it to site admins. */
import { api, type Schemas } from '@/api/client'

export type Usage = Schemas['SiteOverview']

/** Return the overview's part for site admins. */
export async function loadUsage(): Promise<Usage | null> {
  return (await api.GET('/overview')).data!.site
}
