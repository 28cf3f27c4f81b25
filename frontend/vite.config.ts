import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import VueI18n from '@intlify/unplugin-vue-i18n/vite'
import vue from '@vitejs/plugin-vue'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

const OUTPUT = resolve(import.meta.dirname, '../datameta/web/portal')

/** Lay a .br and a .gz beside each file that a browser would rather have compressed. */
function compress(): Plugin {
  return {
    name: 'compress',
    apply: 'build',
    closeBundle() {
      for (const name of readdirSync(OUTPUT, { recursive: true, encoding: 'utf8' })) {
        const path = join(OUTPUT, name)
        if (!/\.(js|css|svg|wasm)$/.test(name) || statSync(path).size < 1024) continue
        const content = readFileSync(path)
        writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }))
        writeFileSync(
          `${path}.br`,
          brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }),
        )
      }
    },
  }
}

/** A script of its own that is run before the page is painted: the policy allows none in the page. */
function first(): Plugin {
  return {
    name: 'first',
    apply: 'build',
    buildStart() {
      const source = readFileSync(resolve(import.meta.dirname, 'src/first.js'))
      this.emitFile({ type: 'asset', name: 'first.js', source })
    },
    transformIndexHtml: {
      order: 'post',
      handler(_, { bundle }) {
        const path = Object.keys(bundle!).find((name) => /\/first-[^/]+\.js$/.test(name))
        return [{ tag: 'script', attrs: { src: `/${path}` }, injectTo: 'head' }]
      },
    },
  }
}

export default defineConfig({
  plugins: [
    vue(),
    // Texts are compiled here: the browser's policy allows no evaluation of code.
    VueI18n({ include: resolve(import.meta.dirname, 'src/locales/*/**'), runtimeOnly: true }),
    first(),
    compress(),
  ],
  resolve: { alias: { '@': resolve(import.meta.dirname, 'src') } },
  define: { __VUE_OPTIONS_API__: false, __INTLIFY_JIT_COMPILATION__: false },
  build: {
    outDir: OUTPUT,
    emptyOutDir: true,
    target: 'es2022',
    // An address of data: would be refused by the policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
  server: { proxy: { '/api': 'http://127.0.0.1:8080' } },
  // A machine that has much to do is no failure.
  test: { environment: 'happy-dom', include: ['src/**/*.test.ts'], testTimeout: 60_000 },
})
