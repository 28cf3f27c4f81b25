/** Ask before what can't be undone: `if (await confirm({ title, text, action })) …`. */
import { shallowRef } from 'vue'

export interface Question {
  title: string
  text: string
  /** The word on the button that does it. */
  action: string
  isDangerous?: boolean
}

export const question = shallowRef<(Question & { answer: (yes: boolean) => void }) | null>(null)

export function confirm(asked: Question): Promise<boolean> {
  question.value?.answer(false)
  return new Promise((resolve) => {
    question.value = {
      ...asked,
      answer(yes) {
        question.value = null
        resolve(yes)
      },
    }
  })
}
