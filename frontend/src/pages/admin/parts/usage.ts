/** What the site holds, as its overview says it to site admins. */
import { ApiError, call, type Id } from '@/api/client'

export interface Usage {
  months: { month: string; submissions: number; metadatasets: number; files: number; bytes: number }[]
  groups: { id: Id; name: string; bytes: number; submissions: number }[]
  openRegistrations: number
  failedJobs: number
  damagedFiles: number
  users: number
  groupCount: number
  storageBytes: number
}

/** Return the overview's part for site admins; null where the portal has none. */
export async function loadUsage(): Promise<Usage | null> {
  try {
    return ((await (await call('/overview')).json()) as { site: Usage | null }).site
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null
    throw error
  }
}
