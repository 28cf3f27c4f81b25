import { expect, test } from 'vitest'
import { nextCursor } from './paging'

const answer = (link?: string) => new Response('[]', { headers: link ? { Link: link } : {} })

test('the cursor of the next page is taken from the header', () => {
  const link = '<https://data.example.org/api/v1/users?search=a&cursor=W1%3D>; rel="next"'
  expect(nextCursor(answer(link))).toBe('W1=')
})

test('the last page has none', () => {
  expect(nextCursor(answer())).toBeUndefined()
  expect(nextCursor(answer('<https://data.example.org/help>; rel="help"'))).toBeUndefined()
})
