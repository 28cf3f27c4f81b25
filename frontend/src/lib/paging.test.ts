import { expect, test } from 'vitest'
import { nextCursor, readPages } from './paging'

const answer = (link?: string) => new Response('[]', { headers: link ? { Link: link } : {} })
const linkTo = (cursor: string) =>
  `<https://data.example.org/api/v1/users?search=a&cursor=${cursor}>; rel="next"`

test('the cursor of the next page is taken from the header', () => {
  expect(nextCursor(answer(linkTo('W1%3D')))).toBe('W1=')
})

test('the last page has none', () => {
  expect(nextCursor(answer())).toBeUndefined()
  expect(nextCursor(answer('<https://data.example.org/help>; rel="help"'))).toBeUndefined()
})

test('a list is read to its end', async () => {
  const pages = new Map([
    [undefined, { data: [1, 2], response: answer(linkTo('two')) }],
    ['two', { data: [3], response: answer(linkTo('three')) }],
    ['three', { data: [], response: answer() }],
  ])
  expect(await readPages(async (cursor) => pages.get(cursor as undefined)!)).toEqual([1, 2, 3])
})
