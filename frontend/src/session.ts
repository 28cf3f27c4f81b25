/** Who is signed in. A session that ends while somebody works is renewed in a dialog over the page. */
import { reactive, readonly, shallowRef } from 'vue'
import type { components } from '@/api/schema'

type Schemas = components['schemas']
export type Session = Schemas['Session']
export type User = Schemas['WhoamiResponse']

const state = reactive<{ session: Session | null; user: User | null }>({ session: null, user: null })
export const current = readonly(state) as { readonly session: Session | null; readonly user: User | null }

/** Somebody waits for a session: the dialog is open. */
export const wanted = shallowRef<{ done: () => void } | null>(null)
let waiting: Promise<void> | null = null

async function read<T>(path: string): Promise<T | null> {
  try {
    const response = await fetch(`/api/v1${path}`)
    return response.ok ? ((await response.json()) as T) : null
  } catch {
    return null
  }
}

/** Whether somebody signed in here before: who never did need not be refused at every start. */
const KNOWN = 'datameta.known'

/** Ask the portal whether there is a session, and whose. */
export async function loadSession(): Promise<void> {
  if (!localStorage.getItem(KNOWN)) return
  const session = await read<Session>('/sessions/current')
  state.user = session ? await read<User>('/rpc/whoami') : null
  state.session = session
}

export async function reloadSession(): Promise<void> {
  state.session = (await read<Session>('/sessions/current')) ?? state.session
}

export async function reloadUser(): Promise<void> {
  state.user = (await read<User>('/rpc/whoami')) ?? state.user
}

/** Take a session that has just been started, and end the wait of those whose session had ended. */
export async function begin(session: Session): Promise<void> {
  localStorage.setItem(KNOWN, '1')
  state.session = session
  state.user = await read<User>('/rpc/whoami')
  wanted.value?.done()
}

/** Forget the session, after signing out. */
export function forget(): void {
  localStorage.removeItem(KNOWN)
  state.session = state.user = null
}

/** Open the dialog and wait until somebody has signed in; several callers share it. */
export function signInAgain(): Promise<void> {
  waiting ??= new Promise<void>((resolve) => {
    wanted.value = {
      done() {
        wanted.value = waiting = null
        resolve()
      },
    }
  })
  return waiting
}
