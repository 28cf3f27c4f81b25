/** What the portal says of itself to everybody: its name, its colour, how files are sent. */
import { reactive, readonly } from 'vue'
import type { components } from '@/api/schema'

export type Site = components['schemas']['SiteResponse']
const state = reactive({ value: null as Site | null })
export const site = readonly(state) as { readonly value: Site | null }

export async function loadSite(): Promise<void> {
  try {
    const response = await fetch('/api/v1/site')
    if (response.ok) state.value = (await response.json()) as Site
  } catch {
    // The page then says so at its first call.
  }
  document.title = state.value?.name ?? 'DataMeta'
}
