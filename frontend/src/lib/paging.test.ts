import { expect, test } from 'vitest'
import { nextCursor } from './paging'

const answer = (link?: string) => new Response('[]', { headers: link ? { Link: link } : {} })

test('the next page is where the header says', () => {
  const link = '<https://portal.example.org/api/v1/users/DMU-1/events?limit=20&cursor=W10%3D>; rel="next"'
  expect(nextCursor(answer(link))).toBe('W10=')
  expect(nextCursor(answer('</api/v1/users?cursor=x>; rel="next"'))).toBe('x')
})

test('the last page has none', () => {
  expect(nextCursor(answer())).toBeNull()
  expect(nextCursor(answer('<https://portal.example.org/>; rel="help"'))).toBeNull()
})
