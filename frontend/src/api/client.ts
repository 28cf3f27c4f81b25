/**
 * The portal's API, typed by its specification. Every call goes through here: the token against forged requests is
 * added, a session that has ended is renewed and the call made again, and a refusal becomes an `ApiError`.
 */
import createClient, { type Middleware } from 'openapi-fetch'
import { t } from '@/i18n'
import { formatDuration } from '@/lib/format'
import { inWords } from '@/lib/refusals'
import { current, signInAgain } from '@/session'
import type { components, paths } from './schema'

export type Schemas = components['schemas']
export type Problem = Schemas['ErrorModel']
export type Id = Schemas['Identifier']
export const PREFIX = '/api/v1'

/** What the portal refused, with all its problems; `status` 0: it could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problems: Problem[],
    message: string,
  ) {
    super(message)
  }

  has(code: string): boolean {
    return this.problems.some((problem) => problem.error_code === code)
  }

  /** The messages of one field, joined. */
  of(field: string): string | undefined {
    const found = this.problems.filter((problem) => problem.field === field).map((problem) => problem.message)
    return found.length ? found.join(' ') : undefined
  }
}

/** Send a request as it is, with what our pages have to add. Throws `ApiError` only if nothing answers. */
export async function send(request: Request): Promise<Response> {
  const again = request.clone()
  const response = await attempt(request)
  if (response.status !== 401 || !current.session) return response
  await signInAgain()
  return attempt(again)
}

async function attempt(request: Request): Promise<Response> {
  const headers = new Headers(request.headers)
  if (current.session && request.method !== 'GET') headers.set('X-CSRF-Token', current.session.csrfToken)
  try {
    return await fetch(new Request(request, { headers }))
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    throw new ApiError(0, [], t('common.errors.network'))
  }
}

/** Turn an answer other than 2xx into an `ApiError`. */
export async function refusal(response: Response): Promise<ApiError> {
  let problems: Problem[] = []
  try {
    const body: unknown = await response.clone().json()
    if (Array.isArray(body)) problems = (body as Problem[]).map(inWords)
  } catch {
    // Not ours: a proxy's page.
  }
  let message = problems.map((problem) => problem.message).join(' ')
  if (response.status === 429 || response.status === 503) {
    const seconds = response.headers.get('Retry-After')
    if (seconds && response.status === 429) {
      message = t('codes.wait', { time: formatDuration(Number(seconds)) })
    } else if (!message && seconds) message = t('common.errors.busy', { seconds })
  } else if (response.status >= 500) {
    message = t('common.errors.server', { id: response.headers.get('X-Request-Id') ?? '–' })
  }
  return new ApiError(
    response.status,
    problems,
    message || t('common.errors.unknown', { status: response.status }),
  )
}

const refuse: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw await refusal(response)
  },
}

/** `await api.GET('/files/{id}', { params: { path: { id } } })` gives `{ data }`, or throws `ApiError`. */
export const api = createClient<paths>({ baseUrl: PREFIX, fetch: send })
api.use(refuse)

/** Call with a body of bytes, or for an answer that is no JSON. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await send(new Request(`${PREFIX}${path}`, init))
  if (!response.ok) throw await refusal(response)
  return response
}

/** Fetch an address of the API and save the answer as a file. */
export async function save(path: string, filename: string, init: RequestInit = {}): Promise<void> {
  const response = await call(path, init)
  const named = /filename\*?=(?:UTF-8'')?"?([^";]+)/.exec(
    response.headers.get('Content-Disposition') ?? '',
  )?.[1]
  saveBlob(await response.blob(), named ? decodeURIComponent(named) : filename)
}

export function saveBlob(blob: Blob, filename: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = filename
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
