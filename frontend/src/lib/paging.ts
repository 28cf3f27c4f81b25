/** Where a list goes on: the API says so in the header `Link`. */

/** Return the cursor of the next page, or undefined at the end. */
export function nextCursor(response: Response): string | undefined {
  const address = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('Link') ?? '')?.[1]
  return (address && new URL(address, 'http://portal').searchParams.get('cursor')) || undefined
}
