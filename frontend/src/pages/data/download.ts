/** Fetching a file's bytes: the browser follows an address that needs no credential and ends soon. */
import { api } from '@/api/client'

export async function download(fileId: string): Promise<void> {
  const { data } = await api.GET('/rpc/get-file-url/{id}', { params: { path: { id: fileId } } })
  const link = document.createElement('a')
  link.href = data!.fileUrl
  // The store says by its headers that this is to be saved, and under which name.
  link.rel = 'noopener'
  link.click()
}
