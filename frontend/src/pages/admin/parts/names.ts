/** Names of people and groups by their ids, fetched when they are first wanted. */
import { reactive } from 'vue'
import { api, ApiError, type Id } from '@/api/client'

const names = reactive(new Map<string, string>())
const asked = new Set<string>()

/** Return a user's name; until it is known, and for one who can't be found, the site id. */
export function nameOf(id: Id): string {
  if (!asked.has(id.uuid)) {
    asked.add(id.uuid)
    void learn(id)
  }
  return names.get(id.uuid) ?? id.site ?? id.uuid
}

const groups = reactive(new Map<string, string>())
let areGroupsAsked = false

/** Return a group's name by its site id, the id until it is known. */
export function groupName(site: string): string {
  if (!areGroupsAsked) {
    areGroupsAsked = true
    void learnGroups()
  }
  return groups.get(site) ?? site
}

async function learnGroups(): Promise<void> {
  try {
    const { data } = await api.GET('/groups')
    for (const { id, name } of data!) groups.set(id.site!, name)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
  }
}

/** Take names that another answer had. */
export function learnNames(things: { id: Id; name: string }[]): void {
  for (const { id, name } of things) {
    asked.add(id.uuid)
    names.set(id.uuid, name)
  }
}

async function learn(id: Id): Promise<void> {
  try {
    const { data } = await api.GET('/users/{id}', { params: { path: { id: id.uuid } } })
    names.set(id.uuid, data!.name)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
  }
}
