/** The files of a drop, also those in folders; hidden ones are left out there. To be called while the event is handled. */
export async function filesOf(data: DataTransfer): Promise<File[]> {
  const items = [...data.items].filter((item) => item.kind === 'file')
  // Both must be asked for now: afterwards the browser has forgotten them.
  const dropped = items.map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }))
  const found = await Promise.all(
    dropped.map(({ entry, file }) => (entry?.isDirectory ? walk(entry as FileSystemDirectoryEntry) : file)),
  )
  return found.flat().filter((file) => file !== null)
}

async function walk(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader()
  const files: File[] = []
  for (;;) {
    // A reader gives a hundred at a time.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    )
    if (!entries.length) return files
    for (const entry of entries.filter(({ name }) => !name.startsWith('.'))) {
      if (entry.isDirectory) files.push(...(await walk(entry as FileSystemDirectoryEntry)))
      else
        files.push(
          await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)),
        )
    }
  }
}
