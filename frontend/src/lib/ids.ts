import type { components } from '@/api/schema'

/** The id that people read, in addresses too; what has none has a UUID only. */
export const idOf = (id: components['schemas']['Identifier']) => id.site ?? id.uuid
