/** Workers that take checksums; a large file has one for itself while it is sent. */
import type { Algorithm, Answer, Order, Task } from './hash.worker'

/** The file on the disk is not what was chosen any more, or is gone. */
export class UnreadableError extends Error {}

class Hasher {
  private readonly worker = new Worker(new URL('./hash.worker.ts', import.meta.url), { type: 'module' })
  private readonly waiting = new Map<
    number,
    { resolve: (digest: string) => void; reject: (e: Error) => void }
  >()
  private last = 0

  constructor() {
    this.worker.onmessage = ({ data: { id, digest, error } }: MessageEvent<Answer>) => {
      const waiting = this.waiting.get(id)
      this.waiting.delete(id)
      if (digest !== undefined) waiting?.resolve(digest)
      else waiting?.reject(new UnreadableError(error))
    }
    this.worker.onerror = (event) => {
      // It could not even start; whoever waits must not do so for ever.
      for (const waiting of this.waiting.values()) waiting.reject(new Error(event.message))
      this.waiting.clear()
    }
  }

  /** How much it has to do. */
  get load(): number {
    return this.waiting.size + this.streams.size
  }

  readonly streams = new Set<number>()

  ask(task: Task): Promise<string> {
    const id = ++this.last
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.worker.postMessage({ id, task } satisfies Order)
    })
  }
}

/** The page keeps a core for itself. */
const MOST = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1))
const hashers: Hasher[] = []

/** The worker with the least to do; a new one if all have something. */
function choose(): Hasher {
  const best = hashers.reduce<Hasher | undefined>((a, b) => (a && a.load <= b.load ? a : b), undefined)
  if (best && (best.load === 0 || hashers.length >= MOST)) return best
  const hasher = new Hasher()
  hashers.push(hasher)
  return hasher
}

/** The checksum of some bytes. Throws `UnreadableError`. */
export function digest(blob: Blob, algorithm: Algorithm = 'md5'): Promise<string> {
  return choose().ask({ kind: 'digest', blob, algorithm })
}

/** Have a worker ready before it is needed. */
export function warm(): void {
  if (!hashers.length) void digest(new Blob())
}

let lastStream = 0

/** The MD5s of a file's parts and of the whole: all bytes are read once, in order. */
export class PartHashes {
  private readonly hasher = choose()
  private stream = 0
  private asked: Promise<string>[] = []
  private digested?: Promise<string>

  constructor(
    private readonly file: Blob,
    private partSize: number,
  ) {
    this.begin()
  }

  /** Begin anew with parts of another size. */
  cut(partSize: number): void {
    if (partSize === this.partSize) return
    this.close()
    this.partSize = partSize
    this.begin()
  }

  /** That of a part; those before it are read first. Throws `UnreadableError`. */
  part(number: number): Promise<string> {
    while (this.asked.length < number) this.askNext()
    return this.asked[number - 1]!
  }

  /** Begin to read the first parts, which will be wanted. */
  ahead(count: number): void {
    void this.part(Math.min(count, Math.ceil(this.file.size / this.partSize)))
  }

  /** That of all parts together, once they are read. */
  whole(): Promise<string> {
    return (this.digested ??= this.hasher.ask({ kind: 'whole', stream: this.stream }))
  }

  close(): void {
    this.hasher.streams.delete(this.stream)
    void this.hasher.ask({ kind: 'drop', stream: this.stream })
    this.stream = 0
  }

  private begin(): void {
    this.stream = ++lastStream
    this.hasher.streams.add(this.stream)
    this.asked = []
    this.digested = undefined
  }

  private askNext(): void {
    const { stream } = this
    const start = this.asked.length * this.partSize
    const blob = this.file.slice(start, start + this.partSize)
    const before = this.asked.at(-1) ?? Promise.resolve('')
    const md5 = before.then(() => {
      if (stream !== this.stream) throw new UnreadableError('closed')
      return this.hasher.ask({ kind: 'part', stream, blob })
    })
    // Who wants the part hears of what is wrong with it.
    md5.catch(() => undefined)
    this.asked.push(md5)
  }
}
