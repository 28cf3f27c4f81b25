import type { components } from '@/api/schema'

/** The id that people read, in addresses too; what has none has a UUID only. */
export const idOf = (id: components['schemas']['Identifier']) => id.site ?? id.uuid

/** A key by which a repeated request gets the answer of the first one; a page without HTTPS has no `randomUUID`. */
export function makeKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('')
}
