/** Load what a page is about, again whenever its address names another one. */
import { shallowRef, watch, type ShallowRef } from 'vue'
import { ApiError } from '@/api/client'

export function useLoaded<T>(
  id: () => string,
  load: (id: string) => Promise<T>,
): { loaded: ShallowRef<T | null>; error: ShallowRef<ApiError | null>; retry: () => Promise<void> } {
  const loaded = shallowRef<T | null>(null)
  const error = shallowRef<ApiError | null>(null)
  async function retry() {
    const wanted = id()
    loaded.value = error.value = null
    try {
      const found = await load(wanted)
      if (id() === wanted) loaded.value = found
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem
      if (id() === wanted) error.value = problem
    }
  }
  watch(id, retry, { immediate: true })
  return { loaded, error, retry }
}
