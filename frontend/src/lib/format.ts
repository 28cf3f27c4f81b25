/** Times, sizes and numbers in the reader's form. */
import { i18n } from '@/i18n'

/** The page's language as it is written where the reader is: an English page has British dates for a British browser. */
const locale = () => {
  const language = i18n.global.locale.value as string
  return navigator.languages.find((name) => name.startsWith(language)) ?? language
}

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone

export function formatTime(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(iso))
}

export function formatDate(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'medium' }).format(new Date(iso))
}

/** A month that is written as 2026-11. */
export function formatMonth(month: string): string {
  const [year, number] = month.split('-').map(Number)
  const format = new Intl.DateTimeFormat(locale(), { month: 'short', year: 'numeric' })
  return format.format(new Date(year!, number! - 1))
}

export function formatNumber(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value)
}

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'] as const

/** Decimal units, as disks and networks are sold. */
export function formatSize(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length - 1)
  const value = bytes / 1000 ** power
  return new Intl.NumberFormat(locale(), {
    style: 'unit',
    unit: UNITS[power],
    unitDisplay: power ? 'short' : 'long',
    maximumFractionDigits: value < 10 && power > 0 ? 1 : 0,
  }).format(value)
}

/** A duration that remains, in at most two units. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60]
  const show = (value: number, unit: string) =>
    new Intl.NumberFormat(locale(), { style: 'unit', unit, unitDisplay: 'short' }).format(value)
  if (hours) return `${show(hours, 'hour')} ${show(minutes, 'minute')}`
  return minutes ? `${show(minutes, 'minute')} ${show(rest, 'second')}` : show(rest, 'second')
}
