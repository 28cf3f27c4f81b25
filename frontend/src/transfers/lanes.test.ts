import { expect, it } from 'vitest'
import { Lanes } from './lanes'

it('lets in so many, the lowest order first', async () => {
  const lanes = new Lanes(2)
  const begun: number[] = []
  const ends: (() => void)[] = []
  const { signal } = new AbortController()
  const work = (order: number) =>
    lanes.run(order, signal, () => {
      begun.push(order)
      return new Promise<void>((resolve) => ends.push(resolve))
    })
  const all = [5, 4, 9, 1].map(work)
  await Promise.resolve()
  expect(begun).toEqual([5, 4])
  for (let place = 0; place < 4; place++) {
    ends[place]!()
    await all[[0, 1, 3, 2][place]!]
    await Promise.resolve()
  }
  expect(begun).toEqual([5, 4, 1, 9])
})

it('is free again after a failure', async () => {
  const lanes = new Lanes(1)
  const { signal } = new AbortController()
  await expect(lanes.run(1, signal, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(await lanes.run(1, signal, () => Promise.resolve('yes'))).toBe('yes')
})
