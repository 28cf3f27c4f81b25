/** Light, dark, or as the system: the reader's choice is kept in the browser, where first.js finds it. */
import { computed, ref, watchEffect } from 'vue'

export const SCHEMES = ['auto', 'light', 'dark'] as const
export type Scheme = (typeof SCHEMES)[number]
const STORED = 'datameta.scheme'
const stored = localStorage.getItem(STORED) as Scheme | null
export const scheme = ref<Scheme>(stored && SCHEMES.includes(stored) ? stored : 'auto')

const system = window.matchMedia('(prefers-color-scheme: dark)')
const isSystemDark = ref(system.matches)
system.addEventListener('change', () => (isSystemDark.value = system.matches))

/** Whether the page is dark now, for what is not ours and has colours of its own. */
export const isDark = computed(() => (scheme.value === 'auto' ? isSystemDark.value : scheme.value === 'dark'))

watchEffect(() => {
  document.documentElement.dataset.scheme = scheme.value
  localStorage.setItem(STORED, scheme.value)
})
