/** Bytes on their way to the portal or the store: by XMLHttpRequest, which tells how far they are. */
import { ApiError, PREFIX, type Problem } from '@/api/client'
import { t } from '@/i18n'

export interface PutRequest {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
}

/** Nothing has moved for so long: the connection is dead, and nobody has noticed. */
const STALLED = 90_000
/** Bytes per millisecond that whoever takes them passes on at least before answering. */
const SLOWEST = 1000

/** Send some bytes, once. Throws `ApiError`, and what the signal was aborted with. */
export function put(
  { url, headers }: PutRequest,
  blob: Blob,
  signal: AbortSignal,
  onProgress: (loaded: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    let timer = 0
    const expect = (milliseconds: number) => {
      clearTimeout(timer)
      timer = window.setTimeout(() => request.abort(), milliseconds)
    }
    const stop = () => request.abort()
    const end = (error?: unknown) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      if (error === undefined) resolve()
      else reject(error)
    }
    request.upload.onprogress = (event) => {
      onProgress(event.loaded)
      expect(event.loaded < blob.size ? STALLED : STALLED + blob.size / SLOWEST)
    }
    request.onload = () =>
      end(request.status >= 200 && request.status < 300 ? undefined : readRefusal(request, url))
    request.onerror = () => end(new ApiError(0, [], unreachable(url)))
    request.onabort = () => end(signal.aborted ? signal.reason : new ApiError(0, [], unreachable(url)))
    request.open('PUT', url)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    signal.addEventListener('abort', stop)
    if (signal.aborted) return end(signal.reason)
    expect(STALLED)
    // A slice has no type of its own, so that no header is sent that was not signed.
    request.send(blob.slice(0, blob.size))
  })
}

/** An address at the portal, as the page reaches the portal; one at the store stays what it is. */
export function localise(address: string): string {
  const { pathname, search } = new URL(address)
  return pathname.startsWith(`${PREFIX}/upload/`) ? pathname + search : address
}

function unreachable(url: string): string {
  if (url.startsWith('/')) return t('common.errors.network')
  return t('transfers.errors.store', { host: new URL(url).host })
}

/** What a refusal says, of the portal (JSON) or of a store (XML). */
function readRefusal(request: XMLHttpRequest, url: string): ApiError {
  const { status, responseText } = request
  try {
    const problems = JSON.parse(responseText) as Problem[]
    return new ApiError(status, problems, problems.map((problem) => problem.message).join(' '))
  } catch {
    const code = /<Code>([\w.]{1,100})<\/Code>/.exec(responseText)?.[1] ?? String(status)
    const host = url.startsWith('/') ? location.host : new URL(url).host
    return new ApiError(status, [], t('transfers.errors.refused', { host, code }))
  }
}
