/** The cursor of the next page of a list, from the answer's Link header; null on the last. */
export function nextCursor(response: Response): string | null {
  const address = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('Link') ?? '')?.[1]
  return address ? new URL(address, 'http://portal').searchParams.get('cursor') : null
}
