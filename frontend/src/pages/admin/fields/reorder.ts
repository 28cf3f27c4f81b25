/** Items of a list are dragged by a handle, with a mouse, a finger or a pen; Escape puts back what was dragged. */
import { onScopeDispose, ref, type Ref } from 'vue'

/** How near to the edge of the window the page begins to scroll. */
const EDGE = 80
const SCROLL = 14

/**
 * `shift` moves an item at once, while it is dragged; `done` is called when it is let go at another place.
 * Returns the place of what is being dragged, and what a handle does when it is pressed.
 */
export function useReorder(
  list: Ref<HTMLElement | null>,
  shift: (from: number, to: number) => void,
  done: (from: number, to: number) => void,
) {
  const dragged = ref<number | null>(null)
  let start = 0

  function grab(event: PointerEvent, place: number) {
    if (event.button !== 0) return
    start = dragged.value = place
    window.addEventListener('pointermove', follow)
    window.addEventListener('pointerup', drop)
    window.addEventListener('pointercancel', putBack)
    window.addEventListener('keydown', listen)
  }

  function follow(event: PointerEvent) {
    if (dragged.value === null || !list.value) return
    if (event.clientY < EDGE) window.scrollBy(0, -SCROLL)
    else if (event.clientY > window.innerHeight - EDGE) window.scrollBy(0, SCROLL)
    const middles = [...list.value.children].map((item) => {
      const { top, height } = item.getBoundingClientRect()
      return top + height / 2
    })
    carry(findPlace(middles, dragged.value, event.clientY))
  }

  function carry(to: number) {
    if (dragged.value === null || dragged.value === to) return
    shift(dragged.value, to)
    dragged.value = to
  }

  function drop() {
    const place = dragged.value
    release()
    if (place !== null && place !== start) done(start, place)
  }

  function putBack() {
    carry(start)
    release()
  }

  function listen(event: KeyboardEvent) {
    if (event.key === 'Escape') putBack()
  }

  function release() {
    dragged.value = null
    window.removeEventListener('pointermove', follow)
    window.removeEventListener('pointerup', drop)
    window.removeEventListener('pointercancel', putBack)
    window.removeEventListener('keydown', listen)
  }

  onScopeDispose(release)
  return { dragged, grab }
}

/** Return where what is dragged belongs: behind all others whose middle is above the pointer. */
export function findPlace(middles: readonly number[], dragged: number, y: number): number {
  return middles.filter((middle, place) => place !== dragged && middle < y).length
}
