/** A form that is sent: busy while it is under way, and what was refused, at its field or above the form. */
import { computed, ref, shallowRef } from 'vue'
import { ApiError } from '@/api/client'

/** `fields`: those that show their own problems; `rest` has the others. */
export function useSending(...fields: string[]) {
  const isBusy = ref(false)
  const refusal = shallowRef<ApiError>()
  const rest = computed(() => {
    const error = refusal.value
    if (!error?.problems.length) return error?.message
    const others = error.problems.filter((problem) => !fields.includes(problem.field ?? ''))
    return others.map((problem) => problem.message).join(' ') || undefined
  })

  /** Do it and say whether it was done. */
  async function send(action: () => Promise<unknown>): Promise<boolean> {
    isBusy.value = true
    refusal.value = undefined
    try {
      await action()
      return true
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      refusal.value = error
      return false
    } finally {
      isBusy.value = false
    }
  }

  return { isBusy, refusal, rest, send, of: (field: string) => refusal.value?.of(field) }
}
