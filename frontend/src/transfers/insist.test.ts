import { describe, expect, it } from 'vitest'
import { ApiError } from '@/api/client'
import { insist, pause, pauseAfter } from './insist'

const never = new AbortController().signal

describe('insisting', () => {
  it('tries again what may pass, and says what it waits for', async () => {
    const said: (string | undefined)[] = []
    let calls = 0
    const work = () => {
      calls++
      if (calls === 1) return Promise.reject(new ApiError(0, [], 'no connection'))
      if (calls === 2) return Promise.reject(new ApiError(503, [], 'busy'))
      return Promise.resolve('done')
    }
    const result = insist(work, never, (trouble) => {
      said.push(trouble)
      setTimeout(() => dispatchEvent(new Event('online')))
    })
    expect(await result).toBe('done')
    expect(said).toEqual(['no connection', 'busy', undefined])
  })

  it('takes a refusal for final', async () => {
    let calls = 0
    const refuse = () => {
      calls++
      return Promise.reject(new ApiError(409, [], 'no'))
    }
    await expect(insist(refuse, never, () => undefined)).rejects.toThrow('no')
    expect(calls).toBe(1)
  })

  it('ends when it is stopped', async () => {
    const control = new AbortController()
    const work = () => Promise.reject(new ApiError(0, [], 'no connection'))
    const waiting = insist(work, control.signal, () => control.abort())
    await expect(waiting).rejects.toThrow(/abort/i)
  })
})

describe('a pause', () => {
  it('grows, and is never long', () => {
    expect(pauseAfter(1)).toBeLessThanOrEqual(500)
    expect(pauseAfter(4)).toBeGreaterThanOrEqual(2000)
    expect(pauseAfter(1000)).toBeLessThanOrEqual(30_000)
  })

  it('does not begin once it is stopped', async () => {
    await expect(pause(1000, AbortSignal.abort())).rejects.toThrow(/abort/i)
  })
})
