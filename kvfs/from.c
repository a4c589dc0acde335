/* Sources of records: what they have in common. */
#include "from.h"

#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct kvfs_typed from_bytes(const void *data, size_t len)
{
	return (struct kvfs_typed){.kind = cli_is_utf8(data, len) ? KVFS_TYPED_STR : KVFS_TYPED_BYTES, .data = data, .len = len};
}

int from_fail(struct from *from, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(from->why, sizeof(from->why), fmt, ap);
	va_end(ap);
	return ret;
}

int from_text_open(struct from *from, struct from_text *text)
{
	struct stat st;

	*text = (struct from_text){.line = 1};
	text->in = strcmp(from->file, "-") == 0 ? stdin : fopen(from->file, "re");
	if (!text->in || fstat(fileno(text->in), &st) < 0)
		return from_fail(from, FROM_FAILED, "%s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return from_fail(from, FROM_FAILED, "%s", strerror(EISDIR));
	if (S_ISREG(st.st_mode))
		from->total_bytes = (uint64_t)st.st_size;
	return 0;
}

size_t from_text_tell(struct from_text *text, void *buf, size_t cap)
{
	const uint64_t place[2] = {text->offset, text->line};

	if (cap < sizeof(place) || ftello(text->in) < 0)
		return 0;
	memcpy(buf, place, sizeof(place));
	return sizeof(place);
}

bool from_text_seek(struct from_text *text, const void *buf, size_t len)
{
	uint64_t place[2];

	if (len != sizeof(place))
		return false;
	memcpy(place, buf, sizeof(place));
	if (fseeko(text->in, (off_t)place[0], SEEK_SET) < 0)
		return false;
	text->offset = place[0];
	text->line = place[1];
	return true;
}

void from_text_close(struct from_text *text)
{
	if (text->in && text->in != stdin)
		fclose(text->in);
	free(text->buf);
}

bool from_text_add(struct from_text *text, int c)
{
	if (text->len == text->cap) {
		size_t cap = text->cap ? 2 * text->cap : 4096;
		char *buf = text->len < FROM_RECORD_MAX ? realloc(text->buf, cap) : NULL;

		if (!buf)
			return false;
		text->buf = buf;
		text->cap = cap;
	}
	text->buf[text->len++] = (char)c;
	return true;
}
