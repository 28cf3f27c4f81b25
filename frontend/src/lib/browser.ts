/** What a browser calls itself, in two words. */
const BROWSERS: [RegExp, string][] = [
  [/\bEdgA?\//, 'Edge'],
  [/\bOPR\//, 'Opera'],
  [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/\b(Firefox|FxiOS)\//, 'Firefox'],
  [/\b(Headless)?(Chrome|CriOS)\//, 'Chrome'],
  [/\bSafari\//, 'Safari'],
]
const SYSTEMS: [RegExp, string][] = [
  [/\bAndroid\b/, 'Android'],
  [/\b(iPhone|iPad)\b/, 'iOS'],
  [/\bWindows\b/, 'Windows'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bMac OS X\b/, 'macOS'],
  [/\bLinux\b/, 'Linux'],
]

export interface Described {
  browser: string
  system?: string
}

/** Null if it said nothing; a program that is no browser by its own first word. */
export function describeAgent(agent: string | null): Described | null {
  if (!agent?.trim()) return null
  const find = (kinds: [RegExp, string][]) => kinds.find(([pattern]) => pattern.test(agent))?.[1]
  const browser = find(BROWSERS)
  return browser
    ? { browser, system: find(SYSTEMS) }
    : { browser: agent.trim().split(/[\s/]/)[0]!.slice(0, 60) }
}
