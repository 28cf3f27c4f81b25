/** A site's logo from a picture: small enough to stand in the answer that every page begins with. */

export const MAX_LOGO_BYTES = 64 * 1024
export const LOGO_TYPES = ['image/png', 'image/jpeg', 'image/webp']
const HEIGHTS = [160, 96, 56]

/** Why a picture can't be a logo. */
export class LogoError extends Error {
  constructor(readonly reason: 'type' | 'broken' | 'size') {
    super(reason)
  }
}

/** Return a data: address, and whether the picture was made smaller for it. Throws `LogoError`. */
export async function readLogo(file: File): Promise<{ url: string; isSmaller: boolean }> {
  if (!LOGO_TYPES.includes(file.type)) throw new LogoError('type')
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new LogoError('broken')
  })
  if (file.size <= MAX_LOGO_BYTES) return { url: await toUrl(file), isSmaller: false }
  for (const height of HEIGHTS.filter((height) => height < bitmap.height)) {
    const canvas = document.createElement('canvas')
    canvas.height = height
    canvas.width = Math.max(1, Math.round((bitmap.width * height) / bitmap.height))
    canvas.getContext('2d')!.drawImage(bitmap, 0, 0, canvas.width, height)
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'))
    if (blob && blob.size <= MAX_LOGO_BYTES) return { url: await toUrl(blob), isSmaller: true }
  }
  throw new LogoError('size')
}

function toUrl(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.onload = () => resolve(reader.result as string)
    reader.onerror = () => reject(new LogoError('broken'))
    reader.readAsDataURL(blob)
  })
}
