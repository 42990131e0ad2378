/*
 * The page cache of source files: what of a range is there, bringing it in, dropping it.
 * Ranges lie within the file. Any thread; nothing here takes a lock.
 */
#ifndef FS_PAGECACHE_H
#define FS_PAGECACHE_H

#include <stdint.h>

#include "source.h"

/* How many bytes of the range are cached; those on their way count. 0, or with no bytes
 * -ENOSYS or -EPERM: the kernel tells only who owns the file. */
MUST_CHECK int pagecache_count(const struct source_file *file, uint64_t from,
			       uint64_t len, uint64_t *bytes);

/* Whether the page of one byte is there and was read. Where it is not, the kernel may
 * begin to read it. For where pagecache_count() does not tell. */
bool pagecache_has(const struct source_file *file, uint64_t at);

/* Asks the kernel to read the range, and does not wait. It reads as much as it likes. */
void pagecache_ask(const struct source_file *file, uint64_t from, uint64_t len);

/* Waits until all of the range is there, and reads what nobody asked for. 0, or -EIO (it
 * cannot be read, or the file was cut). */
MUST_CHECK int pagecache_wait(const struct source_file *file, uint64_t from,
			      uint64_t len);

/* Drops whole pages within the range. Those that are mapped elsewhere or dirty stay. */
void pagecache_drop(const struct source_file *file, uint64_t from, uint64_t len);

#endif
