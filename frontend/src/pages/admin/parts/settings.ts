/** The site's settings: where each belongs, and by what it is edited. */
import type { Schemas } from '@/api/client'
import { i18n, t } from '@/i18n'

export type Setting = Schemas['AppSettingsResponse']
export const AREAS = ['branding', 'registration', 'security', 'limits', 'mails', 'other'] as const
export type Area = (typeof AREAS)[number]
export type Editor =
  | 'switch'
  | 'bytes'
  | 'colour'
  | 'logo'
  | 'lines'
  | 'line'
  | 'email'
  | 'url'
  | 'int'
  | 'float'
  | 'date'
  | 'time'

const EDITORS: Record<string, Editor> = {
  site_welcome: 'lines',
  site_notice: 'lines',
  user_agreement: 'lines',
  site_color: 'colour',
  site_logo: 'logo',
  site_imprint: 'url',
  support_email: 'email',
  mail_sender: 'email',
  registration_open: 'switch',
  second_factor_required: 'switch',
}
const BRANDING = /^(site_|support_email$)/
const REGISTRATION = /^(registration_|user_agreement$)/
const SECURITY = /^(password_|second_factor_|session_|welcome_token_|api_key_)/
const MAIL = /^mail_(\w+)_(subject|body)$/

export function areaOf(key: string): Area {
  if (key.startsWith('mail_')) return 'mails'
  if (BRANDING.test(key)) return 'branding'
  if (REGISTRATION.test(key)) return 'registration'
  if (SECURITY.test(key)) return 'security'
  return key.startsWith('quota_') ? 'limits' : 'other'
}

export function editorOf({ key, valueType }: Pick<Setting, 'key' | 'valueType'>): Editor {
  if (valueType === 'int') return key.endsWith('_bytes') ? 'bytes' : (EDITORS[key] ?? 'int')
  if (valueType !== 'string') return valueType
  return EDITORS[key] ?? (MAIL.exec(key)?.[2] === 'body' ? 'lines' : 'line')
}

/** Return which mail a setting is part of, if any. */
export const mailOf = (key: string): string | undefined => MAIL.exec(key)?.[1]

/** Return the names that a mail may use, from what its text's setting says of itself. */
export const placeholdersIn = (description: string | null | undefined): string[] =>
  description?.match(/\{[a-z_]+\}/g) ?? []

const has = (key: string) => i18n.global.te(key as never)

/** Return a setting's name in words; one that nobody has given words to has its key. */
export function labelOf(key: string): string {
  const [, kind, part] = MAIL.exec(key) ?? []
  if (kind) return `${mailName(kind)}: ${t(`adminsite.settings.${part === 'body' ? 'text' : part}`)}`
  const text = `adminsite.settings.labels.${key}`
  return has(text) ? t(text) : key
}

/** Say what a setting is for; of a mail its name says it. */
export function hintOf(setting: Setting): string {
  if (mailOf(setting.key)) return ''
  const text = `adminsite.settings.hints.${setting.key}`
  return has(text) ? t(text) : (setting.description ?? '')
}

export function mailName(kind: string): string {
  const text = `adminsite.mails.${kind}`
  return has(text) ? t(text) : kind
}
