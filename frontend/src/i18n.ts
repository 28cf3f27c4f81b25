/** English and German; a language is fetched when it is wanted. Keys are `area.name`, one catalogue per area. */
import { nextTick } from 'vue'
import { createI18n } from 'vue-i18n'
import { learnSentences } from './lib/refusals'
import en from './locales/en'

export const LOCALES = { en: 'English', de: 'Deutsch' } as const
export type Locale = keyof typeof LOCALES
const STORED = 'datameta.locale'

export const i18n = createI18n({
  legacy: false,
  locale: 'en',
  fallbackLocale: 'en',
  messages: { en },
  missingWarn: false,
})

/** The language the reader chose last, or else that of the browser. */
export function startLocale(): Locale {
  const wanted = [localStorage.getItem(STORED), ...navigator.languages.map((name) => name.slice(0, 2))]
  return wanted.find((name): name is Locale => name !== null && name in LOCALES) ?? 'en'
}

export async function setLocale(locale: Locale, isChoice = false): Promise<void> {
  if (locale === 'de' && !i18n.global.availableLocales.includes('de' as never)) {
    const [messages, sentences] = await Promise.all([
      import('./locales/de'),
      import('./locales/sentences.de.json'),
    ])
    i18n.global.setLocaleMessage('de' as never, messages.default as never)
    learnSentences(sentences.default)
  }
  i18n.global.locale.value = locale as never
  document.documentElement.lang = locale
  if (isChoice) localStorage.setItem(STORED, locale)
  await nextTick()
}

/** Translate outside of components. */
export const t = i18n.global.t as (
  key: string,
  values?: Record<string, unknown> | number,
  count?: number,
) => string
