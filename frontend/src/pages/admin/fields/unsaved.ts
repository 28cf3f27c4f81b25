/** Who leaves a page with changes that are not saved is asked first. */
import { onBeforeUnmount, onMounted } from 'vue'
import { onBeforeRouteLeave, onBeforeRouteUpdate } from 'vue-router'
import { confirm } from '@/confirm'
import { t } from '@/i18n'
import { current } from '@/session'

export function useUnsaved(isDirty: () => boolean): void {
  // Whoever has signed out can save nothing any more.
  const mayLeave = () => !current.session || !isDirty() || ask()
  onBeforeRouteLeave(mayLeave)
  onBeforeRouteUpdate((to, from) => to.path === from.path || mayLeave())
  const warn = (event: BeforeUnloadEvent) => {
    if (current.session && isDirty()) event.preventDefault()
  }
  onMounted(() => window.addEventListener('beforeunload', warn))
  onBeforeUnmount(() => window.removeEventListener('beforeunload', warn))
}

function ask(): Promise<boolean> {
  return confirm({
    title: t('adminfields.leave.title'),
    text: t('adminfields.leave.text'),
    action: t('adminfields.leave.action'),
    isDangerous: true,
  })
}
