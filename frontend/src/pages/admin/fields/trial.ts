/** What is being edited, tried at the portal after every change. */
import { onScopeDispose, ref, shallowRef, watch, type Ref } from 'vue'
import { api, ApiError, type Schemas } from '@/api/client'
import { checkDraft, listChanges, toDefinition, toRefinement, type Draft, type Saved } from './draft'

/** How long somebody has to stop typing. */
const PAUSE = 250

/** Ask whenever `question` changes; null: there is nothing to ask, and no answer. */
export function useAnswer<Question extends object, Answer>(
  question: () => Question | null,
  ask: (question: Question, signal: AbortSignal) => Promise<Answer>,
) {
  const answer = shallowRef<Answer | null>(null)
  const isRunning = ref(false)
  const problem = ref('')
  let timer: ReturnType<typeof setTimeout> | undefined
  let controller: AbortController | undefined

  function stop() {
    clearTimeout(timer)
    controller?.abort()
  }

  function plan(asked: Question | null) {
    stop()
    problem.value = ''
    isRunning.value = asked !== null
    if (asked) timer = setTimeout(run, PAUSE)
    else answer.value = null
  }

  async function run() {
    stop()
    const asked = question()
    if (!asked) return
    const { signal } = (controller = new AbortController())
    try {
      const found = await ask(asked, signal)
      if (signal.aborted) return
      answer.value = found
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof ApiError)) throw error
      answer.value = null
      problem.value = error.message
    }
    isRunning.value = false
  }

  watch(question, plan)
  onScopeDispose(stop)

  /** Wait for what was changed last; who saves wants to know. */
  async function settle() {
    if (isRunning.value) await run()
  }

  return { answer, isRunning, problem, settle }
}

/** What was found of a field, and the value that it is about. */
export interface Trial {
  value: string
  answer: Schemas['FieldTrialResponse']
}

/** Try a field as it is edited, with a value. */
export function useTrial(draft: Ref<Draft | undefined>, saved: Ref<Saved>, id: Ref<string | null>) {
  const value = ref('')

  function ask(): Schemas['FieldTrial'] | null {
    const sent = draft.value
    if (!sent || Object.keys(checkDraft(sent)).length) return null
    return {
      metadatum: toDefinition(sent),
      refinement: toRefinement(sent),
      vocabulary: listChanges(saved.value, sent).has('vocabulary') ? { terms: [...sent.terms] } : null,
      metadatumId: id.value,
      value: value.value || null,
    }
  }

  const { answer, ...rest } = useAnswer(ask, async (body, signal): Promise<Trial> => {
    const { data } = await api.POST('/rpc/try-field', { body, signal })
    return { value: body.value ?? '', answer: data! }
  })
  return { value, trial: answer, ...rest }
}
