/** The portal's operations that hand in files, each a function. */
import { api, type Id, type Schemas } from '@/api/client'
import { readPages } from '@/lib/paging'
import { localise, type PutRequest } from './put'

export type StagedFile = Schemas['FileResponse']
export type UploadSession = Schemas['UploadSession']

const PAGE = 1000

/** A part that has arrived. */
export interface Arrived {
  readonly md5: string
  readonly size: number
}

export interface Announced {
  readonly id: Id
  readonly request: PutRequest
}

/** The user's files that are not submitted, the newest first. */
export function listStaged(): Promise<StagedFile[]> {
  return readPages((cursor) => api.GET('/staged/files', { params: { query: { limit: PAGE, cursor } } }))
}

export async function announce(
  name: string,
  checksum: string,
  size: number,
  key: string,
): Promise<Announced> {
  const { data } = await api.POST('/files', {
    params: { header: { 'Idempotency-Key': key, 'DataMeta-File-Size': size } },
    body: { name, checksum },
  })
  return readUpload(data!)
}

/** How to send an announced file anew. */
export async function renew(id: string): Promise<Announced> {
  const { data } = await api.POST('/files/{id}/upload-url', { params: { path: { id } } })
  return readUpload(data!)
}

function readUpload(upload: Schemas['FileUploadResponse']): Announced {
  return {
    id: upload.id,
    request: { url: localise(upload.urlToUpload), headers: upload.requestHeaders ?? {} },
  }
}

export async function confirmFile(id: string): Promise<StagedFile> {
  const { data } = await api.PUT('/files/{id}', { params: { path: { id } }, body: { contentUploaded: true } })
  return data!
}

export async function getFile(id: string): Promise<StagedFile> {
  return (await api.GET('/files/{id}', { params: { path: { id } } })).data!
}

export async function deleteFile(id: string): Promise<void> {
  await api.DELETE('/files/{id}', { params: { path: { id } } })
}

export async function openSession(id: string, size: number): Promise<UploadSession> {
  const { data } = await api.POST('/files/{id}/upload-session', { params: { path: { id } }, body: { size } })
  return data!
}

export async function getSession(id: string): Promise<UploadSession> {
  return (await api.GET('/files/{id}/upload-session', { params: { path: { id } } })).data!
}

/** The parts of an open session that have arrived, by number. */
export async function listParts(id: string): Promise<Map<number, Arrived>> {
  const parts = await readPages((cursor) =>
    api.GET('/files/{id}/upload-session/parts', { params: { path: { id }, query: { limit: PAGE, cursor } } }),
  )
  return new Map(parts.map(({ number, md5, size }) => [number, { md5: md5.toLowerCase(), size }]))
}

/** Announce parts by number and MD5; how to send each. */
export async function requestParts(id: string, md5s: Map<number, string>): Promise<Map<number, PutRequest>> {
  const parts = Array.from(md5s, ([number, md5]) => ({ number, md5 }))
  const { data } = await api.POST('/files/{id}/upload-session/part-urls', {
    params: { path: { id } },
    body: { parts },
  })
  return new Map(
    data!.parts.map(({ number, url, requestHeaders }) => [
      number,
      { url: localise(url), headers: requestHeaders },
    ]),
  )
}

export async function complete(id: string, checksum: string): Promise<UploadSession> {
  const { data } = await api.POST('/files/{id}/upload-session/complete', {
    params: { path: { id } },
    body: { checksum },
  })
  return data!
}
