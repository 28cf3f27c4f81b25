import { md5 } from 'hash-wasm'
import { describe, expect, it } from 'vitest'
import { Md5Pair } from './md5pair'

const bytes = (length: number) => Uint8Array.from({ length }, (_, place) => place * 7 + (place >> 8))

async function* cut(part: Uint8Array, size: number) {
  for (let start = 0; start < part.length; start += size) yield part.slice(start, start + size)
}

describe('a pair of MD5s', () => {
  it.each([0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 65_536, 2 ** 18, 2 ** 18 + 65])(
    'of %i bytes is right',
    async (length) => {
      const pair = await Md5Pair.create()
      const expected = await md5(bytes(length))
      expect(await pair.part(cut(bytes(length), 2 ** 20))).toBe(expected)
      expect(pair.whole()).toBe(expected)
    },
  )

  it('is that of each part and of the whole', async () => {
    const whole = bytes(3 * 4096 + 77)
    const pair = await Md5Pair.create()
    for (let start = 0; start < whole.length; start += 4096) {
      const part = whole.slice(start, start + 4096)
      expect(await pair.part(cut(part, 1024))).toBe(await md5(part))
    }
    expect(pair.whole()).toBe(await md5(whole))
  })

  it('takes nothing after a part that ends within a block', async () => {
    const pair = await Md5Pair.create()
    await pair.part(cut(bytes(100), 128))
    await expect(pair.part(cut(bytes(100), 128))).rejects.toThrow('does not end with a block')
  })
})
