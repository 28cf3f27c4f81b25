/**
 * Two MD5s of the same bytes in the time of one. Each step of MD5 waits for the one before, and a processor has enough
 * to spare to do another's meanwhile. No library does that, so the few instructions are written here.
 */

// Opcodes of WebAssembly.
const [LOOP, END, BR_IF, GET, SET, TEE, LOAD, STORE, CONST] = [
  0x03, 0x0b, 0x0d, 0x20, 0x21, 0x22, 0x28, 0x36, 0x41,
]
const [EQZ, ADD, SUB, AND, OR, XOR, ROTL] = [0x45, 0x6a, 0x6b, 0x71, 0x72, 0x73, 0x77]
const [I32, VOID, FUNCTION] = [0x7f, 0x40, 0x60]

const SHIFTS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
]
const START = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476]
const BLOCK = 64
/** Where the two states are in the memory, and where the bytes are. */
const STATES = [0, 16]
const BYTES = 64
const PAGE = 65536
/** So many are copied there at once: the processor still has them at hand when they are hashed. */
const STEP = 256 * 1024

/** Numbers as WebAssembly writes them: LEB128, signed and not. */
function signed(value: number): number[] {
  const bytes = []
  for (let rest = value | 0; ; rest >>= 7) {
    const isLast = (rest >> 6 === 0 && !(rest & 64)) || (rest >> 6 === -1 && !!(rest & 64))
    bytes.push((rest & 127) | (isLast ? 0 : 128))
    if (isLast) return bytes
  }
}

function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >> 7)]
}

/** The function `(address, blocks)`, which adds blocks to both states. */
function writeFunction(): number[] {
  // Locals: the two parameters, a b c d of each state, and the sixteen words of a block.
  const letter = (lane: number, place: number) => 2 + 4 * lane + (((place % 4) + 4) % 4)
  const word = (place: number) => 10 + place
  const code: number[] = []
  const put = (...parts: (number | number[])[]) => code.push(...parts.flat())
  const get = (local: number) => [GET!, local]
  const load = (offset: number) => [LOAD!, 2, ...unsigned(offset)]

  put(LOOP!, VOID!)
  for (let place = 0; place < 16; place++) put(get(0), load(4 * place), SET!, word(place))
  for (const lane of [0, 1]) {
    for (let place = 0; place < 4; place++) {
      put(CONST!, signed(STATES[lane]! + 4 * place), load(0), SET!, letter(lane, place))
    }
  }
  for (let step = 0; step < 64; step++) {
    const round = step >> 4
    const constant = Math.floor(Math.abs(Math.sin(step + 1)) * 2 ** 32)
    const chosen = [step, 5 * step + 1, 3 * step + 5, 7 * step][round]! % 16
    const shift = SHIFTS[round]![step % 4]!
    for (const lane of [0, 1]) {
      const [a, b, c, d] = [0, 1, 2, 3].map((place) => letter(lane, place - step)) as [
        number,
        number,
        number,
        number,
      ]
      const mixed = [
        [...get(c), ...get(d), XOR!, ...get(b), AND!, ...get(d), XOR!],
        [...get(b), ...get(c), XOR!, ...get(d), AND!, ...get(c), XOR!],
        [...get(c), ...get(d), XOR!, ...get(b), XOR!],
        [...get(d), CONST!, ...signed(-1), XOR!, ...get(b), OR!, ...get(c), XOR!],
      ][round]!
      put(get(a), get(word(chosen)), ADD!, CONST!, signed(constant), ADD!, mixed, ADD!)
      put(CONST!, signed(shift), ROTL!, get(b), ADD!, SET!, a)
    }
  }
  for (const lane of [0, 1]) {
    for (let place = 0; place < 4; place++) {
      const address = [CONST!, ...signed(STATES[lane]! + 4 * place)]
      put(address, address, load(0), get(letter(lane, place)), ADD!, STORE!, 2, 0)
    }
  }
  put(get(0), CONST!, signed(BLOCK), ADD!, SET!, 0)
  put(get(1), CONST!, signed(1), SUB!, TEE!, 1, EQZ!, EQZ!, BR_IF!, 0, END!, END!)
  return [1, 24, I32!, ...code]
}

function writeModule(pages: number): Uint8Array<ArrayBuffer> {
  const text = (word: string) => [word.length, ...new TextEncoder().encode(word)]
  const section = (id: number, content: number[]) => [id, ...unsigned(content.length), ...content]
  const body = writeFunction()
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, FUNCTION!, 2, I32!, I32!, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, ...unsigned(pages)]),
    ...section(7, [2, ...text('memory'), 2, 0, ...text('update'), 0, 0]),
    ...section(10, [1, ...unsigned(body.length), ...body]),
  ])
}

/** The MD5 of a whole, and that of the part of it that is read at the moment. */
export class Md5Pair {
  private readonly states: Uint32Array
  private readonly bytes: Uint8Array
  private length = 0
  /** What the last part had beyond its last full block. */
  private rest = new Uint8Array()

  private constructor(
    private readonly update: (address: number, blocks: number) => void,
    memory: WebAssembly.Memory,
  ) {
    this.states = new Uint32Array(memory.buffer, 0, 8)
    this.bytes = new Uint8Array(memory.buffer, BYTES)
    this.states.set(START, 0)
  }

  static async create(): Promise<Md5Pair> {
    const pages = Math.ceil((BYTES + STEP) / PAGE)
    const { instance } = await WebAssembly.instantiate(writeModule(pages))
    const { update, memory } = instance.exports
    return new Md5Pair(update as (address: number, blocks: number) => void, memory as WebAssembly.Memory)
  }

  /**
   * Add a part, chunk by chunk, and return its MD5. All chunks but a part's last, and all parts but the last, are
   * multiples of 64 bytes.
   */
  async part(chunks: AsyncIterable<Uint8Array>): Promise<string> {
    this.states.set(START, 4)
    const before = this.length
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += STEP) this.add(chunk.subarray(at, at + STEP))
    }
    return this.finish(1, this.length - before)
  }

  private add(bytes: Uint8Array): void {
    if (this.rest.length) throw new Error('The part before does not end with a block.')
    const blocks = Math.floor(bytes.length / BLOCK)
    this.bytes.set(bytes)
    if (blocks) this.update(BYTES, blocks)
    this.rest = bytes.slice(blocks * BLOCK)
    this.length += bytes.length
  }

  whole(): string {
    return this.finish(0, this.length)
  }

  /** Pad, and leave both states as they were. */
  private finish(lane: number, length: number): string {
    const before = this.states.slice()
    const blocks = this.rest.length + 9 > BLOCK ? 2 : 1
    const tail = this.bytes.subarray(0, blocks * BLOCK)
    tail.fill(0)
    tail.set(this.rest)
    tail[this.rest.length] = 0x80
    const view = new DataView(tail.buffer, tail.byteOffset + tail.length - 8)
    view.setUint32(0, (length * 8) >>> 0, true)
    view.setUint32(4, Math.floor(length / 2 ** 29), true)
    this.update(BYTES, blocks)
    const digest = this.states.slice(4 * lane, 4 * lane + 4)
    this.states.set(before)
    return Array.from(new Uint8Array(digest.buffer), (byte) => byte.toString(16).padStart(2, '0')).join('')
  }
}
