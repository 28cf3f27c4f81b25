import { createApp } from 'vue'
import App from './App.vue'
import { i18n, setLocale, startLocale } from './i18n'
import { router } from './router'
import { loadSession } from './session'
import { loadSite } from './site'
import './style.css'

await Promise.all([setLocale(startLocale()), loadSession(), loadSite()])
createApp(App).use(i18n).use(router).mount('#app')
