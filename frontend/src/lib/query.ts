/** What a person chose, kept in the address: reload, links and the back button know it. */
import { computed, type WritableComputedRef } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/** Return one parameter of the address, '' while it is absent; with `isStep` the back button undoes a change. */
export function useQuery(name: string, isStep = false): WritableComputedRef<string> {
  const route = useRoute()
  const router = useRouter()
  return computed({
    get: () => {
      const value = route.query[name]
      return (Array.isArray(value) ? value[0] : value) ?? ''
    },
    set(value) {
      const { [name]: _, ...rest } = route.query
      void router[isStep ? 'push' : 'replace']({ query: value ? { ...rest, [name]: value } : rest })
    },
  })
}
