/** Short messages at the edge of the page; errors stay until they are closed. */
import { reactive } from 'vue'
import { ApiError } from '@/api/client'

export interface Toast {
  id: number
  kind: 'success' | 'error' | 'note'
  text: string
}

export const toasts = reactive<Toast[]>([])
let last = 0

export function tell(text: string, kind: Toast['kind'] = 'success'): void {
  const id = ++last
  toasts.push({ id, kind, text })
  if (kind !== 'error') setTimeout(() => dismiss(id), 6000)
}

export function dismiss(id: number): void {
  const place = toasts.findIndex((toast) => toast.id === id)
  if (place >= 0) toasts.splice(place, 1)
}

/** Do something and tell of its failure; returns undefined then. Anything that is no refusal is a fault of ours. */
export async function attempt<T>(action: () => Promise<T>, success?: string): Promise<T | undefined> {
  try {
    const result = await action()
    if (success) tell(success)
    return result
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    tell(error.message, 'error')
    return undefined
  }
}
