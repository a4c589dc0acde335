/* How things are shown: quoted names, JSON, sizes, times, modes. */
#include "cli.h"

#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

/* ---- names ---- */

/* Length of the UTF-8 character at s, 0 when it is none: no overlong form, no surrogate, nothing past U+10FFFF. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
	uint32_t c = s[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

bool cli_is_utf8(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_length((const unsigned char *)s + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

/* How many bytes of s a terminal may be sent as they are: one character, 0 if it is a control or no character. */
static size_t printable(const unsigned char *s, size_t left)
{
	size_t n = utf8_length(s, left);

	if (n == 1 && (s[0] < 0x20 || s[0] == 0x7f))
		return 0;
	if (n == 2 && s[0] == 0xc2 && s[1] < 0xa0) /* the C1 controls */
		return 0;
	return n;
}

/* Writes the escape of one byte into buf, which has room for 5; returns its length. */
static size_t escape_byte(char *buf, unsigned char c)
{
	const char *at;

	if (c && (at = strchr("\nn\tt\rr\033e", c)) && (at - "\nn\tt\rr\033e") % 2 == 0)
		return (size_t)snprintf(buf, 5, "\\%c", at[1]);
	return (size_t)snprintf(buf, 5, "\\x%02x", c);
}

const char *cli_quote(const char *s)
{
	enum { TEXTS = 4, ROOM = 4 * KVFS_KEY_MAX + 16 };
	static char texts[TEXTS][ROOM];
	static unsigned turn;
	char *buf = texts[turn++ % TEXTS];
	size_t len = strlen(s), at = 1;

	buf[0] = '\'';
	for (size_t i = 0, n; i < len; i += n) {
		if (at > ROOM - 12) { /* arguments may be longer than any key */
			memcpy(buf + at, "...", 3);
			at += 3;
			break;
		}
		n = printable((const unsigned char *)s + i, len - i);
		if (n == 1 && (s[i] == '\\' || s[i] == '\''))
			buf[at++] = '\\';
		if (n) {
			memcpy(buf + at, s + i, n);
			at += n;
		} else {
			at += escape_byte(buf + at, (unsigned char)s[i]);
			n = 1;
		}
	}
	buf[at++] = '\'';
	buf[at] = '\0';
	return buf;
}

void cli_print_shell(FILE *out, const char *s)
{
	size_t len = strlen(s), n;
	bool odd = len == 0, escapes = false;

	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = printable((const unsigned char *)s + i, len - i);
		escapes |= n == 0;
		odd |= n == 1 && !isalnum((unsigned char)s[i]) && !strchr("%+,-./:=@_", s[i]);
	}
	if (!odd && !escapes) {
		fputs(s, out);
		return;
	}
	fputs(escapes ? "$'" : "'", out);
	for (size_t i = 0; i < len; i += n) {
		char buf[5] = "";

		n = printable((const unsigned char *)s + i, len - i);
		if (n == 0) {
			escape_byte(buf, (unsigned char)s[i]);
			fputs(buf, out);
			n = 1;
		} else if (s[i] == '\'') {
			fputs(escapes ? "\\'" : "'\\''", out);
		} else if (s[i] == '\\' && escapes) {
			fputs("\\\\", out);
		} else {
			fwrite(s + i, 1, n, out);
		}
	}
	fputc('\'', out);
}

/* ---- JSON ---- */

void cli_json_begin(struct cli_json *j, FILE *out)
{
	j->out = out;
	j->first = true;
	fputc('{', out);
}

void cli_json_end(struct cli_json *j)
{
	fputc('}', j->out);
}

void cli_json_name(struct cli_json *j, const char *name)
{
	fprintf(j->out, "%s\"%s\":", j->first ? "" : ",", name);
	j->first = false;
}

void cli_json_base64(FILE *out, const void *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *s = data;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)s[i] << 16 | (i + 1 < len ? (uint32_t)s[i + 1] << 8 : 0) | (i + 2 < len ? s[i + 2] : 0u);

		fputc(digits[v >> 18], out);
		fputc(digits[v >> 12 & 63], out);
		fputc(i + 1 < len ? digits[v >> 6 & 63] : '=', out);
		fputc(i + 2 < len ? digits[v & 63] : '=', out);
	}
}

void cli_json_text(FILE *out, const char *s, size_t len)
{
	for (size_t i = 0, plain; i < len; i++) {
		unsigned char c;

		for (plain = i; i < len && (c = (unsigned char)s[i]) >= 0x20 && c != '"' && c != '\\' && c != 0x7f; i++)
			;
		fwrite(s + plain, 1, i - plain, out);
		if (i == len)
			return;
		c = (unsigned char)s[i];
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", out);
		else if (c == '\t')
			fputs("\\t", out);
		else
			fprintf(out, "\\u%04x", c);
	}
}

void cli_json_string(struct cli_json *j, const char *name, const char *s)
{
	size_t len = strlen(s);

	if (!cli_is_utf8(s, len)) {
		fprintf(j->out, "%s\"%s_base64\":\"", j->first ? "" : ",", name);
		j->first = false;
		cli_json_base64(j->out, s, len);
		fputc('"', j->out);
		return;
	}
	cli_json_name(j, name);
	fputc('"', j->out);
	cli_json_text(j->out, s, len);
	fputc('"', j->out);
}

void cli_json_uint(struct cli_json *j, const char *name, uint64_t v)
{
	cli_json_name(j, name);
	fprintf(j->out, "%ju", (uintmax_t)v);
}

void cli_json_time(struct cli_json *j, const char *name, struct timespec t)
{
	struct tm tm;
	char buf[40];

	cli_json_name(j, name);
	if (!gmtime_r(&t.tv_sec, &tm) || strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		fputs("null", j->out);
	else
		fprintf(j->out, "\"%s.%09ldZ\"", buf, t.tv_nsec);
}

/* ---- values ---- */

struct cli_text cli_human(uint64_t bytes)
{
	static const char units[] = "\0KMGTPE";
	struct cli_text t;
	unsigned unit = 0;
	uint64_t whole = bytes, tenths;

	/* Rounded up, as ls and df do: a size never looks smaller than it is. */
	while (whole >= 1024 && unit < sizeof(units) - 2)
		whole /= 1024, unit++;
	if (unit == 0) {
		snprintf(t.s, sizeof(t.s), "%ju", (uintmax_t)bytes);
		return t;
	}
	for (;;) {
		uint64_t one = 1ull << (10 * unit), rest = bytes % one;

		tenths = bytes / one * 10 + (rest / (one / 1024) * 10 + (rest % (one / 1024) != 0) * 1 + 1023) / 1024;
		if (tenths < 10240 || unit >= sizeof(units) - 2)
			break;
		unit++;
	}
	if (tenths < 100)
		snprintf(t.s, sizeof(t.s), "%ju.%ju%c", (uintmax_t)(tenths / 10), (uintmax_t)(tenths % 10), units[unit]);
	else
		snprintf(t.s, sizeof(t.s), "%ju%c", (uintmax_t)((tenths + 9) / 10), units[unit]);
	return t;
}

struct cli_text cli_time(struct timespec t, bool ns)
{
	struct cli_text text;
	struct tm tm;
	char zone[8];
	size_t n;

	if (!localtime_r(&t.tv_sec, &tm)) {
		snprintf(text.s, sizeof(text.s), "%jd", (intmax_t)t.tv_sec);
		return text;
	}
	n = strftime(text.s, sizeof(text.s), ns ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%d %H:%M", &tm);
	if (ns && strftime(zone, sizeof(zone), "%z", &tm))
		snprintf(text.s + n, sizeof(text.s) - n, ".%09ld %s", t.tv_nsec, zone);
	return text;
}

struct cli_text cli_mode(uint32_t mode)
{
	static const char bits[] = "rwxrwxrwx";
	struct cli_text t;

	t.s[0] = S_ISDIR(mode)    ? 'd'
		 : S_ISLNK(mode)  ? 'l'
		 : S_ISFIFO(mode) ? 'p'
		 : S_ISSOCK(mode) ? 's'
		 : S_ISCHR(mode)  ? 'c'
		 : S_ISBLK(mode)  ? 'b'
				  : '-';
	for (int i = 0; i < 9; i++)
		t.s[1 + i] = mode & (0400u >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		t.s[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		t.s[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		t.s[9] = mode & S_IXOTH ? 't' : 'T';
	t.s[10] = '\0';
	return t;
}

const char *cli_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "value";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char device";
	case S_IFBLK:
		return "block device";
	default:
		return "unknown";
	}
}

/* One name is remembered each: a list has the same owner over and over, and a look-up may ask a network. */
const char *cli_user(uint32_t uid)
{
	static char name[64];
	static uint32_t known;

	if (!name[0] || known != uid) {
		struct passwd *pw = getpwuid(uid);

		if (pw)
			snprintf(name, sizeof(name), "%s", pw->pw_name);
		else
			snprintf(name, sizeof(name), "%u", uid);
		known = uid;
	}
	return name;
}

const char *cli_group(uint32_t gid)
{
	static char name[64];
	static uint32_t known;

	if (!name[0] || known != gid) {
		struct group *gr = getgrgid(gid);

		if (gr)
			snprintf(name, sizeof(name), "%s", gr->gr_name);
		else
			snprintf(name, sizeof(name), "%u", gid);
		known = gid;
	}
	return name;
}
