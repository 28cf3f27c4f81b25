/**
 * Checksums, beside the page. A file that is sent in parts is read once, in order: the same bytes go into the MD5 of
 * the part and into that of the whole.
 */
import { createMD5, createSHA256, type IHasher } from 'hash-wasm'

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

const CHUNK_BYTES = 4 * 2 ** 20
const makers = { md5: createMD5, sha256: createSHA256 }
const idle: Record<Algorithm, IHasher[]> = { md5: [], sha256: [] }
const streams = new Map<number, IHasher>()

async function take(algorithm: Algorithm): Promise<IHasher> {
  return (idle[algorithm].pop() ?? (await makers[algorithm]())).init()
}

async function feed(blob: Blob, hashers: IHasher[]): Promise<void> {
  const read = (start: number) => blob.slice(start, start + CHUNK_BYTES).arrayBuffer()
  let next = read(0)
  for (let start = 0; start < blob.size; start += CHUNK_BYTES) {
    const chunk = new Uint8Array(await next)
    // The next bytes are read while these are hashed.
    if (start + CHUNK_BYTES < blob.size) next = read(start + CHUNK_BYTES)
    for (const hasher of hashers) hasher.update(chunk)
  }
}

async function digest(blob: Blob, algorithm: Algorithm, ...more: IHasher[]): Promise<string> {
  const hasher = await take(algorithm)
  try {
    await feed(blob, [hasher, ...more])
    return hasher.digest()
  } finally {
    idle[algorithm].push(hasher)
  }
}

async function perform(task: Task): Promise<string> {
  if (task.kind === 'digest') return digest(task.blob, task.algorithm)
  const whole = streams.get(task.stream) ?? (await take('md5'))
  if (task.kind === 'part') {
    streams.set(task.stream, whole)
    return digest(task.blob, 'md5', whole)
  }
  // Of a stream that is given up, a part may still be read: nobody else gets its hasher.
  streams.delete(task.stream)
  return task.kind === 'whole' ? whole.digest() : ''
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
