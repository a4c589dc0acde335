/* In the place of libFuzzer: runs the target once for each file that is named, and says how many there were.  The last file named on
 * standard output is the one that ended it, if something did. */
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static FILE *out; /* the target's own output goes elsewhere */
static unsigned long inputs;

static void replay_file(const char *path)
{
	FILE *in = fopen(path, "rb");
	struct stat st;
	if (!in || fstat(fileno(in), &st)) {
		perror(path);
		exit(2);
	}
	/* exactly as long as it is, so that reading past it is seen */
	uint8_t *data = malloc((size_t)st.st_size + !st.st_size);
	size_t len = fread(data, 1, (size_t)st.st_size, in);
	fclose(in);
	fprintf(out, "%s\n", path);
	fflush(out);
	LLVMFuzzerTestOneInput(data, len);
	free(data);
	inputs++;
}

int main(int argc, char **argv)
{
	out = fdopen(dup(STDOUT_FILENO), "w");
	if (!out || !freopen("/dev/null", "w", stdout))
		return 2;
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		replay_file(argv[i]);
	fprintf(out, "%lu inputs\n", inputs);
	return fclose(out) == 0 ? 0 : 2;
}
