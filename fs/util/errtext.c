#include "util/errtext.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 128

const char *errtext(int err)
{
	static _Thread_local char text[TEXT_MAX];
	const char *words = strerrordesc_np(err < 0 ? -err : err);

	if (!words) {
		(void)snprintf(text, sizeof(text), "error %d", err);
		return text;
	}
	(void)snprintf(text, sizeof(text), "%s", words);
	/* "No such file" begins a sentence, "RPC ..." is a word of its own. */
	if (text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z')
		text[0] = (char)(text[0] - 'A' + 'a');
	return text;
}
