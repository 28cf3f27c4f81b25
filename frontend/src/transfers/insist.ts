/**
 * Work that outlives a bad network: what may pass by itself is tried again, what was refused is final.
 * A lost connection is waited for as long as the page is open; a portal that fails, for some minutes.
 */
import { ApiError } from '@/api/client'

const PASSING = new Set([408, 429, 500, 502, 503, 504, 507])
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 30_000
/** How often in a row a server may fail: about eight minutes. */
const ATTEMPTS = 20

/** `tell` hears what is being waited for, and nothing once it has passed. */
export async function insist<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  tell: (trouble: string | undefined) => void,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    signal.throwIfAborted()
    try {
      const result = await work()
      if (failures > 1) tell(undefined)
      return result
    } catch (error) {
      if (!(error instanceof ApiError) || !mayPass(error, failures) || signal.aborted) throw error
      tell(error.message)
      await pause(pauseAfter(failures), signal)
    }
  }
}

function mayPass({ status }: ApiError, failures: number): boolean {
  return status === 0 || (PASSING.has(status) && failures < ATTEMPTS)
}

/** Milliseconds; not the same for everybody who failed at the same time. */
export function pauseAfter(failures: number): number {
  return Math.min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE) * (0.5 + Math.random() / 2)
}

/** Wait; less if the connection comes back meanwhile. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer)
      removeEventListener('online', end)
      signal?.removeEventListener('abort', end)
      if (signal?.aborted) reject(signal.reason)
      else resolve()
    }
    const timer = setTimeout(end, milliseconds)
    addEventListener('online', end)
    signal?.addEventListener('abort', end)
    if (signal?.aborted) end()
  })
}
