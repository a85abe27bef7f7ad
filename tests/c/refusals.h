/* How a wrong argument is refused: its status, its sentence, and that not one byte of the outputs changed. */
#ifndef REFUSALS_H
#define REFUSALS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static fixture f;
static int failures;
static unsigned char before[sizeof(outputs)];

static void fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    ++failures;
}

/* The outputs as some forward left them, so that a backward may read them: peaks inside the map. */
static void begin(void) {
    set_up(&f);
    memset(&f.out, 0xA5, sizeof f.out);
    memset(f.out.peak, 0, sizeof f.out.peak);
    memset(f.out.cell, 0, sizeof f.out.cell);
    memset(f.out.index_a, 0, sizeof f.out.index_a);
    memset(f.out.index_b, 0, sizeof f.out.index_b);
}

static void expect(const char *file, int line, simplematch_status status, simplematch_status wanted, const char *words) {
    const char *message = simplematch_error_message();
    if (status != wanted) {
        fprintf(stderr, "%s:%d: status %d instead of %d (\"%s\")\n", file, line, (int)status, (int)wanted, message);
        ++failures;
        return;
    }
    if (strstr(message, words) == NULL) {
        fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", file, line, message, words);
        ++failures;
    }
    if (memcmp(before, &f.out, sizeof f.out) != 0) fail(file, line, "outputs changed");
}

/* After the statement `spoil`, `call` refuses with these words. */
#define REFUSES_AS(status, spoil, call, words)                  \
    do {                                                        \
        begin();                                                \
        spoil;                                                  \
        memcpy(before, &f.out, sizeof before);                  \
        expect(__FILE__, __LINE__, (call), (status), (words));  \
    } while (0)
#define REFUSES(spoil, call, words) REFUSES_AS(SIMPLEMATCH_INVALID_ARGUMENT, spoil, call, words)

#define ACCEPTS(spoil, call)                                                                     \
    do {                                                                                         \
        begin();                                                                                 \
        spoil;                                                                                   \
        if ((call) != SIMPLEMATCH_OK) fail(__FILE__, __LINE__, simplematch_error_message());     \
    } while (0)

#endif
