/**
 * Checksums, beside the page. A file that is sent in parts is read once, in order: the same bytes go into the MD5 of
 * the part and into that of the whole.
 */
import { createMD5, createSHA256, type IHasher } from 'hash-wasm'
import { Md5Pair } from './md5pair'

export type Algorithm = 'md5' | 'sha256'
export type Task =
  | { kind: 'digest'; blob: Blob; algorithm: Algorithm }
  /** Add bytes to the whole of a stream; the answer is their own MD5. */
  | { kind: 'part'; stream: number; blob: Blob }
  /** End a stream; the answer is the MD5 of the whole. */
  | { kind: 'whole'; stream: number }
  /** Give a stream up. */
  | { kind: 'drop'; stream: number }
export interface Order {
  id: number
  task: Task
}
export interface Answer {
  id: number
  digest?: string
  /** The name of the error: the file can't be read any more. */
  error?: string
}

/** Smaller ones take more of the processor to read, larger ones keep what hashes them waiting. */
const CHUNK_BYTES = 8 * 2 ** 20
const makers = { md5: createMD5, sha256: createSHA256 }
const idle: Record<Algorithm, IHasher[]> = { md5: [], sha256: [] }
const streams = new Map<number, Md5Pair>()

/** The next bytes are read while these are hashed. */
async function* read(blob: Blob): AsyncGenerator<Uint8Array> {
  const readAt = (start: number) => blob.slice(start, start + CHUNK_BYTES).arrayBuffer()
  let next = readAt(0)
  for (let start = 0; start < blob.size; start += CHUNK_BYTES) {
    const chunk = new Uint8Array(await next)
    if (start + CHUNK_BYTES < blob.size) next = readAt(start + CHUNK_BYTES)
    yield chunk
  }
}

async function digest(blob: Blob, algorithm: Algorithm): Promise<string> {
  const hasher = idle[algorithm].pop() ?? (await makers[algorithm]())
  hasher.init()
  try {
    for await (const chunk of read(blob)) hasher.update(chunk)
    return hasher.digest()
  } finally {
    idle[algorithm].push(hasher)
  }
}

async function perform(task: Task): Promise<string> {
  if (task.kind === 'digest') return digest(task.blob, task.algorithm)
  const stream = streams.get(task.stream) ?? (await Md5Pair.create())
  if (task.kind === 'part') {
    streams.set(task.stream, stream)
    return stream.part(read(task.blob))
  }
  streams.delete(task.stream)
  return task.kind === 'whole' ? stream.whole() : ''
}

self.onmessage = async ({ data }: MessageEvent<Order>) => {
  const answer: Answer = { id: data.id }
  try {
    answer.digest = await perform(data.task)
  } catch (error) {
    answer.error = error instanceof Error ? error.name : String(error)
  }
  self.postMessage(answer)
}
