/** The field that is being edited, tried at the portal after every change. */
import { ref, shallowRef, watch, type Ref } from 'vue'
import { api, ApiError, type Schemas } from '@/api/client'
import { checkDraft, listChanges, toDefinition, toRefinement, type Draft, type Saved } from './draft'

/** What was found, and the value that it is about. */
export interface Trial {
  value: string
  answer: Schemas['FieldTrialResponse']
}

/** How long somebody has to stop typing. */
const PAUSE = 250

export function useTrial(draft: Ref<Draft | undefined>, saved: Ref<Saved>, id: Ref<string | null>) {
  const value = ref('')
  const trial = shallowRef<Trial | null>(null)
  const isRunning = ref(false)
  const problem = ref('')
  let timer: ReturnType<typeof setTimeout> | undefined
  let controller: AbortController | undefined

  watch([draft, value, id], plan, { deep: true })

  function plan() {
    clearTimeout(timer)
    controller?.abort()
    problem.value = ''
    isRunning.value = false
    if (!draft.value) return
    if (Object.keys(checkDraft(draft.value)).length) {
      trial.value = null
      return
    }
    isRunning.value = true
    timer = setTimeout(run, PAUSE)
  }

  async function run() {
    clearTimeout(timer)
    controller?.abort()
    const mine = (controller = new AbortController())
    const [tried, sent] = [value.value, draft.value!]
    const hasNewWords = listChanges(saved.value, sent).has('vocabulary')
    try {
      const { data } = await api.POST('/rpc/try-field', {
        body: {
          metadatum: toDefinition(sent),
          refinement: toRefinement(sent),
          vocabulary: hasNewWords ? { terms: sent.terms } : null,
          metadatumId: id.value,
          value: tried || null,
        },
        signal: mine.signal,
      })
      if (mine.signal.aborted) return
      trial.value = { value: tried, answer: data! }
    } catch (error) {
      if (mine.signal.aborted) return
      if (!(error instanceof ApiError)) throw error
      trial.value = null
      problem.value = error.message
    }
    isRunning.value = false
  }

  /** Wait for what was changed last; who saves wants to know. */
  async function settle() {
    if (isRunning.value) await run()
  }

  return { value, trial, isRunning, problem, settle }
}
