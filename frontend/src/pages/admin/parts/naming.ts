/** Groups and services are named alike: by a dialog that asks for the name of a new one, or another for one there is. */
import { shallowRef } from 'vue'
import { api, type Id } from '@/api/client'
import { t } from '@/i18n'
import { tell } from '@/toasts'

export interface Naming {
  title: string
  description: string
  /** The name there is. */
  name?: string
  action: string
  apply: (name: string) => Promise<void>
}

const CALLS = {
  groups: {
    add: (name: string) => api.POST('/groups', { body: { name } }),
    rename: (id: string, name: string) =>
      api.PUT('/groups/{id}', { params: { path: { id } }, body: { name } }),
  },
  services: {
    add: (name: string) => api.POST('/services', { body: { name } }),
    rename: (id: string, name: string) =>
      api.PUT('/services/{id}', { params: { path: { id } }, body: { name } }),
  },
}

/** `naming` is what the dialog asks for now; `load` shows what has come of it. */
export function useNaming(area: keyof typeof CALLS, load: () => Promise<void>) {
  const naming = shallowRef<Naming | null>(null)
  const say = (key: string, values: Record<string, unknown> = {}) => t(`adminpeople.${area}.${key}`, values)

  function add() {
    naming.value = {
      title: say('add'),
      description: say('addHelp'),
      action: t('common.add'),
      async apply(name) {
        await CALLS[area].add(name)
        tell(say('added', { name }))
        await load()
      },
    }
  }

  function rename({ id, name }: { id: Id; name: string }) {
    naming.value = {
      title: say('renameOne', { name }),
      description: say('renameHelp'),
      name,
      action: t('adminpeople.rename'),
      async apply(changed) {
        await CALLS[area].rename(id.uuid, changed)
        tell(t('common.saved'))
        await load()
      },
    }
  }

  return { naming, add, rename }
}
