/* Counting what is expected of calls; all cases run, and those that fail are told. */

#ifndef EXPECT_H
#define EXPECT_H

#include <stdio.h>

#include <halfbyte.h>

static int n_cases, n_failures;

static void expect_at(const char *file, int line, const char *call, hb_status expected, hb_status found)
{
    n_cases++;
    if (found != expected) {
        n_failures++;
        fprintf(stderr, "%s:%d: %s\n  gave %s, not %s; %s\n", file, line, call,
                hb_status_name(found), hb_status_name(expected), hb_last_error());
    }
}

#define EXPECT(expected, call) expect_at(__FILE__, __LINE__, #call, (expected), (call))

/* A fact as a case. */
#define HOLDS(fact) expect_at(__FILE__, __LINE__, #fact, HB_OK, (fact) ? HB_OK : HB_INTERNAL)

static inline int summary(const char *what)
{
    printf("%s: %d cases, %d failed\n", what, n_cases, n_failures);
    return n_failures == 0 ? 0 : 1;
}

#endif
