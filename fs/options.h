/* What a user may say with -o. The table in options.c is the one place that knows the
 * names. */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hugetmpfs.h"
#include "parsers/diag.h"
#include "placement.h"

/* Where the bytes of tensors come from: fs/backing.h. */
enum backing_choice {
	BACKING_AUTO,
	BACKING_STREAM,
	BACKING_CLONE,
	BACKING_RESIDENT,
	BACKING_CHOICE_COUNT,
};

struct options {
	bool allow_other;
	uid_t uid;
	gid_t gid;
	unsigned int threads;     /* at most this many serve requests at a time */
	uint64_t readahead_bytes; /* the kernel reads so far ahead in a mapped or read
				     file */
	enum backing_choice backing;
	uint64_t resident_limit; /* bytes that resident tensors may take */
	enum huge_pages huge_pages;
	struct placement_choice numa; /* where memory lies */
	bool drop_source_cache;       /* what was read of the source */
	bool prediction;              /* what is used next is brought in ahead */
	char profile[PATH_MAX];       /* file of a profile to predict by; "" for none */
	bool push; /* pages to a client that reads in order, ahead of it */
	const char
		*format; /* of the source; NULL: by content. Points to a static string. */
	unsigned long ms_flags; /* nosuid, noexec, ... for mount(2) */
};

void options_init(struct options *options);

/* Takes one -o argument ("a,b=c,..."). 0, or -EINVAL with words that name the valid
 * options or values. */
MUST_CHECK int options_parse(struct options *options, const char *text,
			     struct diag *diag);

/* The names of all options, for --help. */
void options_list(char *text, size_t size);

const char *options_backing_name(enum backing_choice choice);

#endif
