/*
 * With hardly any memory left: large allocations fail with a status, and the process lives.
 *
 *     memory quick|MODEL
 *
 * MODEL is a file with a SentencePiece vocabulary. "quick" is for observers such as valgrind, which
 * need memory of their own: nothing is tested then.
 */

#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

static const char *path;

/* Elsewhere addresses are not limited, or nobody says how many there are. */
#ifdef __linux__

enum { MEGABYTE = 1 << 20 };

static hb_model *model;
static hb_session *session;

/* Lets this process have so many more bytes than it has now. */
static int limit_to(size_t more)
{
    struct rlimit limit;
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%zu", &pages) != 1) return -1;
    fclose(file);
    limit.rlim_cur = limit.rlim_max = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    return setrlimit(RLIMIT_AS, &limit);
}

/* Whether there is a model with a session, and then so many more bytes. */
static int open_and_limit_to(size_t more)
{
    return hb_model_open(NULL, NULL, &model) == HB_OK && hb_session_new(model, &session) == HB_OK
        && limit_to(more) == 0;
}

static int go_on(const hb_piece *piece, void *user_data)
{
    (void)piece, (void)user_data;
    return 0;
}

static hb_status generate(const char *prompt, uint64_t n, uint32_t *finish_reason)
{
    hb_generation_report report = {0};
    hb_generation_options options;
    hb_status status = hb_generation_options_init(&options, sizeof options);
    options.max_new_tokens = n;
    options.ignore_eos = 1;
    report.size = sizeof report;
    if (status == HB_OK) status = hb_generate(session, prompt, &options, go_on, NULL, &report);
    *finish_reason = report.finish_reason;
    return status;
}

/* What opening with so many threads gives, where one with one thread was freed and left its stack. */
static hb_status opened_again(uint32_t threads, size_t more)
{
    const struct timespec moment = {0, 100000000};
    hb_model_options opening = {0};
    opening.size = sizeof opening;
    opening.threads = 1;
    if (hb_model_open(NULL, &opening, &model) != HB_OK || hb_model_free(model) != HB_OK) return -1;
    nanosleep(&moment, NULL);
    opening.threads = threads;
    return limit_to(more) == 0 ? hb_model_open(NULL, &opening, &model) : -1;
}

static hb_status no_weights(void)
{
    return opened_again(1, MEGABYTE);
}

/* Four threads a core, whose stacks have two megabytes each. */
static hb_status no_stacks(void)
{
    const hb_status found = opened_again(1024, 3 * MEGABYTE);
    return strstr(hb_last_error(), "thread") != NULL ? found : -1;
}

static hb_status no_keys_and_values(void)
{
    static char long_prompt[1500];
    uint32_t reason, later;
    hb_status found;
    while (strlen(long_prompt) + 16 < sizeof long_prompt) strcat(long_prompt, "The cat sat. ");
    if (!open_and_limit_to(2 * MEGABYTE)) return -1;
    found = generate(long_prompt, 4, &reason);
    /* The session is as good as before. */
    return reason == HB_FINISH_FAILED && generate("Once", 4, &later) == HB_OK ? found : -1;
}

static hb_status no_logits(void)
{
    enum { N = 400 };
    static uint32_t tokens[N];
    float *logits;
    size_t n = 0;
    if (!open_and_limit_to(64 * MEGABYTE)) return -1;
    if (hb_logits(model, tokens, N, NULL, NULL, 0, &n) != HB_OK) return -1;
    logits = malloc(n * sizeof *logits);
    if (logits == NULL || limit_to(MEGABYTE / 4) != 0) return -1;
    return hb_logits(model, tokens, N, NULL, logits, n, &n);
}

/* A text that could be tokenized if there were memory for it. */
static hb_status no_tokens(void)
{
    enum { N = 4 * MEGABYTE };
    static char text[N];
    size_t n = 0;
    memset(text, 'a', N - 1);
    if (hb_model_open(path, NULL, &model) != HB_OK || limit_to(32 * MEGABYTE) != 0) return -1;
    return hb_tokenize(model, text, 0, NULL, 0, &n);
}

/* No stack for the thread that a template runs on. */
static hb_status no_template(void)
{
    static const char template[] = "{{ messages[0].content }}";
    const hb_message message = {"user", "Hi"};
    size_t n = 0;
    if (!open_and_limit_to(MEGABYTE)) return -1;
    return hb_apply_chat_template(model, template, &message, 1, 1, NULL, 0, &n);
}

/* A session is written without a second copy of it in memory, where there is no room for one. */
static hb_status saved(void)
{
    uint32_t reason;
    hb_session *again;
    hb_status found;
    if (!open_and_limit_to(256 * MEGABYTE) || generate("Once", 900, &reason) != HB_OK) return -1;
    if (limit_to(MEGABYTE / 2) != 0 || hb_session_save(session, "memory.session") != HB_OK) return -1;
    found = hb_session_load(model, "memory.session", &again);
    return remove("memory.session") == 0 ? found : -1;
}

/* Each in a child, whose limit goes with it. */
static void no_memory(void)
{
    hb_status (*const bodies[])(void) = {no_weights, no_stacks,   no_keys_and_values, no_logits,
                                         no_tokens,  no_template, saved};
    size_t i;
    for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        int status = -1;
        const pid_t child = fork();
        if (child == 0) _exit(bodies[i]());
        HOLDS(waitpid(child, &status, 0) == child && WIFEXITED(status));
        EXPECT(HB_OUT_OF_MEMORY, WEXITSTATUS(status));
    }
}

#else

static void no_memory(void) {}

#endif

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    path = argv[1];
    if (strcmp(path, "quick") != 0) no_memory();
    return summary("memory");
}
