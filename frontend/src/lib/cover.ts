/**
 * Bars that stay at an edge of the window lie over what is there. What gets the focus is scrolled out from under them:
 * the page's scroll padding is as high as they are.
 */
import { onBeforeUnmount, onMounted, type Ref } from 'vue'

type Edge = 'top' | 'bottom'

/** Between the bar and what has the focus: its outline is seen, too. */
const GAP = 8

/** How much of the window is covered, in pixels. */
export const covered: Record<Edge, number> = { top: 0, bottom: 0 }

/** Keep account of a bar; while it is narrow enough to stand in the page as anything else, it covers nothing. */
export function useCover(bar: Ref<HTMLElement | null>, edge: Edge): void {
  function cover(height: number) {
    if (covered[edge] === height) return
    covered[edge] = height
    document.documentElement.style.setProperty(`scroll-padding-${edge}`, `${height}px`)
  }
  const observer = new ResizeObserver(() => {
    const { position, [edge]: offset } = getComputedStyle(bar.value!)
    cover(position === 'sticky' ? bar.value!.offsetHeight + parseFloat(offset) + GAP : 0)
  })
  onMounted(() => observer.observe(bar.value!))
  onBeforeUnmount(() => {
    observer.disconnect()
    cover(0)
  })
}
