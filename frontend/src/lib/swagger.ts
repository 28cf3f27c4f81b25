/**
 * Swagger UI, from the files that the portal serves to its own explorer at /api/v1/. That page names their addresses,
 * which change with their content.
 */
import { PREFIX } from '@/api/client'

export interface SwaggerRequest {
  loadSpec?: boolean
  method?: string
  headers: Record<string, string>
}

export interface SwaggerUi {
  preauthorizeApiKey(scheme: string, key: string): void
  authActions: { logout(schemes: string[]): void }
}

type Start = (options: Record<string, unknown>) => SwaggerUi
type Scheme = { has(name: string): boolean }
type Schemes = { filter(keep: (scheme: Scheme) => boolean): Schemes }

declare global {
  interface Window {
    SwaggerUIBundle?: Start
  }
}

/** No page can set the session's cookie: who has signed in needs not authorise here. */
export const withoutCookieAuth = {
  statePlugins: {
    auth: {
      wrapSelectors: {
        definitionsToAuthorize: (list: (state: unknown) => Schemes) => (state: unknown) =>
          list(state).filter((scheme) => !scheme.has('cookieAuth')),
      },
    },
  },
}

interface System {
  React: { createElement(type: unknown, properties: object | null, ...children: unknown[]): unknown }
}
type Component = (properties: Record<string, unknown>) => unknown

/** The path of an operation is no link inside a button, and the field of a request's body has a name. */
export function accessible({ React }: System) {
  const DeepLink: Component = ({ text }) => React.createElement('span', null, text)
  const nameTextArea =
    (Original: unknown): Component =>
    (properties) =>
      React.createElement(Original, { 'aria-label': 'Request body', ...properties })
  return { components: { DeepLink }, wrapComponents: { TextArea: nameTextArea } }
}

/** Fetch script and styles; `unload` takes the styles away again. Throws what went wrong. */
export async function loadSwagger(): Promise<{ start: Start; unload: () => void }> {
  const { script, styles } = await findFiles()
  const link = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: styles })
  const source = Object.assign(document.createElement('script'), { src: script })
  await Promise.all([load(link), window.SwaggerUIBundle ? undefined : load(source)])
  return { start: window.SwaggerUIBundle!, unload: () => link.remove() }
}

async function findFiles(): Promise<{ script: string; styles: string }> {
  const response = await fetch(`${PREFIX}/`)
  const page = new DOMParser().parseFromString(await response.text(), 'text/html')
  const find = (selector: string, attribute: string) =>
    new URL(page.querySelector(selector)!.getAttribute(attribute)!, response.url).href
  return {
    script: find('script[src*="swagger-ui-bundle.js"]', 'src'),
    styles: find('link[href*="swagger-ui.css"]', 'href'),
  }
}

function load(element: HTMLElement): Promise<void> {
  return new Promise((resolve, reject) => {
    element.onload = () => resolve()
    element.onerror = () => {
      element.remove()
      reject(new Error('The explorer could not be loaded.'))
    }
    document.head.append(element)
  })
}
