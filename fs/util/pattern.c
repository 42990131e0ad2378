#include "util/pattern.h"

#include <fnmatch.h>
#include <string.h>

const char *pattern_subject(struct strbuf *scratch, const char *name, size_t len)
{
	char *nul;

	scratch->len = 0;
	strbuf_add(scratch, name, len);
	if (scratch->err || !scratch->data)
		return NULL;
	while ((nul = memchr(scratch->data, '\0', len)))
		*nul = '\1';
	return scratch->data;
}

bool pattern_matches(const char *pattern, const char *subject)
{
	return fnmatch(pattern, subject, 0) == 0;
}
