/* What a target of libFuzzer is: an input that ends badly ends the program. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a store that stays open has noted of its pages hangs in memory that is mapped, where LeakSanitizer does not look. */
const char *__lsan_default_suppressions(void);
__attribute__((weak)) const char *__lsan_default_suppressions(void)
{
	return "leak:part_of\n";
}

/* Unlike assert(), never compiled out; its line is in the stack that the sanitizer shows. */
#define must(condition)                                                                                                            \
	do {                                                                                                                       \
		if (!(condition)) {                                                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
			abort();                                                                                                   \
		}                                                                                                                  \
	} while (0)

#endif
