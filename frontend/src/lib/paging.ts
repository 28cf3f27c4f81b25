/** Where a list goes on: the API says so in the header `Link`. */

/** Return the cursor of the next page, or undefined at the end. */
export function nextCursor(response: Response): string | undefined {
  const address = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('Link') ?? '')?.[1]
  return (address && new URL(address, 'http://portal').searchParams.get('cursor')) || undefined
}

/** Read a list to its end; `read` gets one page, from a cursor on. */
export async function readPages<T>(
  read: (cursor?: string) => Promise<{ data?: T[]; response: Response }>,
): Promise<T[]> {
  const items: T[] = []
  let cursor: string | undefined
  do {
    const { data, response } = await read(cursor)
    items.push(...(data ?? []))
    cursor = nextCursor(response)
  } while (cursor)
  return items
}
