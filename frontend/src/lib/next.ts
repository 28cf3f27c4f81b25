/** Where to go on after signing in: only to a path of ours ("//elsewhere" and "/\elsewhere" are none). */
export function ownPath(wanted: unknown, otherwise = '/'): string {
  return typeof wanted === 'string' && /^\/(?![/\\])/.test(wanted) ? wanted : otherwise
}
